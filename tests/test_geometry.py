"""Rigid transforms: round trips, closed forms and refusals."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sanawm_gym.geometry import check_poses, invert_pose, is_rigid, planar_pose, relative_poses


def random_poses(*shape: int, seed: int = 0) -> np.ndarray:
    poses = np.zeros((*shape, 4, 4))
    count = int(np.prod(shape))
    rotations = Rotation.random(count, random_state=seed).as_matrix()
    poses[..., :3, :3] = rotations.reshape(*shape, 3, 3)
    poses[..., :3, 3] = np.random.default_rng(seed).normal(scale=30.0, size=(*shape, 3))
    poses[..., 3, 3] = 1.0
    return poses


def test_a_pose_times_its_inverse_is_the_identity() -> None:
    poses = random_poses(3, 5)
    np.testing.assert_allclose(
        invert_pose(poses) @ poses, np.broadcast_to(np.eye(4), poses.shape), atol=1e-13
    )


def test_inverting_twice_gives_the_pose_back() -> None:
    poses = random_poses(7)
    np.testing.assert_allclose(invert_pose(invert_pose(poses)), poses, atol=1e-13)


def test_relative_poses_begin_exactly_at_the_identity_and_compose_back() -> None:
    poses = random_poses(2, 9)
    relative = relative_poses(poses)
    assert (relative[:, 0] == np.eye(4)).all()
    np.testing.assert_allclose(poses[:, :1] @ relative, poses, atol=1e-12)


def test_relative_poses_do_not_depend_on_the_world_frame() -> None:
    poses = random_poses(6)
    elsewhere = random_poses(1, seed=4)[0] @ poses
    np.testing.assert_allclose(relative_poses(elsewhere), relative_poses(poses), atol=1e-12)


def test_a_row_of_relative_poses_does_not_depend_on_its_neighbours() -> None:
    poses = random_poses(5, 4)
    batched = relative_poses(poses)
    for row, expected in zip(poses, batched, strict=True):
        assert (relative_poses(row[None])[0] == expected).all()


def test_a_vehicle_at_yaw_zero_has_the_world_axes_exactly() -> None:
    assert (planar_pose(0.0, 0.0, 0.0) == np.eye(4)).all()


def test_a_vehicle_that_heads_north_has_its_left_side_in_the_west() -> None:
    pose = planar_pose(2.0, 3.0, np.pi / 2)
    np.testing.assert_allclose(pose[:3, 0], [0, 1, 0], atol=1e-15)  # forward
    np.testing.assert_allclose(pose[:3, 1], [-1, 0, 0], atol=1e-15)  # left
    assert pose[:3, 3].tolist() == [2.0, 3.0, 0.0]


def test_planar_poses_take_arrays_of_any_shape() -> None:
    yaw = np.linspace(-3, 3, 6).reshape(2, 3)
    poses = planar_pose(yaw * 2, 0.0, yaw)
    assert poses.shape == (2, 3, 4, 4)
    assert (poses[1, 2] == planar_pose(yaw[1, 2] * 2, 0.0, yaw[1, 2])).all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.__setitem__((0, 0), np.nan),
        lambda p: p.__setitem__((2, 3), np.inf),
        lambda p: p.__imul__(1.1),
        lambda p: p.__setitem__((slice(None), 0), -p[:, 0]),  # mirrored
        lambda p: p.__setitem__((3, 0), 0.5),
    ],
    ids=["nan", "inf", "scaled", "mirrored", "last row"],
)
def test_matrices_that_are_not_poses_are_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    poses = random_poses(3)
    assert is_rigid(poses).all()
    spoil(poses[1])
    assert is_rigid(poses).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"^start: got .*, expected .*; "):
        check_poses(poses, "start")


def test_check_poses_returns_good_poses_untouched() -> None:
    poses = random_poses(4)
    assert check_poses(poses) is poses
