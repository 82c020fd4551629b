"""The fused form of network and autoencoder: the numbers of the readable form, in every variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel import SanaWM, SanaWMConfig, VideoAutoencoder, WorldModel
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoderConfig
from sanawm_gym.worldmodel.backend import choose_engine
from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.engine import StreamNetwork
from sanawm_gym.worldmodel.fused import FusedAutoencoder, FusedNetwork
from sanawm_gym.worldmodel.state import SanaWMState

NUM_FRAMES = 5
ROWS = 2
VARIANTS: dict[str, dict[str, Any]] = {
    "no sink": {"num_cached_chunks": 3, "sink": False},
    "sink": {"num_cached_chunks": 3},
    "shifted sink": {"num_cached_chunks": 3, "shifted_sink": True},
    "no window": {"num_cached_chunks": 0, "sink": False},
    "as bundled": {
        "num_cached_chunks": 4,
        "shifted_sink": True,
        "softmax_camera_scale": "head_dim",
        "warp_condition": True,
        "prediction": "x_0",
    },
    "no plucker": {"plucker": False},
    "all gdn": {"softmax_every_n": 0},
    "all softmax": {"softmax_every_n": 1, "num_cached_chunks": 3},
    "odd heads": {"hidden_size": 72, "num_attention_heads": 3, "key_scale_mode": "dim"},
    "one tap": {"conv_kernel_size": 1},
}


def streaming(config: SanaWMConfig, **changes: Any) -> SanaWMConfig:
    single = {"chunk_size": 1, "chunk_split": "uniform", "plucker_first_group": "repeat"}
    return dataclasses.replace(config, **(single | changes))


@dataclasses.dataclass(frozen=True)
class Frame:
    """What a network is given at one step of a stream."""

    x: Tensor
    camera: CameraCondition
    transport: Tensor
    text: TextContext


def frames_of(network: SanaWM, scene: Any) -> Iterator[Frame]:
    """The scene frame by frame, each in its own origin, for a network of single-frame chunks."""
    camera, transport = moving_camera(
        scene.raw_poses, scene.intrinsics_px, config=network.config, **scene.geometry
    )
    if network.config.warp_condition:
        camera = dataclasses.replace(camera, warped=torch.randn_like(scene.x).float())
    text = scene.text(network)
    for i in range(scene.x.shape[2]):
        yield Frame(scene.x[:, :, i : i + 1], camera.frames(i, i + 1), transport[:, i], text)


def noise_level(frame: Frame, level: float) -> Tensor:
    return torch.full((len(frame.x), 1), level)


def compare(
    network: SanaWM,
    other: StreamNetwork,
    scene: Any,
    error: Callable[[Tensor, Tensor], float],
) -> dict[str, float]:
    """Largest relative differences over a stream that the readable network leads."""
    state = network.initial_state(len(scene.x), *scene.x.shape[-2:])
    worst = {"velocity": 0.0, "features": 0.0, "memory": 0.0}
    for frame in frames_of(network, scene):
        state = state.reanchor(frame.transport)
        for level in (1000.0, 600.0):
            pair = [
                form.step(
                    frame.x, noise_level(frame, level), frame.text, frame.camera, state,
                    update_state=False,
                )[0]
                for form in (network, other)
            ]  # fmt: skip
            worst["velocity"] = max(worst["velocity"], error(pair[1], pair[0]))
        features, after = network.remember(frame.x, frame.text, frame.camera, state)
        seen, stepped = other.remember(frame.x, frame.text, frame.camera, state)
        worst["features"] = max(worst["features"], error(seen, features))
        for name, tensor in after.tensors().items():
            found = stepped.tensors()[name]
            assert found.dtype == tensor.dtype and found.shape == tensor.shape, name
            if tensor.numel():  # a window may have no slots
                worst["memory"] = max(worst["memory"], error(found, tensor))
        state = after
    return worst


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_fused_stream_equals_the_readable_one(
    variant: str,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(streaming(tiny, **VARIANTS[variant]))
    scene = make_scene(network.config, NUM_FRAMES, num_clips=ROWS)
    worst = compare(network, FusedNetwork(network), scene, relative_error)
    assert max(worst.values()) < 1e-5, worst


@pytest.mark.parametrize("exportable", [False, True])
@torch.no_grad()
def test_one_prompt_and_many_give_the_same_numbers(
    exportable: bool,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(streaming(tiny, num_cached_chunks=3))
    scene = make_scene(network.config, 3, num_clips=1)
    fused = FusedNetwork(network, exportable=exportable)
    worst = compare(network, fused, scene, relative_error)
    assert max(worst.values()) < 1e-5, worst


@torch.no_grad()
def test_bfloat16_rounds_no_worse_than_the_readable_network_does(
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    config = streaming(tiny, num_cached_chunks=3)
    exact, rough = make_network(config), make_network(config, dtype=torch.bfloat16)
    fused = FusedNetwork(rough)
    errors: dict[str, list[float]] = {"plain": [], "fused": []}
    for seed in range(4):
        scene = make_scene(config, 1, seed=seed)
        (frame,) = frames_of(exact, scene)
        (rounded,) = frames_of(rough, dataclasses.replace(scene, features=scene.features))
        state = exact.initial_state(ROWS, 3, 4)
        expected = velocity(exact, frame, state)
        state = rough.initial_state(ROWS, 3, 4)
        for name, form in (("plain", rough), ("fused", fused)):
            errors[name].append(relative_error(velocity(form, rounded, state).float(), expected))
    assert np.mean(errors["fused"]) < 1.2 * np.mean(errors["plain"]), errors


def velocity(form: StreamNetwork, frame: Frame, state: SanaWMState) -> Tensor:
    level = noise_level(frame, 1000.0)
    return form.step(frame.x, level, frame.text, frame.camera, state, update_state=False)[0]


@torch.no_grad()
def test_what_was_kept_for_one_state_is_not_used_for_another(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(streaming(tiny, num_cached_chunks=3))
    fused = FusedNetwork(network)
    scenes = [make_scene(network.config, 1, seed=seed) for seed in (0, 1)]
    frames = [next(frames_of(network, scene)) for scene in scenes]
    state = network.initial_state(ROWS, 3, 4)
    _, later = fused.remember(frames[0].x, frames[0].text, frames[0].camera, state)
    first = velocity(fused, frames[0], state)
    for frame, other in ((frames[1], state), (frames[0], later)):
        assert not torch.equal(velocity(fused, frame, other), first)
        assert torch.equal(velocity(fused, frames[0], state), first)


@torch.no_grad()
def test_a_camera_that_is_not_told_is_refused_rather_than_told(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(streaming(tiny, num_cached_chunks=3))
    fused, state = FusedNetwork(network), network.initial_state(ROWS, 3, 4)
    frame = next(frames_of(network, make_scene(network.config, 1)))
    expected = velocity(fused, frame, state)
    known = dataclasses.replace(frame.camera, known=torch.ones(ROWS, dtype=torch.bool))
    all_told = dataclasses.replace(frame, camera=known)
    assert torch.equal(velocity(fused, all_told, state), expected)
    one_told = dataclasses.replace(frame.camera, known=torch.arange(ROWS) == 0)
    untold = dataclasses.replace(frame, camera=one_told)
    assert not torch.equal(velocity(network, untold, state), velocity(network, frame, state))
    with pytest.raises(ValueError, match="camera the network is not told"):
        velocity(fused, untold, state)
    with pytest.raises(ValueError, match="use backend='plain'"):
        fused.remember(frame.x, frame.text, one_told, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_fused_autoencoder_equals_the_readable_one(
    dtype: torch.dtype, relative_error: Callable[..., float]
) -> None:
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(
        VideoAutoencoderConfig(latent_channels=5, fine_channels=24, coarse_channels=16)
    )
    for parameter in autoencoder.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    autoencoder.latents_mean += torch.randn(5)
    autoencoder.latents_std += torch.rand(5)
    autoencoder = autoencoder.to(dtype)
    fused = FusedAutoencoder(autoencoder)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    pictures = torch.rand(ROWS, 3, 4, 24, 40) * 2 - 1
    expected = autoencoder.encode_group(pictures)
    assert relative_error(fused.encode_group(pictures), expected) < tolerance
    latents = torch.randn(ROWS, 5, 4, 3, 5)
    _, memory = autoencoder.decode_step(latents[:, :, :1], None)
    kept = memory
    for i in range(1, 4):
        drawn, memory = autoencoder.decode_step(latents[:, :, i : i + 1], memory)
        again, kept = fused.decode_step(latents[:, :, i : i + 1], kept)
        assert relative_error(again, drawn) < tolerance
        for got, left in zip(kept, memory, strict=True):
            assert relative_error(got, left) < tolerance


def test_a_network_with_unknown_parts_is_stepped_plainly(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM]
) -> None:
    autoencoder = VideoAutoencoder(VideoAutoencoderConfig(fine_channels=8, coarse_channels=8))
    clamped = make_network(streaming(tiny, ucpe_rms_clamp_gdn=True))
    assert choose_engine(clamped, autoencoder).network is clamped
    with pytest.raises(ValueError, match="with clamped rays, expected one that the fused form"):
        choose_engine(clamped, autoencoder, "fused")
    assert choose_engine(make_network(streaming(tiny)), autoencoder).backend == "fused"


def test_the_world_draws_the_same_pictures_with_either_form(world: str) -> None:
    from tests.worldmodel.test_world import begin, drive

    drawn = []
    for backend in ("plain", "fused"):
        model = WorldModel.from_pretrained(world, dtype="float32", backend=backend)
        assert model.engine.backend == backend
        frames, state = drive(model, begin(model, world, ["road-0", "road-1"], [3, 8]), 5)
        drawn.append((frames.astype(int), state.latent))
    assert np.abs(drawn[0][0] - drawn[1][0]).max() <= 1
    assert float((drawn[0][1] - drawn[1][1]).abs().max()) < 1e-5


def test_an_unknown_backend_is_refused_with_what_there_is(world: str) -> None:
    with pytest.raises(ValueError, match=r"backend: got 'turbo', expected one of \['auto'"):
        WorldModel.from_pretrained(world, backend="turbo")
    with pytest.raises(ValueError, match="'fused' with device 'cuda', expected the device 'cpu'"):
        WorldModel.from_pretrained(world, backend="fused", device="cuda")
