"""Time: nearest pictures, poses between poses, gaps, and episodes of 4 k + 1 frames."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sanawm_gym.ingest.clock import cut, sample
from sanawm_gym.paths.trajectory import Trajectory, from_quaternions, orthonormal


def turning(times: np.ndarray) -> np.ndarray:
    """Half a radian a second about z, a metre a second along x."""
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("z", 0.5 * times[:, None]).as_matrix()
    poses[:, 0, 3] = times
    return poses


def test_rotations_go_along_the_arc_and_positions_along_the_line() -> None:
    known = np.array([0.0, 1.0, 3.0])
    times = np.array([0.0, 0.25, 1.7, 3.0])
    found = Trajectory(known, turning(known)).at(times)
    np.testing.assert_allclose(found, turning(times), atol=1e-12)


@pytest.mark.parametrize("fps", [10.0, 16.0, 20.0, 29.97])
def test_a_tick_takes_the_nearest_picture(fps: float) -> None:
    times = 5.0 + np.arange(200) / fps
    [ticks] = sample(times, times)
    np.testing.assert_allclose(np.diff(ticks.clock), 1 / 16)
    assert ticks.clock[0] == 5.0
    assert times[-1] - ticks.clock[-1] < 1 / 16
    distance = np.abs(times[None] - ticks.clock[:, None])
    np.testing.assert_allclose(np.abs(ticks.taken - ticks.clock), distance.min(axis=1))
    np.testing.assert_array_equal(ticks.taken, times[ticks.pictures])


def test_gaps_of_pictures_or_poses_part_a_drive() -> None:
    pictures, poses = np.arange(0, 30, 0.05), np.arange(-3, 40, 0.1)
    pictures = pictures[(pictures < 8) | (pictures > 9)]
    poses = poses[(poses < 20) | (poses > 22)]
    found = [(part.clock[0], part.clock[-1]) for part in sample(pictures, poses)]
    expected = [(0.0, 7.9), (9.0, 19.9), (22.1, 29.9)]
    np.testing.assert_allclose(found, expected, atol=0.13)


def test_clocks_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ValueError, match=r"times: got pictures from 0\.00 .* the same clock"):
        sample(np.arange(0, 9, 0.1), np.arange(1e9, 1e9 + 9, 0.1))


@pytest.mark.parametrize(
    ("num", "lengths"), [(80, []), (81, [81]), (84, [81]), (321, [321]), (400, [197, 197])]
)
def test_a_drive_is_cut_into_few_equal_episodes(num: int, lengths: list[int]) -> None:
    parts = cut(num, 81, 321)
    assert [part.stop - part.start for part in parts] == lengths
    assert all(length % 4 == 1 for length in lengths)
    assert all(a.stop <= b.start for a, b in pairwise(parts))


def test_times_that_fall_are_refused() -> None:
    times = np.array([0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"got 1\.000000 s and then 1\.000000 s \(row 1\)"):
        Trajectory(times, turning(times))


def test_matrices_of_few_digits_become_rotations() -> None:
    rounded = turning(np.array([0.0, 0.4, 0.9])).round(4)
    exact = orthonormal(rounded, "poses")
    gram = exact[:, :3, :3] @ exact[:, :3, :3].swapaxes(1, 2)
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(exact, rounded, atol=2e-4)


@pytest.mark.parametrize(
    ("change", "said"), [(np.nan, "not finite .row 1"), (7.0, "not rigid .row 1")]
)
def test_impossible_matrices_are_refused(change: float, said: str) -> None:
    poses = turning(np.array([0.0, 0.4, 0.9]))
    poses[1, 0, 0] = change
    with pytest.raises(ValueError, match=said):
        orthonormal(poses, "poses")


def test_a_quaternion_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quaternion of length 2 \(row 1\)"):
        from_quaternions(np.zeros((2, 3)), np.array([[0, 0, 0, 1.0], [0, 0, 0, 2.0]]), "poses")
