"""The ground warp against geometry done another way, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sanawm_gym.camera import CameraRig, Intrinsics, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from sanawm_gym.worldmodel.ground_warp import (
    check_camera_height,
    warp_over_ground,
    warped_clip,
    warped_latent,
)

HEIGHT, WIDTH = 72, 128
LENS = Intrinsics.from_fov(80.0, WIDTH, HEIGHT)


def poses_at(x: list[float], yaw: list[float], pitch_deg: float = 3.0) -> torch.Tensor:
    rig = CameraRig(z=1.4, pitch_deg=pitch_deg)
    return torch.tensor(camera_poses(planar_pose(np.array(x), 0.0, np.array(yaw)), rig))


def intrinsics() -> torch.Tensor:
    return torch.tensor(LENS.as_array())[None]


def chequered_ground(pose: torch.Tensor) -> torch.Tensor:
    """What a camera sees of soft waves painted on the ground, traced ray by ray."""
    matrix = pose.numpy()
    picture = np.zeros((3, HEIGHT, WIDTH), dtype=np.float32)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            ray = [(column + 0.5 - LENS.cx) / LENS.fx, (row + 0.5 - LENS.cy) / LENS.fy, 1.0]
            direction = matrix[:3, :3] @ np.array(ray)
            if direction[2] < -0.05:
                point = matrix[:3, 3] - direction * matrix[2, 3] / direction[2]
                picture[:, row, column] = np.sin(point[0] / 3), np.cos(point[1] / 3), 1.0
    return torch.tensor(picture)


def test_a_painted_plane_is_redrawn_where_another_camera_sees_it() -> None:
    path = poses_at([0.0, 0.8, 1.6], [0.0, 0.05, -0.08])
    truth = torch.stack([chequered_ground(pose) for pose in path])
    drawn = warp_over_ground(truth[:1], path[:1], path[None, 1:], intrinsics())[0]
    # Away from the horizon, where waves are finer than pixels, and from what is newly seen.
    seen = np.s_[..., 50:66, 24:104]
    assert (drawn[seen] - truth[1:][seen]).abs().max() < 0.06
    assert (truth[:1][seen] - truth[1:][seen]).abs().max() > 0.3


def test_a_still_camera_sees_the_same_picture_and_a_sky_only_turns() -> None:
    picture = torch.rand(1, 3, HEIGHT, WIDTH)
    path = poses_at([5.0, 5.0, 9.0], [0.3, 0.3, 0.3])
    drawn = warp_over_ground(picture, path[:1], path[None, 1:], intrinsics())[0]
    torch.testing.assert_close(drawn[0], picture[0], atol=1e-4, rtol=0)
    above = np.s_[:, : int(LENS.cy - LENS.fy * np.tan(np.deg2rad(3.0))) - 1]
    torch.testing.assert_close(drawn[1][above], picture[0][above], atol=1e-4, rtol=0)
    assert (drawn[1] - picture[0]).abs().max() > 0.1


def test_rows_do_not_depend_on_their_neighbours_and_far_places_are_no_worse() -> None:
    pictures = torch.rand(2, 3, HEIGHT, WIDTH)
    near, far = poses_at([0.0, 0.7], [0.0, 0.02]), poses_at([1e5, 1e5 + 0.7], [0.0, 0.02])
    both = torch.stack([near, far])
    lens = intrinsics().expand(2, -1)
    drawn = warp_over_ground(pictures, both[:, 0], both[:, 1:], lens)
    alone = warp_over_ground(pictures[1:], both[1:, 0], both[1:, 1:], lens[1:])
    assert torch.equal(drawn[1:], alone)
    same = warp_over_ground(pictures[1:], both[:1, 0], both[:1, 1:], lens[1:])
    torch.testing.assert_close(alone, same, atol=1e-3, rtol=0)


def test_a_clip_is_warped_step_by_step() -> None:
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(
        VideoAutoencoderConfig(
            latent_channels=4, fine_channels=8, coarse_channels=8, fine_blocks=1, coarse_blocks=1
        )
    )
    frames = torch.rand(1, 3, 9, HEIGHT, WIDTH)
    path = poses_at([0.3 * i for i in range(9)], [0.01 * i for i in range(9)])[None]
    whole = warped_clip(autoencoder, frames, path, intrinsics())
    assert whole.shape == (1, 4, 3, 9, 16)
    assert not whole[:, :, 0].any()
    second = warped_latent(autoencoder, frames[:, :, 4], path[:, 4], path[:, 5:], intrinsics())
    torch.testing.assert_close(whole[:, :, 2:], second)


def test_a_camera_in_the_ground_is_refused() -> None:
    with pytest.raises(ValueError, match="got a camera 0 m above the ground"):
        check_camera_height(torch.eye(4)[None])
