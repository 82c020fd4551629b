"""Closed forms of the parts: codes, rays, lines, grouping of raw frames, start values, dtypes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sanawm_gym.worldmodel import ucpe
from sanawm_gym.worldmodel.camera_condition import clip_camera, moving_camera, stream_camera
from sanawm_gym.worldmodel.config import DRIVE, SanaWMConfig
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, velocity_to_x_0
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.plucker import plucker_map
from sanawm_gym.worldmodel.precision import attend_heads
from sanawm_gym.worldmodel.rope import axis_pairs, frame_shift_matrix, rotary_tables, rotate
from sanawm_gym.worldmodel.short_conv import ShortConv


def test_axes_share_a_head_as_in_the_release() -> None:
    assert axis_pairs(112) == (20, 18, 18)
    assert axis_pairs(56) == (10, 9, 9)


def test_shift_matrix_turns_keys_to_their_new_index() -> None:
    x = torch.randn(1, 1, 12, 2, 32, dtype=torch.float64)
    before, after = (
        rotate(x, rotary_tables(torch.tensor([[i]]), (3, 4), 32, torch.float64).main)
        for i in (5, 12)
    )
    matrix = frame_shift_matrix(torch.tensor(7), 32, 32)
    torch.testing.assert_close(before @ matrix.T, after)


def test_scores_depend_on_the_distance_of_frames_only() -> None:
    q, k = torch.randn(2, 1, 1, 12, 1, 32, dtype=torch.float64)

    def score(i: int, j: int) -> torch.Tensor:
        tables = [rotary_tables(torch.tensor([[n]]), (3, 4), 32, torch.float64) for n in (i, j)]
        return (rotate(q, tables[0].main) * rotate(k, tables[1].main)).sum(-1)

    torch.testing.assert_close(score(3, 1), score(100_003, 100_001))


def test_ray_frames_are_rigid_and_look_along_the_ray() -> None:
    intrinsics = torch.tensor([3.0, 2.5, 1.5, 1.0], dtype=torch.float64)
    rays = ucpe.pixel_rays(intrinsics, (3, 4))
    # Row 1, column 2 of the grid: exactly through the integer point.
    wanted = torch.tensor([(2 - 1.5) / 3.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(rays[6], wanted / wanted.norm())
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    frames = ucpe.world_from_ray(pose, rays)
    rotation = frames[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(12, 3, 3))
    torch.testing.assert_close(frames[:, :3, 2], rays)
    torch.testing.assert_close(frames[:, :3, 3], pose[:3, 3].expand(12, 3))
    identity = torch.eye(4, dtype=torch.float64).expand(12, 4, 4)
    torch.testing.assert_close(ucpe.invert_rigid(frames) @ frames, identity)


def test_dense_and_grouped_operators_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pose = torch.eye(4, dtype=torch.float64).expand(1, 2, 4, 4).clone()
    pose[..., :3, 3] = torch.randn(1, 2, 3, dtype=torch.float64)
    intrinsics = torch.tensor([3.0, 2.5, 1.5, 1.0], dtype=torch.float64).expand(1, 2, 4)
    table = rotary_tables(torch.tensor([[4, 5]]), (3, 4), 32, torch.float64).camera
    x = torch.randn(1, 2, 12, 3, 32, dtype=torch.float64)
    results = []
    for limit in (64, 0):
        monkeypatch.setattr(ucpe, "MAX_DENSE_HEAD", limit)
        rays = ucpe.ray_operators(pose, intrinsics, (3, 4), table)
        moved = ucpe.apply_key_value(x, 2 * x, rays)
        results.append([ucpe.apply_query(x, rays), *moved, ucpe.apply_output(x, rays)])
    for dense, grouped in zip(*results, strict=True):
        torch.testing.assert_close(dense, grouped)


def test_clamp_only_shrinks() -> None:
    before, after = torch.randn(7, 8), torch.randn(7, 8) * torch.logspace(-2, 2, 7)[:, None]
    got = ucpe.clamp_rms(before, after)
    size = (before.square().mean(-1) + 1e-6).sqrt()
    assert (got.square().mean(-1).sqrt() <= size + 1e-6).all()
    torch.testing.assert_close(got[0], after[0])


def test_plucker_lines_do_not_depend_on_the_point_along_them() -> None:
    pose = torch.eye(4).repeat(1, 1, 2, 1, 1)
    intrinsics = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    # The ray of cell (0, 0) looks along z: moving the camera along z leaves its line alone.
    pose[0, 0, 1, 2, 3] = 5.0
    lines = plucker_map(pose, intrinsics, (2, 2))
    assert lines.shape == (1, 12, 1, 2, 2)
    torch.testing.assert_close(lines[:, :6, 0, 0, 0], lines[:, 6:, 0, 0, 0])
    assert not torch.allclose(lines[:, :6, 0, 1, 1], lines[:, 6:, 0, 1, 1])
    direction, moment = lines[:, 6:9], lines[:, 9:]
    torch.testing.assert_close((direction * moment).sum(1), torch.zeros(1, 1, 2, 2))


def raw_frames(num_frames: int) -> torch.Tensor:
    """Poses whose z is the raw frame's number."""
    poses = torch.eye(4, dtype=torch.float64).repeat(1, num_frames, 1, 1)
    poses[0, :, 2, 3] = torch.arange(num_frames)
    return poses


