"""The parallel pass over single-frame chunks against repeated steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState

NUM_FRAMES = 9


def causal(config: SanaWMConfig, **changes: Any) -> SanaWMConfig:
    return dataclasses.replace(
        config,
        chunk_size=1,
        chunk_split="uniform",
        num_cached_chunks=3,
        plucker_first_group="repeat",
        **changes,
    )


def camera_of(
    scene: Any, config: SanaWMConfig, moving: bool
) -> tuple[CameraCondition, torch.Tensor | None]:
    arguments = {"config": config, **scene.geometry}
    if moving:
        camera, transport = moving_camera(scene.raw_poses, scene.intrinsics_px, **arguments)
    else:
        camera, transport = clip_camera(scene.raw_poses, scene.intrinsics_px, **arguments), None
    if config.warp_condition:
        camera = dataclasses.replace(camera, warped=torch.randn_like(scene.x))
    return camera, transport


def run_steps(
    network: SanaWM, scene: Any, camera: CameraCondition, transport: torch.Tensor | None
) -> tuple[torch.Tensor, list[SanaWMState], SanaWMState]:
    """Velocities, states before each frame, state after the last."""
    text = scene.text(network)
    state = network.initial_state(scene.x.shape[0], *scene.x.shape[3:])
    outputs, before = [], []
    for i in range(scene.x.shape[2]):
        if transport is not None:
            state = state.reanchor(transport[:, i])
        before.append(state)
        velocity, state = network.step(
            scene.x[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
            camera.frames(i, i + 1), state, update_state=True,
        )  # fmt: skip
        outputs.append(velocity)
    return torch.cat(outputs, dim=2), before, state


@pytest.mark.parametrize(
    ("sink", "moving"),
    [("none", False), ("none", True), ("fixed", False), ("fixed", True), ("shifted", True)],
)
@pytest.mark.parametrize("warped", [False, True])
@torch.no_grad()
def test_unroll_equals_repeated_steps(
    sink: str,
    moving: bool,
    warped: bool,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    changes = {"warp_condition": warped, "prediction": "x_0" if warped else "velocity"}
    changes["shifted_sink"] = sink == "shifted"
    network = make_network(causal(tiny, sink=sink != "none", **changes))
    scene = make_scene(network.config, NUM_FRAMES)
    camera, transport = camera_of(scene, network.config, moving)
    text = scene.text(network)
    expected, before, after = run_steps(network, scene, camera, transport)
    state = network.initial_state(2, 3, 4)
    got = network.unroll(scene.x, scene.timestep, text, camera, state, transport=transport)
    assert relative_error(got.velocity, expected) < 1e-5
    for name, tensor in got.state_after.tensors().items():
        wanted = after.tensors()[name]
        torch.testing.assert_close(tensor, wanted, atol=1e-5, rtol=1e-4)
    # Another input, read by all states at once and by each state in turn.
    noisy = torch.randn_like(scene.x)
    rows = noisy.transpose(1, 2).flatten(0, 1)[:, :, None]
    at_once, _ = network.step(
        rows, scene.timestep.flatten()[:, None], text, camera.frames_as_rows(),
        got.states_before, update_state=False,
    )  # fmt: skip
    in_turn = [
        network.step(
            noisy[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
            camera.frames(i, i + 1), before[i], update_state=False,
        )[0]
        for i in range(NUM_FRAMES)
    ]  # fmt: skip
    at_once = at_once[:, :, 0].unflatten(0, (2, NUM_FRAMES)).transpose(1, 2)
    assert relative_error(at_once, torch.cat(in_turn, dim=2)) < 1e-5
    index = torch.stack([x.frame_index for x in before], dim=1)
    assert torch.equal(got.states_before.frame_index, index.flatten())


@torch.no_grad()
def test_a_shifted_sink_looks_the_same_however_far_one_drives(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    """The first frame's keys stay in place while those of the sliding part follow the camera."""
    network = make_network(
        causal(tiny, softmax_every_n=1, sink=True, shifted_sink=True), dtype=torch.float64
    )
    scene = make_scene(network.config, NUM_FRAMES)
    camera, transport = camera_of(scene, network.config, True)
    _, before, after = run_steps(network, scene, camera, transport)
    first, last = before[1].blocks[0].attention, after.blocks[0].attention
    for name in ("key", "value", "camera_key", "camera_value"):
        assert torch.equal(getattr(last, name)[:, 0], getattr(first, name)[:, 0]), name
    written = before[1].blocks[0].attention.key[:, -1]
    assert not torch.allclose(first.key[:, 0], written), "not set apart from the frame it was"


