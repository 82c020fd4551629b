"""Held keys as motion, in every published mapping, and back."""

import math
from typing import Any

import numpy as np
import pytest

from sanawm_gym.paths.camera_path import CameraPath, from_steps
from sanawm_gym.paths.key_words import format_keys, key_path, keys_of, parse_keys
from sanawm_gym.paths.keys import MAPPINGS, find_mapping

TEXT = "w-12,dw-9,i-8,jw-6,none-5,k-6,s-4,al-7,wijd-5"
R1, R2, SGLANG = (MAPPINGS[name] for name in ("release-1", "release-2", "sglang"))


def test_the_first_release_moves_as_diffusers_does() -> None:
    cam_utils: Any = pytest.importorskip("diffusers.pipelines.sana_wm.cam_utils")
    text = TEXT + ",i-90,d-3,k-160,jw-8"  # over both limits of the tilt
    expected = cam_utils.action_string_to_c2w(text)
    assert np.abs(key_path(text, R1).poses - expected).max() < 1e-6


@pytest.mark.parametrize(("mapping", "slides"), [(R1, True), (SGLANG, True), (R2, False)])
def test_a_and_d_slide_or_turn_by_the_mapping(mapping: Any, slides: bool) -> None:
    left, right = (key_path(f"{key}-1", mapping).poses[1] for key in "ad")
    turned = mapping.turn_of_slide if slides else 1.0
    angle = math.radians(mapping.turn_deg) * turned
    assert math.atan2(right[0, 2], right[2, 2]) == pytest.approx(angle)  # z forward towards x right
    assert math.atan2(left[0, 2], left[2, 2]) == pytest.approx(-angle)
    way = mapping.metres if slides else 0.0
    np.testing.assert_allclose(right[:3, 3], [way * math.cos(angle), 0, -way * math.sin(angle)])
    np.testing.assert_allclose(left[:3, 3], [-way * math.cos(angle), 0, -way * math.sin(angle)])


def test_published_speeds_are_kept_and_can_be_changed() -> None:
    for mapping, metres, degrees in ((R1, 0.05, 1.2), (R2, 0.025, 0.6), (SGLANG, 0.04, 1.2)):
        assert key_path("w-1", mapping).poses[1, 2, 3] == pytest.approx(metres)
        assert np.degrees(key_path("i-1", mapping).turn_rates()[0] / 16) == pytest.approx(degrees)
    fast = R2.at_speed(8.0, 40.0)
    assert key_path("w-16", fast).speeds() == pytest.approx(np.full(16, 8.0))
    assert np.degrees(key_path("d-16", fast).turn_rates()) == pytest.approx(np.full(16, 40.0))


def test_released_keys_coast_and_fresh_ones_act_at_once() -> None:
    speeds = key_path("w-2,none-3,w-1,wd-1,d-1", R2).speeds() / 16 / R2.metres
    coast = math.exp(-1 / 16)
    expected = [1, 1, coast, coast**2, coast**3, 1, 1, coast]
    assert speeds == pytest.approx(np.array(expected))
    # Let go of s while w is down: no key is fresh, so it comes up to speed by and by.
    eased = key_path("ws-1,w-2", R2).speeds() / 16 / R2.metres
    press = math.exp(-1 / 16 / 0.45)
    assert eased == pytest.approx(np.array([0, 1 - press, 1 - press**2]))


def test_a_tilt_stops_at_its_limit_and_the_camera_still_goes_level() -> None:
    for mapping, limit in ((R1, 84.0), (R2, 60.0)):  # 70 steps of 1.2, and exactly the bound
        path = key_path("i-200,w-5", mapping)
        assert math.degrees(math.asin(-path.poses[-1, 1, 2])) == pytest.approx(limit)
        assert np.abs(path.poses[:, 1, 3]).max() == 0.0
        assert path.speeds()[-1] == pytest.approx(mapping.metres * 16)


def test_a_camera_beyond_the_limit_comes_back_and_goes_no_further() -> None:
    beyond = math.radians(88.0)
    for mapping in (R1, R2):
        path = key_path("i-2,k-3", mapping, pitch=beyond)
        tilts = np.arcsin(-path.poses[:, 1, 2])
        assert tilts[:3] == pytest.approx(np.full(3, beyond))
        assert tilts[3:] == pytest.approx(beyond - np.arange(1, 4) * np.radians(mapping.turn_deg))


def test_a_camera_that_looks_down_walks_level_all_the_same() -> None:
    down = math.radians(-10.0)
    path = key_path("w-8,d-9,w-8", R2, pitch=down)
    assert np.abs(path.poses[:, 1, 3]).max() == 0.0
    assert np.arcsin(-path.poses[:, 1, 2]) == pytest.approx(np.full(26, down))
    assert keys_of(path.beginning_at(np.eye(4)), R2, pitch=down) == "w-8,d-9,w-8"


@pytest.mark.parametrize("mapping", [R1, R2, SGLANG], ids=str)
def test_the_keys_of_a_path_make_it_again(mapping: Any) -> None:
    path = key_path(TEXT, mapping)
    # As files have it: rounded to float32, in another world frame.
    stored = CameraPath(path.poses.astype(np.float32).astype(np.float64))
    assert keys_of(stored, mapping) == format_keys(parse_keys(TEXT))


def test_keys_without_effect_do_not_hide_the_rest() -> None:
    # At 20 degrees a frame the limits are soon reached.
    steep = [mapping.at_speed(None, 320.0) for mapping in (R1, R2)]
    for text in ("i-6,i-2,d-3", "ws-2,w-3", "i-7,none-2,i-3,k-2"):
        for mapping in steep:
            path = key_path(text, mapping)
            again = key_path(keys_of(path, mapping), mapping)
            np.testing.assert_allclose(again.poses, path.poses, atol=1e-12)


def test_motion_that_no_key_makes_is_named() -> None:
    zeros = np.zeros((3, 3))
    climbing, rolling = zeros.copy(), zeros.copy()
    climbing[1, 1], rolling[2, 2] = -0.1, 0.2
    for path, named in (
        (from_steps(climbing, zeros), r"climbs by 0\.100 m in frame 2"),
        (from_steps(zeros, rolling), r"rolls by 11\.46 degrees"),
        (key_path("w-3", R1), r"0\.050 m ahead.* in frame 0.*'release-2'"),
    ):
        with pytest.raises(ValueError, match=named):
            keys_of(path, R2)


@pytest.mark.parametrize("text", ["w-16,dw-8,none-4", "W16 dw8 none4", " w - 16 , WD-8;none-4"])
def test_words_are_read_with_and_without_marks(text: str) -> None:
    if ";" in text:
        with pytest.raises(ValueError, match="';none-4'"):
            parse_keys(text)
        return
    assert format_keys(parse_keys(text)) == "w-16,wd-8,none-4"


@pytest.mark.parametrize("text", ["", "w", "w-0", "x-3", "w-3-4", "w-3.5", "12"])
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="actions: got"):
        parse_keys(text)


def test_a_mapping_has_to_be_one_of_the_published() -> None:
    with pytest.raises(ValueError, match=r"'wasd'.*release-1.*release-2.*sglang"):
        find_mapping("wasd")
    assert "a/d turn, j/l slide, 0.025 m and 0.6 degrees a frame" in str(R2)