@pytest.mark.parametrize("first", ["lookahead", "repeat"])
def test_latent_frames_group_the_raw_frames_of_the_report(first: Any) -> None:
    config = dataclasses.replace(
        DRIVE, camera_unit_m=1.0, plucker_first_group=first, temporal_stride=4
    )
    arguments = {"image_size": (8, 8), "grid": (2, 2), "config": config}
    rays = torch.tensor([[4.0, 4.0, 4.0, 0.0]])
    camera = clip_camera(raw_frames(9), rays, **arguments)
    assert camera.world_from_camera[0, :, 2, 3].tolist() == [0, 4, 8]
    torch.testing.assert_close(camera.intrinsics[0, 0], torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert camera.plucker is not None
    # Cell (0, 0) sees direction (-1, 0, 1)/sqrt 2; the moment's y is z * d_x for a centre at z.
    depth = camera.plucker[0, 4::6, :, 0, 0] * -math.sqrt(2)
    expected = torch.tensor([[0, 0, 0, 0] if first == "repeat" else [0, 1, 2, 3]])
    expected = torch.cat([expected, torch.arange(1, 9).view(2, 4)]).T.float()
    torch.testing.assert_close(depth, expected)
    later = stream_camera(raw_frames(9)[:, 1:], rays, **arguments)
    torch.testing.assert_close(later.plucker, camera.plucker[:, :, 1:])


def test_moving_camera_stays_within_a_step_far_from_home() -> None:
    arguments = {"image_size": (8, 8), "grid": (2, 2), "config": DRIVE}
    rays = torch.tensor([[4.0, 4.0, 4.0, 0.0]])
    raw = raw_frames(13)
    far = raw.clone()
    far[:, :, :3, 3] += torch.tensor([3e5, -2e5, 1e5], dtype=torch.float64)
    near_camera, transport = moving_camera(raw, rays, **arguments)
    far_camera, far_transport = moving_camera(far, rays, **arguments)
    assert near_camera.world_from_camera[0, :, 2, 3].tolist() == [0, 4, 4, 4]
    assert transport[0, :, 2, 3].tolist() == [0, 0, -4, -4]
    torch.testing.assert_close(far_transport, transport, atol=1e-9, rtol=0)
    assert near_camera.plucker is not None and far_camera.plucker is not None
    torch.testing.assert_close(far_camera.plucker, near_camera.plucker)
    # In a stream, the same frames in two parts.
    rest, move = moving_camera(
        raw[:, 5:], rays, **arguments, last_pose=raw[:, 4], state_origin=raw[:, 0]
    )
    torch.testing.assert_close(rest.world_from_camera, near_camera.world_from_camera[:, 2:])
    torch.testing.assert_close(rest.plucker, near_camera.plucker[:, :, 2:])
    torch.testing.assert_close(move, transport[:, 2:])


@pytest.mark.parametrize(
    ("build", "count", "message"),
    [(clip_camera, 4, "multiple of 4 plus 1"), (stream_camera, 5, "positive multiple of 4")],
)
def test_wrong_numbers_of_poses_are_explained(
    build: Callable[..., Any], count: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(raw_frames(count), torch.ones(1, 4), image_size=(8, 8), grid=(2, 2), config=DRIVE)


def test_short_convolution_is_causal_and_mirrored_within_chunks() -> None:
    conv = ShortConv(1, 4)
    conv.weight.data = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    pulse = torch.zeros(1, 6, 1, 1)
    pulse[0, 3] = 1.0
    whole = conv(pulse, (6,), None)
    assert whole.flatten().tolist() == [1, 2, 3, 4, 3, 2]
    causal = conv(pulse, (1,) * 6, None)
    assert causal.flatten().tolist() == [0, 0, 0, 4, 3, 2]
    halves = conv(pulse, (2, 2, 2), None)
    assert halves.flatten().tolist() == [0, 0, 3, 4, 3, 2]
    step = conv(pulse[:, 4:5], (1,), pulse[:, 1:4])
    assert step.item() == 3


def test_fresh_network_is_the_zero_velocity_with_identity_blocks() -> None:
    network = SanaWM(
        dataclasses.replace(
            DRIVE,
            num_layers=2,
            init_dt_bias=(-4.0, -1.0),
            warp_condition=False,
            prediction="velocity",
        )
    )
    text = network.encode_text(
        torch.randn(1, 3, DRIVE.caption_channels), torch.ones(1, 3, dtype=torch.bool)
    )
    x, timestep = torch.randn(1, DRIVE.in_channels, 2, 2, 3), torch.full((1, 2), 500.0)
    assert not network(x, timestep, text, None).any()
    attention = network.blocks[0].attn
    assert attention.dt_bias[0] == -4 and attention.dt_bias[-1] == -1
    torch.testing.assert_close(
        torch.nn.functional.silu(attention.output_gate.bias), torch.ones(DRIVE.hidden_size)
    )


@torch.no_grad()
def test_a_fresh_network_with_a_warped_picture_predicts_that_picture(
    make_scene: Callable[..., Any],
) -> None:
    network = SanaWM(dataclasses.replace(DRIVE, num_layers=1))
    scene = make_scene(network.config, 2)
    camera = clip_camera(
        scene.raw_poses, scene.intrinsics_px, config=network.config, **scene.geometry
    )
    text = scene.text(network)
    with pytest.raises(ValueError, match="warp_condition"):
        network(scene.x, scene.timestep, text, camera)
    warped = torch.randn_like(scene.x)
    sigma = torch.full((2, 2), 0.7)
    v = network(scene.x, NUM_TIMESTEPS * sigma, text, dataclasses.replace(camera, warped=warped))
    torch.testing.assert_close(velocity_to_x_0(scene.x, v, sigma), warped)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@torch.no_grad()
def test_bfloat16_runs_on_the_cpu_with_float32_memory(
    precision: Any,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    config = dataclasses.replace(
        tiny, chunk_size=1, chunk_split="uniform", num_cached_chunks=2, rope_dtype=precision
    )
    network, exact = make_network(config, dtype=torch.bfloat16), make_network(config)
    scene = make_scene(config, 4)
    camera, transport = moving_camera(
        scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry
    )
    state = network.initial_state(2, 3, 4)
    got = network.unroll(
        scene.x, scene.timestep, scene.text(network), camera, state, transport=transport
    )
    expected = exact.unroll(
        scene.x, scene.timestep, scene.text(exact), camera, exact.initial_state(2, 3, 4),
        transport=transport,
    )  # fmt: skip
    assert got.velocity.dtype == torch.bfloat16
    memory = got.state_after.tensors()
    assert memory["blocks.0.matrix"].dtype == torch.float32
    assert memory["blocks.1.key"].dtype == torch.bfloat16
    assert {n: t.dtype for n, t in state.tensors().items()} == {
        n: t.dtype for n, t in memory.items()
    }
    assert relative_error(got.velocity.float(), expected.velocity) < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "multiple of 8"),
        ({"plucker_channels": 48}, "6 \\* temporal_stride"),
        ({"t_kernel_size": 5}, "only 3"),
        ({"chunk_size": 0}, "at least 1"),
        ({"num_cached_chunks": 0, "sink": True}, "with a sink"),
        ({"camera_unit_m": 0.0}, "metres"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DRIVE, **changes)


def test_empty_prompt_is_refused() -> None:
    network = SanaWM(dataclasses.replace(DRIVE, caption_channels=64, num_layers=1))
    with pytest.raises(ValueError, match="all False"):
        network.encode_text(
            torch.randn(1, 3, DRIVE.caption_channels), torch.zeros(1, 3, dtype=torch.bool)
        )


def test_attention_under_autocast_has_the_gradient_of_plain_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value, grad = (
        torch.randn(2, 3, n, 8, generator=generator, requires_grad=True) for n in (5, 7, 7, 5)
    )
    mask = torch.rand(2, 1, 1, 7, generator=generator) > 0.3
    mask[..., 0] = True
    exact = attend_heads(query, key, value, mask, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = attend_heads(query, key, value, mask, 0.5)
    assert rounded.dtype == torch.bfloat16
    wanted = torch.autograd.grad(exact, (query, key, value), grad)
    got = torch.autograd.grad(rounded, (query, key, value), grad.bfloat16())
    for a, b in zip((exact, *wanted), (rounded, *got), strict=True):
        torch.testing.assert_close(a, b.float(), rtol=0.02, atol=0.04)
