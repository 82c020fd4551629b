"""Paths by spline and by car, what a world knows of them, and their picture."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from sanawm_gym.camera import CameraRig
from sanawm_gym.geometry import is_rigid, relative_poses
from sanawm_gym.paths.camera_path import CameraPath
from sanawm_gym.paths.driving import driven_path, read_controls
from sanawm_gym.paths.envelope import CAR, WALK, departures
from sanawm_gym.paths.key_words import key_path
from sanawm_gym.paths.keys import MAPPINGS
from sanawm_gym.paths.plot import plot_path, write_plot
from sanawm_gym.paths.spline import spline_path
from sanawm_gym.vehicle import VehicleConfig


def some_keys(num: int = 6) -> np.ndarray:
    """Key poses of a hand-held flight, one a pure turn."""
    rng = np.random.default_rng(1)
    keys = np.tile(np.eye(4), (num, 1, 1))
    keys[:, :3, 3] = np.cumsum(rng.normal(0, 1.5, (num, 3)), axis=0)
    keys[2, :3, 3] = keys[1, :3, 3]
    keys[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.5, (num, 3))).as_matrix()
    return keys


@pytest.mark.parametrize("smoothing", [0, 8])
@pytest.mark.parametrize(("speed", "turn_deg"), [(0.4, 12.0), (4.0, 12.0), (0.4, 500.0)])
def test_a_spline_keeps_both_limits_and_wastes_neither(
    smoothing: int, speed: float, turn_deg: float
) -> None:
    turn = math.radians(turn_deg)
    path = spline_path(some_keys(), max_speed=speed, max_turn_rate=turn, smoothing=smoothing)
    assert is_rigid(path.poses).all()
    use = np.hypot(path.speeds() / speed, path.turn_rates() / turn)
    assert path.speeds().max() <= speed and path.turn_rates().max() <= turn
    assert np.median(use) > 0.9


def test_a_spline_begins_ends_and_passes_at_its_keys() -> None:
    keys = some_keys()
    for smoothing, near in ((0, 0.02), (8, 0.05)):
        path = spline_path(keys, smoothing=smoothing)
        np.testing.assert_array_equal(path.poses[[0, -1]], keys[[0, -1]])
        gaps = np.linalg.norm(path.poses[:, None, :3, 3] - keys[:, :3, 3], axis=2).min(axis=0)
        assert gaps.max() < near


def test_a_straight_spline_is_a_straight_line_at_full_speed() -> None:
    keys = np.tile(np.eye(4), (3, 1, 1))
    keys[:, 2, 3] = (0.0, 1.0, 4.0)
    path = spline_path(keys, max_speed=0.5)
    assert path.seconds == pytest.approx(8.0, abs=0.1)
    np.testing.assert_allclose(path.speeds(), 0.5, rtol=0.01)
    assert np.abs(path.poses[:, :2, 3]).max() < 1e-12


def test_smoothing_rounds_what_is_left_of_corners() -> None:
    corner = np.tile(np.eye(4), (3, 1, 1))
    corner[:, :3, 3] = [(0, 0, 0), (0, 0, 1), (1, 0, 1)]
    sharp, smooth = (
        np.abs(np.diff(spline_path(corner, smoothing=n).poses[:, :3, 3], n=2, axis=0)).max()
        for n in (0, 30)
    )
    assert smooth < sharp


def test_a_spline_refuses_keys_that_say_too_little() -> None:
    keys = some_keys(3)
    turned = keys.copy()
    turned[1, :3, :3] = keys[0, :3, :3] @ Rotation.from_rotvec([0, math.pi, 0]).as_matrix()
    for bad, named in (
        (keys[:1], "at least two"),
        (turned, "180 degrees from key 0"),
        (np.repeat(keys[:1], 3, axis=0), "all the same"),
    ):
        with pytest.raises(ValueError, match=named):
            spline_path(bad)
    with pytest.raises(ValueError, match="more than 100000 frames"):
        spline_path(keys, max_speed=1e-6)


def test_a_driven_path_is_that_of_the_car(tmp_path: Path) -> None:
    steady = VehicleConfig(steer_tau=0.0)
    rig = CameraRig(x=0.0, z=1.2)
    path = driven_path(np.array([[0.4, 0.0, 2.0]]), speed=5.0, rig=rig, vehicle=steady)
    assert path.num_frames == 33
    radius = steady.wheelbase / math.tan(0.4 * steady.max_steer)
    centre = np.array([0.0, radius, 1.2])
    distances = np.linalg.norm(path.poses[1:, :3, 3] - centre, axis=1)
    np.testing.assert_allclose(distances, radius, rtol=1e-6)
    heading = math.atan2(path.poses[-1, 1, 2], path.poses[-1, 0, 2])
    assert heading == pytest.approx(2.0 * 5.0 / radius, rel=1e-6)  # left is positive


def test_the_same_drive_is_told_through_another_mount() -> None:
    controls = np.array([[0.3, 0.5, 3.0], [-0.2, 0.0, 2.0]])
    level, tilted = (
        driven_path(controls, speed=4.0, rig=CameraRig(pitch_deg=pitch)) for pitch in (0.0, 12.0)
    )
    down = math.radians(12.0)
    np.testing.assert_allclose(
        level.remounted(0.0, down).poses, relative_poses(tilted.poses), atol=1e-9
    )
    np.testing.assert_allclose(
        tilted.remounted(down, 0.0).poses, relative_poses(level.poses), atol=1e-9
    )


def test_controls_are_read_with_and_without_durations(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# steer, pedal\n0.1, 1\n-0.2, 0.5\n")
    (tmp_path / "b.txt").write_text("0.1 1 0.25\n-0.2 0.5 0.25\n")
    np.save(tmp_path / "c.npy", np.array([[0.1, 1.0], [-0.2, 0.5]]))
    first, second, third = (read_controls(tmp_path / n) for n in ("a.csv", "b.txt", "c.npy"))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert driven_path(first).num_frames == 9
    (tmp_path / "d.csv").write_text("0.1,1\n0.2,1.5\n")
    with pytest.raises(ValueError, match=r"pedal 1\.5 for 0\.25 s in row 1"):
        read_controls(tmp_path / "d.csv")


def test_a_car_stays_in_the_envelope_of_cars_and_others_leave_it() -> None:
    lively = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    drive = driven_path(np.column_stack([lively, np.full(60, 0.25)]), speed=10.0)
    assert departures(drive, CAR) == []
    walk = key_path("w-20,jw-20,d-30,i-20", MAPPINGS["release-1"])
    upright = CameraRig().vehicle_from_camera()
    assert departures(walk.beginning_at(upright), WALK) == []
    lines = departures(drive, WALK)
    assert any(line.startswith("forward motion reaches") for line in lines)
    flight = CameraPath(np.repeat(upright[None], 3, axis=0))
    flight.poses[2, :3, 3] += (0.0, 0.5, 0.25)
    sideways, vertical = departures(flight, CAR)
    assert "sideways motion reaches 8.00 m/s" in sideways and "2 the first" in sideways
    assert "vertical motion reaches 4.00 m/s" in vertical


def test_the_envelope_does_not_care_for_heading_tilt_and_place() -> None:
    drive = driven_path(np.array([[0.3, 1.0, 4.0]]), speed=3.0)
    start = np.eye(4)
    start[:3, :3] = Rotation.from_euler("z", 2.0).as_matrix()
    start[:3, 3] = (100.0, 7.0, 0.0)
    pitched = driven_path(np.array([[0.3, 1.0, 4.0]]), speed=3.0, rig=CameraRig(pitch_deg=20.0))
    assert departures(CameraPath(start @ drive.poses), CAR) == departures(pitched, CAR) == []


def test_the_picture_of_a_path_shows_its_way_from_above(tmp_path: Path) -> None:
    left, right = (
        plot_path(key_path(f"w-30,{key}w-60", MAPPINGS["release-1"]), WALK) for key in "jl"
    )
    blue = [(p[:, :600, 2].astype(int) - p[:, :600, 0] > 100) for p in (left, right)]
    # The same way mirrored: what lies to one side in one picture lies to the other in the other.
    ends = [np.argwhere((p[:, :600, 0] > 180) & (p[:, :600, 1] < 90)) for p in (left, right)]
    starts = [np.argwhere((p[:, :600, 1] > 130) & (p[:, :600, 0] < 70)) for p in (left, right)]
    assert ends[0][:, 1].mean() < starts[0][:, 1].mean()
    assert ends[1][:, 1].mean() > starts[1][:, 1].mean()
    assert all(e[:, 0].mean() < s[:, 0].mean() for e, s in zip(ends, starts, strict=True))
    assert min(b.sum() for b in blue) > 300
    write_plot(key_path("none-1", MAPPINGS["release-1"]), tmp_path / "new" / "path.png")
    with Image.open(tmp_path / "new" / "path.png") as picture:
        assert picture.size == (1080, 600)
    with pytest.raises(ValueError, match=r"expected a \.png file"):
        write_plot(key_path("w-1", MAPPINGS["release-1"]), tmp_path / "path.jpg")
