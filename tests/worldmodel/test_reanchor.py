"""Moving the origin under a running stream: what is exact is exact, the rest is measured.

All in float64, so that "exact" means 1e-9 and not the rounding of a long drive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.rope import rotary_tables
from sanawm_gym.worldmodel.state import GDNState, limit_entries
from sanawm_gym.worldmodel.ucpe import apply_output, apply_query, invert_rigid, ray_operators

NUM_FRAMES = 12
GRID = (3, 4)


def stream_config(config: SanaWMConfig, **changes: Any) -> SanaWMConfig:
    return dataclasses.replace(
        config, chunk_size=1, chunk_split="uniform", num_cached_chunks=3, sink=False, **changes
    )


def random_rigid(*shape: int, metres: float) -> Tensor:
    rotation, _ = torch.linalg.qr(torch.randn(*shape, 3, 3, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)[..., None, None].sign()
    pose = torch.eye(4, dtype=torch.float64).repeat(*shape, 1, 1)
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = metres * torch.randn(*shape, 3, dtype=torch.float64)
    return pose


def drive(
    network: SanaWM, scene: Any, poses: Tensor, origins: Tensor | None, use_camera: bool = True
) -> Tensor:
    """Velocities of a stream; with `origins`, frame i is given in origin i, numbered 0."""
    text = scene.text(network)
    state = network.initial_state(2, *GRID)
    intrinsics = torch.tensor([3.0, 3.0, 2.0, 1.0], dtype=torch.float64).repeat(2, 1, 1)
    outputs = []
    for i in range(NUM_FRAMES):
        pose = poses[:, i]
        if origins is not None:
            before = origins[:, max(i - 1, 0)]
            state = state.reanchor(invert_rigid(origins[:, i]) @ before)
            pose = invert_rigid(origins[:, i]) @ pose
            assert state.frame_index.tolist() == [0, 0]
        camera = CameraCondition(
            world_from_camera=pose[:, None], intrinsics=intrinsics, plucker=None
        )
        velocity, state = network.step(
            scene.x[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
            camera if use_camera else None, state, update_state=True,
        )  # fmt: skip
        outputs.append(velocity)
    return torch.cat(outputs, dim=2)


@pytest.fixture
def poses() -> Tensor:
    return random_rigid(2, NUM_FRAMES, metres=10.0)


@torch.no_grad()
def test_softmax_blocks_do_not_notice_the_origin(
    poses: Tensor,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(stream_config(tiny, softmax_every_n=1), dtype=torch.float64)
    scene = make_scene(network.config, NUM_FRAMES, GRID, dtype=torch.float64)
    fixed = drive(network, scene, poses, None)
    moving = drive(network, scene, poses, random_rigid(2, NUM_FRAMES, metres=10.0))
    assert relative_error(moving, fixed) < 1e-9


@torch.no_grad()
def test_main_recurrence_does_not_notice_the_numbering(
    poses: Tensor,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(stream_config(tiny, softmax_every_n=0), dtype=torch.float64)
    scene = make_scene(network.config, NUM_FRAMES, GRID, dtype=torch.float64)
    fixed = drive(network, scene, poses, None, use_camera=False)
    moving = drive(network, scene, poses, poses, use_camera=False)
    assert relative_error(moving, fixed) < 1e-9


@torch.no_grad()
def test_turning_the_origin_changes_nothing_at_all(
    poses: Tensor,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    """A rotation is orthogonal, so even the camera recurrence's erasures commute with it."""
    network = make_network(stream_config(tiny), dtype=torch.float64)
    scene = make_scene(network.config, NUM_FRAMES, GRID, dtype=torch.float64)
    fixed = drive(network, scene, poses, None)
    moving = drive(network, scene, poses, random_rigid(2, NUM_FRAMES, metres=0.0))
    assert relative_error(moving, fixed) < 1e-9


