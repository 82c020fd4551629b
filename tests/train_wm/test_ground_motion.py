"""Ground that moves with the camera is told from ground that stands still."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanawm_gym.camera import CameraRig
from sanawm_gym.geometry import planar_pose
from sanawm_gym.train_wm.ground_motion import ground_agreement, motion_error
from sanawm_gym.train_wm.lanes import Lanes, Piece
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.worldmodel.ground_warp import warp_over_ground
from tests.train_wm.conftest import TINY_NETWORK

INTRINSICS = torch.tensor([[64.0, 64.0, 64.0, 36.0]])


def camera_at(metres: float) -> torch.Tensor:
    pose = planar_pose(metres, 0.0, 0.0) @ CameraRig().vehicle_from_camera()
    return torch.from_numpy(pose)[None]


def texture() -> torch.Tensor:
    return torch.rand(1, 3, 72, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_ground_carried_to_the_next_camera_agrees_and_standing_ground_does_not() -> None:
    before, poses = texture(), [camera_at(0.0), camera_at(1.0)]
    carried = warp_over_ground(before, poses[0], poses[1][:, None], INTRINSICS)[:, 0]
    moves = ground_agreement(before, carried, *poses, INTRINSICS)
    stands = ground_agreement(before, before, *poses, INTRINSICS)
    assert moves.shape == (1, 4, 16)
    assert moves.min() > 0.999
    assert stands.mean() < 0.2
    assert ground_agreement(before, before, poses[0], poses[0], INTRINSICS).min() > 0.999


def test_bare_ground_says_nothing() -> None:
    bare, poses = torch.zeros(1, 3, 72, 128), [camera_at(0.0), camera_at(1.0)]
    assert ground_agreement(bare, bare, *poses, INTRINSICS).abs().max() == 0


@pytest.fixture(scope="module")
def piece(latents: Path) -> Piece:
    """The beginning of a recorded drive, three latent frames."""
    clips = load_latent_clips(latents)[0][:1]
    lanes = Lanes(clips, lanes=[0], piece=3, model=TINY_NETWORK, picture=(72, 128), seed=0)
    return lanes.read([0])


def follow(piece: Piece) -> torch.Tensor:
    """Pictures of textured ground as its cameras see it, rows (b t), two a latent frame."""
    poses = piece.poses[0, 1:, -2:].flatten(0, 1)
    pictures = [texture()]
    for start, stop in itertools.pairwise(poses):
        pictures.append(
            warp_over_ground(pictures[-1], start[None], stop[None, None], piece.intrinsics)[:, 0]
        )
    return torch.cat(pictures).unflatten(0, (2, 2)).transpose(1, 2)


def test_a_drive_whose_ground_stands_still_has_a_motion_error(piece: Piece) -> None:
    moving = follow(piece)
    standing = moving[:1, :, :1].expand_as(moving)
    assert motion_error(moving, moving, piece).tolist() == [0.0]
    assert motion_error(standing, moving, piece).item() > 0.1
    assert motion_error(moving, standing, piece).item() < 0.02


def test_the_error_pulls_the_later_pictures_towards_the_motion(piece: Piece) -> None:
    moving = follow(piece)
    drawn = moving[:1, :, :1].expand_as(moving).clone().requires_grad_()
    motion_error(drawn, moving, piece).sum().backward()
    assert drawn.grad is not None
    better = (drawn - 20 * drawn.grad).detach()
    assert motion_error(better, moving, piece) < motion_error(drawn, moving, piece).detach()


def test_pictures_of_another_clip_are_not_compared(piece: Piece) -> None:
    other = replace(piece, exchanged=[True])
    moving = follow(piece)
    assert motion_error(moving[:1].expand_as(moving) * 0, moving, other).tolist() == [0.0]