def test_a_shifted_sink_needs_an_origin_that_moves(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(causal(tiny, sink=True, shifted_sink=True))
    scene = make_scene(network.config, NUM_FRAMES)
    camera, _ = camera_of(scene, network.config, False)
    state = network.initial_state(2, 3, 4)
    with pytest.raises(ValueError, match="shifted_sink"):
        network.unroll(scene.x, scene.timestep, scene.text(network), camera, state)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("cut", [1, 4])
@torch.no_grad()
def test_two_unrolls_in_a_row_equal_one(
    cut: int,
    shifted: bool,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(causal(tiny, sink=True, shifted_sink=shifted))
    scene = make_scene(network.config, NUM_FRAMES)
    text, state = scene.text(network), network.initial_state(2, 3, 4)
    arguments = {"config": network.config, **scene.geometry}
    camera, transport = moving_camera(scene.raw_poses, scene.intrinsics_px, **arguments)
    expected = network.unroll(scene.x, scene.timestep, text, camera, state, transport=transport)
    stride = network.config.temporal_stride
    seen = stride * (cut - 1) + 1
    first, move = moving_camera(scene.raw_poses[:, :seen], scene.intrinsics_px, **arguments)
    half = network.unroll(
        scene.x[:, :, :cut], scene.timestep[:, :cut], text, first, state, transport=move
    )
    second, move = moving_camera(
        scene.raw_poses[:, seen:],
        scene.intrinsics_px,
        **arguments,
        last_pose=scene.raw_poses[:, seen - 1],
        # The last frame's origin: the raw pose before its group.
        state_origin=scene.raw_poses[:, max(seen - 1 - stride, 0)],
    )
    rest = network.unroll(
        scene.x[:, :, cut:], scene.timestep[:, cut:], text, second, half.state_after,
        transport=move,
    )  # fmt: skip
    whole = torch.cat([half.velocity, rest.velocity], dim=2)
    assert relative_error(whole, expected.velocity) < 1e-5


def test_gradients_of_unroll_equal_those_of_steps(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    """Through the states as well: a noisy copy reads what the clean pass wrote."""
    network = make_network(causal(tiny, sink=False), dtype=torch.float64)
    scene = make_scene(network.config, 5, dtype=torch.float64)
    camera, transport = camera_of(scene, network.config, True)
    assert transport is not None
    noisy = torch.randn_like(scene.x)
    gradients = []
    for at_once in (True, False):
        network.zero_grad()
        text = scene.text(network)
        if at_once:
            state = network.initial_state(2, 3, 4)
            clean = network.unroll(
                scene.x, scene.timestep, text, camera, state, transport=transport
            )
            velocity, _ = network.step(
                noisy.transpose(1, 2).flatten(0, 1)[:, :, None],
                scene.timestep.flatten()[:, None], text, camera.frames_as_rows(),
                clean.states_before, update_state=False,
            )  # fmt: skip
            loss = velocity.square().sum() + clean.velocity.sum()
        else:
            out, before, _ = run_steps(network, scene, camera, transport)
            loss = out.sum()
            for i in range(5):
                velocity, _ = network.step(
                    noisy[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
                    camera.frames(i, i + 1), before[i], update_state=False,
                )  # fmt: skip
                loss = loss + velocity.square().sum()
        loss.backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        scale = gradients[1][name].abs().max().clamp_min(1e-9)
        assert (gradient - gradients[1][name]).abs().max() < 1e-6 * scale, name


def test_unroll_refuses_longer_chunks(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(tiny)
    scene = make_scene(tiny, 4)
    camera, _ = camera_of(scene, tiny, False)
    state = network.initial_state(2, 3, 4)
    with pytest.raises(ValueError, match="uniform chunks of 1"):
        network.unroll(scene.x, scene.timestep, scene.text(network), camera, state)