@pytest.mark.parametrize("width", [64, 144])
@torch.no_grad()
def test_camera_memory_reads_the_same_from_any_origin(
    width: int, poses: Tensor, tiny: SanaWMConfig, relative_error: Callable[..., float]
) -> None:
    """Small heads are moved by dense matrices, heads of 72 by groups; both must agree."""
    config = stream_config(tiny, softmax_every_n=0, hidden_size=width)
    network = SanaWM(config).to(torch.float64)
    state = network.initial_state(2, *GRID)
    memory = state.blocks[0].attention
    assert isinstance(memory, GDNState)
    filled = torch.randn_like(memory.camera_matrix)
    memory = dataclasses.replace(memory, camera_matrix=filled)
    block = dataclasses.replace(state.blocks[0], attention=memory)
    state = dataclasses.replace(
        state, blocks=(block, *state.blocks[1:]), frame_index=torch.tensor([40, 7])
    )
    query = torch.randn(2, 1, 12, 2, config.head_dim, dtype=torch.float64)
    intrinsics = torch.tensor([3.0, 3.0, 2.0, 1.0], dtype=torch.float64).repeat(2, 1, 1)

    def read(pose: Tensor, index: Tensor, matrix: Tensor) -> Tensor:
        table = rotary_tables(index[:, None], GRID, config.head_dim, torch.float64).camera
        in_units = pose.clone()
        in_units[:, :3, 3] /= config.camera_unit_m
        rays = ray_operators(in_units[:, None], intrinsics, GRID, table)
        return apply_output(torch.einsum(
            "btshd,bhde->btshe", apply_query(query, rays), matrix
        ), rays)  # fmt: skip

    expected = read(poses[:, 0], state.frame_index, filled)
    moved = state.reanchor(invert_rigid(poses[:, 1]))
    attention = moved.blocks[0].attention
    assert isinstance(attention, GDNState)
    got = read(invert_rigid(poses[:, 1]) @ poses[:, 0], moved.frame_index, attention.camera_matrix)
    assert relative_error(got, expected) < 1e-9


@torch.no_grad()
def test_camera_erasure_in_a_moved_origin_differs_within_bounds(
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    """A drive of 6 m a latent frame (0.6 camera units): origin fixed at its start, or moving.

    The erasure and the write discount of the camera recurrence are measured in the metric of the
    current origin. Over 12 frames the velocities differ by 0.3 % of their range with these weights.
    """
    network = make_network(stream_config(tiny), dtype=torch.float64)
    scene = make_scene(network.config, NUM_FRAMES, GRID, metres=3.0, dtype=torch.float64)
    poses = scene.raw_poses[:, :: network.config.temporal_stride]
    origins = torch.cat([poses[:, :1], poses[:, :-1]], dim=1)
    difference = relative_error(
        drive(network, scene, poses, origins), drive(network, scene, poses, None)
    )
    assert 1e-4 < difference < 0.03


@torch.no_grad()
def test_moving_there_and_back_restores_the_state(
    poses: Tensor, tiny: SanaWMConfig, make_network: Callable[..., SanaWM]
) -> None:
    network = make_network(stream_config(tiny), dtype=torch.float64)
    state = network.initial_state(2, *GRID)
    state = state.map(lambda x: torch.randn_like(x) if x.is_floating_point() else x + 5)
    back = state.reanchor(poses[:, 0], 3).reanchor(invert_rigid(poses[:, 0]), -3)
    for name, tensor in state.tensors().items():
        torch.testing.assert_close(back.tensors()[name], tensor)


def test_entries_beyond_the_limit_are_scaled_down_and_others_left_alone() -> None:
    matrix = torch.randn(2, 3, 4, 4)
    matrix[1, 2] *= 1e6
    limited = limit_entries(matrix, 1e3)
    torch.testing.assert_close(limited[0], matrix[0], rtol=0, atol=0)
    torch.testing.assert_close(limited[1, 2].abs().max(), torch.tensor(1e3))
    torch.testing.assert_close(
        limited[1, 2] / limited[1, 2].norm(), matrix[1, 2] / matrix[1, 2].norm()
    )
    empty = torch.zeros(1, 1, 4, 4)
    torch.testing.assert_close(limit_entries(empty, 1e3), empty)
