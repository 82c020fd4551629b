"""Lenses, pictures cut to size and the mount on the car."""

import math

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig, Intrinsics, camera_poses, fit_image, fit_intrinsics
from sanawm_gym.geometry import is_rigid, planar_pose, relative_poses


@pytest.mark.parametrize("fov_deg", [25.0, 57.3, 90.0, 120.0])
def test_the_field_of_view_comes_back_from_the_intrinsics(fov_deg: float) -> None:
    lens = Intrinsics.from_fov(fov_deg, 128, 72)
    assert lens.check().horizontal_fov_deg == pytest.approx(fov_deg, abs=1e-10)
    assert math.tan(math.radians(lens.vertical_fov_deg) / 2) == pytest.approx(36 / lens.fy)
    assert lens.as_array().tolist() == [lens.fx, lens.fy, 64.0, 36.0]


@pytest.mark.parametrize("fov_deg", [24.9, 120.1, 0.0, -60.0, float("nan"), float("inf")])
def test_fields_of_view_outside_25_to_120_degrees_are_refused(fov_deg: float) -> None:
    with pytest.raises(ValueError, match=r"got .* degrees, expected 25 to 120"):
        Intrinsics.from_fov(fov_deg, 128, 72)


def test_check_refuses_a_telephoto_lens_given_in_pixels() -> None:
    with pytest.raises(ValueError, match="expected 25 to 120"):
        Intrinsics(1000.0, 1000.0, 64.0, 36.0, 128, 72).check()


@pytest.mark.parametrize(
    "numbers",
    [
        (float("nan"), 50.0, 64.0, 36.0, 128, 72),
        (50.0, -1.0, 64.0, 36.0, 128, 72),
        (50.0, 50.0, 64.0, 36.0, 0, 72),
    ],
)
def test_numbers_that_are_no_lens_are_refused(
    numbers: tuple[float, float, float, float, int, int],
) -> None:
    with pytest.raises(ValueError, match=r"intrinsics: got .*, expected .*; "):
        Intrinsics(*numbers)


@pytest.mark.parametrize("size", [(640, 480), (320, 100), (128, 72), (64, 36), (101, 203)])
def test_a_fitted_picture_shows_a_direction_where_its_new_intrinsics_say(
    size: tuple[int, int],
) -> None:
    width, height = size
    lens = Intrinsics(0.8 * width, 0.9 * width, 0.52 * width, 0.47 * height, width, height)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()[None, :]  # a ramp tells where a column went
    fitted, new = fit_image(image, lens, 128, 72)
    assert fitted.shape == (72, 128, 3) and (new.width, new.height) == (128, 72)
    columns = np.arange(20, 108)
    angle = (columns + 0.5 - new.cx) / new.fx
    source = angle * lens.fx + lens.cx - 0.5
    np.testing.assert_allclose(fitted[36, columns, 0], source / (width - 1) * 255, atol=1.5)
    assert new.fy / new.fx == pytest.approx(lens.fy / lens.fx)


@pytest.mark.parametrize("size", [(640, 480), (320, 100), (64, 36), (101, 203)])
def test_a_fitted_lens_sees_the_kept_corners_where_the_whole_one_did(size: tuple[int, int]) -> None:
    width, height = size
    lens = Intrinsics(0.8 * width, 0.9 * width, 0.52 * width, 0.47 * height, width, height)
    new, (left, top, right, bottom) = fit_intrinsics(lens, 128, 72)
    assert min(left, top) == 0.0 and right <= width and bottom <= height
    assert (right - left) / (bottom - top) == pytest.approx(128 / 72)
    for (u, v), (x, y) in [((0, 0), (left, top)), ((128, 72), (right, bottom))]:
        ray = (u - new.cx) / new.fx, (v - new.cy) / new.fy
        assert ray == pytest.approx(((x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy))


def test_a_stack_of_pictures_is_fitted_like_each_of_them() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 90, 200, 3), dtype=np.uint8)
    lens = Intrinsics.from_fov(70.0, 200, 90)
    fitted, _ = fit_image(stack, lens, 128, 72)
    for image, expected in zip(stack, fitted, strict=True):
        assert (fit_image(image, lens, 128, 72)[0] == expected).all()


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    lens = Intrinsics.from_fov(70.0, 128, 72)
    fitted, new = fit_image(image, lens, 128, 72)
    assert fitted is image and new == lens


def test_a_picture_of_another_size_than_its_intrinsics_is_refused() -> None:
    with pytest.raises(ValueError, match="got a picture of 128x72, expected the intrinsics' 64x36"):
        fit_image(np.zeros((72, 128, 3), np.uint8), Intrinsics.from_fov(70.0, 64, 36), 128, 72)


def test_a_level_camera_looks_ahead_with_the_ground_below() -> None:
    mount = CameraRig(x=1.5, y=0.2, z=1.4).vehicle_from_camera()
    assert is_rigid(mount)
    assert mount[:3, 2].tolist() == [1, 0, 0]  # z forward
    assert mount[:3, 1].tolist() == [0, 0, -1]  # y down
    assert mount[:3, 0].tolist() == [0, -1, 0]  # x right
    assert mount[:3, 3].tolist() == [1.5, 0.2, 1.4]


def test_positive_pitch_looks_down_and_positive_yaw_looks_left() -> None:
    assert CameraRig(pitch_deg=10.0).vehicle_from_camera()[2, 2] == pytest.approx(
        -math.sin(math.radians(10))
    )
    assert CameraRig(yaw_deg=30.0).vehicle_from_camera()[1, 2] == pytest.approx(
        math.sin(math.radians(30))
    )
    both = CameraRig(pitch_deg=10.0, yaw_deg=90.0).vehicle_from_camera()
    assert both[0, 0] == pytest.approx(
        1.0
    )  # the right of a camera that looks left is ahead: no roll


@pytest.mark.parametrize(
    "bad", [{"z": 0.0}, {"x": float("nan")}, {"pitch_deg": 60.0}, {"yaw_deg": 400.0}]
)
def test_impossible_mounts_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rig: got .*, expected .*; "):
        CameraRig(**bad)


def test_a_turning_car_swings_its_camera_by_the_lever_arm() -> None:
    poses = planar_pose(0.0, 0.0, np.array([0.0, 0.3]))  # the rear axle stays, the car turns left
    relative = relative_poses(camera_poses(poses, CameraRig(x=1.5)))[1]
    # In the first camera: the arm's end moves left (-x) by a sin and back (-z) by a (1 - cos).
    np.testing.assert_allclose(
        relative[:3, 3], [-1.5 * math.sin(0.3), 0.0, 1.5 * (math.cos(0.3) - 1)], atol=1e-15
    )
