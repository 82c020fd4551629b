"""Recorded chunks against plain ones, and what a recording may rely on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.frame_pass import build_pass
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.graphs import GraphRecorder, PlainRecorder, StaticStep
from sanawm_gym.worldmodel.official.leaves import put_together, take_apart, tensors_of
from sanawm_gym.worldmodel.official.sampling import STREAMING
from sanawm_gym.worldmodel.official.speed import draw_trimmed, lay_out
from sanawm_gym.worldmodel.state import SanaWMState

SAMPLING = dataclasses.replace(STREAMING, timesteps=(1000.0,))
NUM_FRAMES = 13
"""Four chunks: the first one, one that fills the window, two alike."""

Drawn = list[tuple[Tensor, SanaWMState]]


@pytest.fixture
def network(tiny: SanaWMConfig, make_network: Callable[..., SanaWM]) -> SanaWM:
    return make_network(dataclasses.replace(tiny, num_layers=2)).requires_grad_(False)


@pytest.fixture
def scene(network: SanaWM, make_scene: Callable[..., Any]) -> Any:
    return make_scene(network.config, NUM_FRAMES, grid=(2, 2), num_clips=1)


def chunks_of(network: SanaWM, scene: Any) -> list[tuple[Tensor, CameraCondition]]:
    camera = clip_camera(
        scene.raw_poses, scene.intrinsics_px, config=network.config, **scene.geometry
    )
    sizes = chunk_sizes(NUM_FRAMES, network.config, "chunk_causal")
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    spans = zip([0, *ends], ends, strict=False)
    return [(scene.x[:, :, a:b], camera.frames(a, b)) for a, b in spans]


def drawn(
    draw: Any, network: SanaWM, scene: Any, device: str = "cpu", count: int | None = None
) -> Drawn:
    """The first chunks of a stream, all of its states kept."""
    text = scene.text(network).to(device)
    state = network.initial_state(1, *scene.x.shape[-2:], device=device)
    found: Drawn = []
    for i, (noise, camera) in enumerate(chunks_of(network, scene)[:count]):
        given = noise[:, :, :1].to(device) if i == 0 else None
        memory = dataclasses.replace(state, filled=i >= 2)
        x, state = draw(
            network, [noise.to(device)], given, text, camera.to(device), memory, SAMPLING
        )
        found.append((x, state))
    return found


def assert_same(got: Drawn, expected: Drawn) -> None:
    for (x, state), (want, memory) in zip(got, expected, strict=True):
        assert torch.equal(x, want)
        tensors = memory.tensors()
        assert all(torch.equal(t, tensors[name]) for name, t in state.tensors().items())


def test_recorded_chunks_are_the_plain_ones_and_stay_what_they_were(
    network: SanaWM, scene: Any
) -> None:
    expected = drawn(draw_trimmed, network, scene)
    for _, state in expected:
        kept = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors_of(state)}
        assert sum(storage.nbytes() for storage in kept.values()) == state.num_bytes
    # Everything is compared after the last call: no later one may write into an earlier result.
    at_once = StaticStep(draw_trimmed, PlainRecorder(), plain_calls=0)
    got = drawn(at_once, network, scene)
    assert_same(got, expected)
    # The first chunk, the second with a mask, full windows; of the first two there was one each.
    assert at_once.num_recordings == 3
    later = StaticStep(draw_trimmed, PlainRecorder(), plain_calls=1)
    assert_same(drawn(later, network, scene), expected)
    assert later.num_recordings == 1
    # The same memory goes on in two ways.
    noise, camera = chunks_of(network, scene)[3]
    begun = dataclasses.replace(got[2][1], filled=True)
    here = (None, scene.text(network), camera, begun, SAMPLING)
    other, _ = at_once(network, [noise + 1], *here)
    again, _ = at_once(network, [noise], *here)
    assert torch.equal(again, expected[3][0])
    assert (again - other).abs().max() > 1e-3


def test_recordings_share_where_they_read_and_old_ones_go() -> None:
    step = StaticStep(lambda x, scale: x * scale + 1, PlainRecorder(), plain_calls=0, most=2)
    x = torch.arange(3.0)
    for scale in (2, 3, 4, 2):
        assert torch.equal(step(x, scale), x * scale + 1)
        assert step.num_recordings <= 2
    places = {tape.inputs[0].data_ptr() for tape in step._tapes.values()}
    assert len(places) == 1
    longer = torch.ones(4)
    assert torch.equal(step(longer, 2), longer * 2 + 1)
    with pytest.raises(ValueError, match="expected at least 0 and 1"):
        StaticStep(torch.clone, PlainRecorder(), most=0)


def test_values_come_back_from_their_tensors(network: SanaWM, scene: Any) -> None:
    state = network.initial_state(1, 2, 2)
    value = (state, [scene.text(network), None], chunks_of(network, scene)[0][1], "word", 0.5)
    tensors, frame = take_apart(value)
    others = [torch.ones_like(t) for t in tensors]
    back = put_together(iter(others), frame)
    assert all(one is two for one, two in zip(tensors_of(back), others, strict=True))
    assert back[0].config is network.config and back[3:] == ("word", 0.5)
    assert hash(take_apart(back)[1]) == hash(frame) and take_apart(back)[1] == frame
    assert take_apart(dataclasses.replace(state, filled=True))[1] != take_apart(state)[1]
    with pytest.raises(TypeError, match="got a dict"):
        take_apart({"a": torch.ones(1)})


class _NothingFromTheHost(TorchDispatchMode):
    """Fails where a GPU would have to wait for the host, or the host for it."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        # A single number travels with the kernel that uses it; a list of them has to be copied.
        asks = name.startswith(self.FORBIDDEN) or (name == "lift_fresh" and args[0].ndim > 0)
        assert not asks, f"{name} cannot be recorded"
        return func(*args, **(kwargs or {}))


