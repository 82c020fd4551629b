"""A stream with a state against the clip forms, and what the state promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sanawm_gym.worldmodel.camera_condition import clip_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import SANA_WM_2B6, ChunkSplit, SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState


def stream(
    network: SanaWM, scene: Any, *, first: int = 0, state: SanaWMState | None = None
) -> tuple[torch.Tensor, SanaWMState]:
    """Run a scene chunk by chunk from chunk `first` on."""
    config = network.config
    sizes = chunk_sizes(scene.x.shape[2], config, "chunk_causal")
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    text = scene.text(network)
    if state is None:
        state = network.initial_state(scene.x.shape[0], *scene.x.shape[3:])
    outputs, start = [], sum(sizes[:first])
    for size in sizes[first:]:
        frames = slice(start, start + size)
        inputs = scene.x[:, :, frames], scene.timestep[:, frames], text
        here = camera.frames(start, start + size)
        read, same = network.step(*inputs, here, state, update_state=False)
        assert same is state
        velocity, state = network.step(*inputs, here, state, update_state=True)
        torch.testing.assert_close(velocity, read)
        outputs.append(velocity)
        start += size
    return torch.cat(outputs, dim=2), state


@pytest.mark.parametrize(
    ("split", "chunk_size"), [("first_chunk_plus_one", 3), ("uniform", 2), ("uniform", 1)]
)
@torch.no_grad()
def test_stream_equals_chunk_causal_clip_over_forty_chunks(
    split: ChunkSplit,
    chunk_size: int,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    config = dataclasses.replace(
        tiny, chunk_split=split, chunk_size=chunk_size, num_cached_chunks=-1
    )
    network = make_network(config)
    scene = make_scene(config, config.first_chunk_size + 39 * chunk_size, grid=(2, 3), metres=0.2)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    expected = network(scene.x, scene.timestep, scene.text(network), camera, mode="chunk_causal")
    got, state = stream(network, scene)
    assert state.num_chunks.tolist() == [40, 40]
    assert relative_error(got, expected) < 1e-5


@pytest.mark.parametrize("sink", [False, True])
@torch.no_grad()
def test_window_as_long_as_the_clip_changes_nothing(
    sink: bool,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    config = dataclasses.replace(tiny, num_cached_chunks=5, sink=sink)
    network = make_network(config)
    scene = make_scene(config, 4 + 3 * 4)
    unlimited = make_network(dataclasses.replace(config, num_cached_chunks=-1))
    assert relative_error(stream(network, scene)[0], stream(unlimited, scene)[0]) < 1e-5


@torch.no_grad()
def test_window_forgets_all_but_sink_and_recent_chunks(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    """Softmax-only stack without temporal convolutions: the window is the only memory."""
    config = dataclasses.replace(tiny, softmax_every_n=1, num_cached_chunks=2, sink=True)
    network = make_network(config)
    for block in network.blocks:
        block.mlp.t_conv.weight.data.zero_()
    # One layer, so that memory does not travel through intermediate chunks.
    network.blocks = network.blocks[:1]
    config = dataclasses.replace(config, num_layers=1)
    network.config = config
    scene = make_scene(config, 4 + 3 * 4)
    whole, _ = stream(network, scene)
    for chunk, is_seen in ((0, True), (1, False), (2, False), (3, True)):
        start = 0 if chunk == 0 else 1 + 3 * chunk
        x = scene.x.clone()
        x[:, :, start : start + 3] += 1.0
        changed, _ = stream(network, dataclasses.replace(scene, x=x))
        assert bool((changed - whole)[:, :, -3:].abs().max() > 1e-4) == is_seen


@torch.no_grad()
def test_state_has_the_same_size_after_10_and_1000_steps(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    config = dataclasses.replace(
        tiny, num_layers=2, chunk_size=1, chunk_split="uniform", num_cached_chunks=3, sink=True
    )
    network = make_network(config)
    scene = make_scene(config, 99, grid=(1, 2), num_clips=1, metres=0.01)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    text, state = scene.text(network), network.initial_state(1, 1, 2)
    shapes = {name: tensor.shape for name, tensor in state.tensors().items()}
    for i in range(10):
        _, state = network.step(
            scene.x[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
            camera.frames(i, i + 1), state, update_state=True,
        )  # fmt: skip
    size = state.num_bytes
    # 990 more steps, 99 at a time.
    for _ in range(10):
        state = network.unroll(scene.x, scene.timestep, text, camera, state).state_after
    assert state.num_chunks.tolist() == [1000]
    assert state.num_bytes == size
    assert {name: tensor.shape for name, tensor in state.tensors().items()} == shapes
    assert all(bool(x.isfinite().all()) for x in state.tensors().values())


@torch.no_grad()
def test_rows_equal_single_runs_at_any_ages(
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    """Rows of one, two and no chunks step together as they would alone."""
    config = dataclasses.replace(
        tiny, chunk_size=1, chunk_split="uniform", num_cached_chunks=2, sink=True
    )
    network = make_network(config)
    scene = make_scene(config, 4, num_clips=3)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    text, ages = scene.text(network), (1, 3, 0)

    def run(row: int, state: SanaWMState, start: int, stop: int) -> tuple[torch.Tensor, Any]:
        out = scene.x[[row], :, :1]
        for i in range(start, stop):
            out, state = network.step(
                scene.x[[row], :, i : i + 1], scene.timestep[[row], i : i + 1], text.select([row]),
                camera.select([row]).frames(i, i + 1), state, update_state=True,
            )  # fmt: skip
        return out, state

    states, alone = [], []
    for row, age in enumerate(ages):
        _, state = run(row, network.initial_state(1, 3, 4), 0, age)
        states.append(state)
        alone.append(run(row, state, 3, 4))
    together, after = network.step(
        scene.x[:, :, 3:4], scene.timestep[:, 3:4], text, camera.frames(3, 4),
        SanaWMState.concat(states), update_state=True,
    )  # fmt: skip
    for row, (velocity, state) in enumerate(alone):
        assert relative_error(together[[row]], velocity) < 1e-5
        for name, tensor in after.select([row]).tensors().items():
            torch.testing.assert_close(tensor, state.tensors()[name], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_restored_state_continues_bit_for_bit(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    config = dataclasses.replace(tiny, sink=False)
    network = make_network(config)
    scene = make_scene(config, 4 + 3 * 2)
    first = dataclasses.replace(scene, x=scene.x[:, :, :7], raw_poses=scene.raw_poses[:, :13])
    _, state = stream(network, first)
    saved = {name: tensor.clone() for name, tensor in state.tensors().items()}
    expected, _ = stream(network, scene, first=2, state=state)
    restored = network.initial_state(2, 3, 4).with_tensors(saved)
    assert torch.equal(stream(network, scene, first=2, state=restored)[0], expected)
    fork = state.select([1, 0, 1])
    assert fork.batch_size == 3
    for name, tensor in state.tensors().items():
        assert torch.equal(fork.tensors()[name], tensor[[1, 0, 1]])
        assert torch.equal(tensor, saved[name])


def test_released_chunks_are_those_of_the_report() -> None:
    sizes = chunk_sizes(121, SANA_WM_2B6, "chunk_causal")
    assert sizes[0] == 4 and set(sizes[1:]) == {3} and len(sizes) == 40
    assert len(chunk_sizes(31, SANA_WM_2B6, "chunk_causal")) == 10
    assert chunk_sizes(121, SANA_WM_2B6, "bidirectional") == (121,)


def test_frames_of_a_chunk_see_each_other_and_no_later_chunk(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(tiny)
    scene = make_scene(tiny, 7)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=tiny, **scene.geometry)
    x = scene.x.clone().requires_grad_()
    out = network(x, scene.timestep, scene.text(network), camera, mode="chunk_causal")
    out[:, :, 1].square().sum().backward()
    assert x.grad is not None
    reach = x.grad.abs().amax(dim=(0, 1, 3, 4)) > 0
    assert reach.tolist() == [True] * 4 + [False] * 3


def test_wrong_rows_are_refused_with_numbers(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(tiny)
    scene = make_scene(tiny, 4)
    state = network.initial_state(3, 3, 4)
    with pytest.raises(ValueError, match="2 rows of latents"):
        network.step(scene.x, scene.timestep, scene.text(network), None, state, update_state=False)
