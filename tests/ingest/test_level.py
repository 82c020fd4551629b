"""Poses come to lie on a plane with z up."""

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.ingest.ego import ego_columns
from sanawm_gym.ingest.level import Level, mount_pitch
from tests.ingest.conftest import FPS, bend, hidden

CLOCK = np.arange(161) / 16.0


def hilly(slope: float) -> np.ndarray:
    """Straight on at 10 m/s over a hill of 2 m, in a camera that looks down by 3 degrees."""
    x = 10.0 * CLOCK
    height = 2.0 * np.sin(2 * np.pi * x / 200.0) + slope * x
    climb = np.arctan(2.0 * 2 * np.pi / 200.0 * np.cos(2 * np.pi * x / 200.0) + slope)
    car = np.tile(np.eye(4), (len(x), 1, 1))
    car[:, 0, 0], car[:, 0, 2] = np.cos(climb), -np.sin(climb)
    car[:, 2, 0], car[:, 2, 2] = np.sin(climb), np.cos(climb)
    car[:, 0, 3], car[:, 2, 3] = x, height
    return camera_poses(car, CameraRig(x=0.0, z=1.4, pitch_deg=3.0))


def test_the_direction_of_travel_tells_the_mount_of_the_camera() -> None:
    assert np.degrees(mount_pitch(hidden(bend(7.0)))) == pytest.approx(3.0, abs=1e-6)


def test_a_camera_that_stands_is_taken_to_look_straight() -> None:
    poses = hidden(bend(7.0))
    standing = np.repeat(poses[:1], 2000, axis=0)
    assert mount_pitch(standing) == 0.0
    standing[:, :3, 3] += np.random.default_rng(0).normal(0.0, 0.01, (2000, 3))
    assert mount_pitch(standing) == 0.0


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_hills_are_pulled_flat(slope: float) -> None:
    poses = hilly(slope)
    level = Level.of(CLOCK, poses, pitch=mount_pitch(poses), camera_height=1.4)
    flat = level.apply(CLOCK, poses)
    np.testing.assert_allclose(flat[:, 2, 3], 1.4, atol=0.01)
    pitch = -np.degrees(np.arcsin(flat[:, 2, 2]))
    np.testing.assert_allclose(pitch, 3.0, atol=0.25)
    assert flat[-1, 0, 3] == pytest.approx(100.0, rel=5e-3)
    np.testing.assert_allclose(flat[:, 1, 3], 0.0, atol=1e-6)


def test_bumps_remain() -> None:
    poses = bend(10.0, 16.0).poses
    poses[80, 2, 3] += 0.05
    level = Level.of(CLOCK, poses, pitch=np.radians(3.0), camera_height=1.4)
    assert level.apply(CLOCK, poses)[80, 2, 3] == pytest.approx(1.44, abs=0.01)


def test_a_stop_on_a_hill_does_not_turn_the_camera() -> None:
    poses = hilly(0.05)
    where = np.minimum(np.arange(161), 80)
    stopped = poses[where]
    level = Level.of(CLOCK, stopped, pitch=np.radians(3.0), camera_height=1.4)
    flat = level.apply(CLOCK, stopped)
    down = -np.degrees(np.arcsin(flat[:, 2, 2]))
    assert np.abs(np.diff(down[85:])).max() < 1e-9


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.diag([1.0, -1.0, -1.0, 1.0]), "OpenGL"),
        (np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]).T, "forward"),
    ],
)
def test_other_axes_are_refused(wrong: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=f"axes: got .*{said}"):
        mount_pitch(hidden(bend(7.0)) @ wrong)


def test_world_to_camera_matrices_are_refused() -> None:
    truth = bend(7.0)
    with pytest.raises(ValueError, match=r"axes: got .*camera-to-world"):
        mount_pitch(np.linalg.inv(hidden(truth)))


def test_reversing_has_a_negative_speed() -> None:
    poses = bend(7.0, 16.0).poses
    there_and_back = np.concatenate([poses, poses[-2:40:-1]])
    columns = ego_columns(there_and_back)
    assert columns["speed"][50] == pytest.approx(8.0, abs=0.05)
    assert columns["speed"][-20] == pytest.approx(-8.0, abs=0.05)
    assert columns["yaw_rate"][-20] == pytest.approx(-0.12, abs=1e-3)
    np.testing.assert_allclose(columns["x"], there_and_back[:, 0, 3])


def test_what_is_faster_than_a_car_is_refused() -> None:
    poses = bend(7.0, FPS).poses
    poses[:, :3, 3] *= 100
    with pytest.raises(ValueError, match=r"speed: got .* m/s .*metres"):
        ego_columns(poses)