def test_a_chunk_can_be_recorded_since_it_asks_the_host_nothing(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    with pytest.raises(AssertionError, match="lift_fresh"), _NothingFromTheHost():
        torch.ones(1).new_tensor([0.0, 1.0])
    config = dataclasses.replace(tiny, num_layers=2, camera_unit_m=1.0, rope_dtype="float64")
    network = make_network(config).requires_grad_(False)
    scene = make_scene(config, NUM_FRAMES, grid=(2, 2), num_clips=1)
    calls = []

    def watched(*arguments: Any) -> Any:
        with _NothingFromTheHost():
            calls.append(arguments)
            return draw_trimmed(*arguments)

    drawn(watched, network, scene)
    assert len(calls) == 4


def test_full_windows_need_no_mask(network: SanaWM, scene: Any) -> None:
    after = drawn(draw_trimmed, network, scene, count=3)[2][1]
    noise, camera = chunks_of(network, scene)[3]
    here = ([noise], None, scene.text(network), camera)
    unsaid, said = (dataclasses.replace(after, filled=word) for word in (False, True))
    masked, _ = draw_trimmed(network, *here, unsaid, SAMPLING)
    plain, _ = draw_trimmed(network, *here, said, SAMPLING)
    torch.testing.assert_close(plain, masked, atol=1e-6, rtol=1e-5)
    passes = [
        build_pass(noise, camera, network.config, (3,), state=state) for state in (unsaid, said)
    ]
    assert passes[0].visible is not None and bool(passes[0].visible.all())
    assert passes[1].visible is None
    assert not type(after).concat([unsaid, said]).filled and type(after).concat([said, said]).filled


def test_laid_out_weights_are_the_same_weights(network: SanaWM, scene: Any) -> None:
    expected = drawn(draw_trimmed, network, scene, count=1)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    lay_out(network)
    taps = network.blocks[0].mlp.t_conv.weight[..., 0].unbind(-1)
    assert all(tap.is_contiguous() for tap in taps)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    again = drawn(draw_trimmed, network, scene, count=1)
    for (x, _), (want, _) in zip(again, expected, strict=True):
        torch.testing.assert_close(x, want, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
def test_a_cuda_graph_draws_what_the_plain_path_draws(network: SanaWM, scene: Any) -> None:
    torch.use_deterministic_algorithms(False)
    network, device = network.to("cuda"), "cuda"
    scene = dataclasses.replace(scene, features=scene.features.cuda(), mask=scene.mask.cuda())
    expected = drawn(draw_trimmed, network, scene, device)
    step = StaticStep(draw_trimmed, GraphRecorder(torch.device(device)), plain_calls=0)
    for _ in range(2):
        for (x, state), (want, memory) in zip(
            drawn(step, network, scene, device), expected, strict=True
        ):
            torch.testing.assert_close(x, want, atol=1e-5, rtol=1e-5)
            for one, other in zip(tensors_of(state), tensors_of(memory), strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert step.num_recordings == 3
