"""The dashboard shows the motion and leaves the picture alone."""

import numpy as np
import pytest

from sanawm_gym.overlay import Overlay, OverlayConfig

FRAME = np.full((72, 128, 3), 90, dtype=np.uint8)


def _wheel_mark(picture: np.ndarray) -> tuple[float, float]:
    """Centre (x, y) of the coloured mark on the rim, in pixels."""
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    rows, columns = np.nonzero(red - blue > 80)
    return float(columns.mean()), float(rows.mean())


def test_a_frame_is_enlarged_by_the_scale_and_left_as_it_was() -> None:
    frame = FRAME.copy()
    shown = Overlay(OverlayConfig(scale=3)).draw(frame, speed=10.0, steer=0.1)
    assert shown.shape == (216, 384, 3)
    assert shown.dtype == np.uint8
    assert np.array_equal(frame, FRAME)


def test_without_a_dashboard_a_flat_frame_stays_flat() -> None:
    shown = Overlay(OverlayConfig(dashboard=False)).draw(FRAME, speed=10.0, steer=0.1)
    assert np.unique(shown).tolist() == [90]


def test_the_wheel_turns_left_for_a_positive_angle_and_right_for_a_negative_one() -> None:
    overlay = Overlay()
    straight, left, right = (
        _wheel_mark(overlay.draw(FRAME, speed=10.0, steer=steer))[0] for steer in (0.0, 0.1, -0.1)
    )
    assert left < straight - 5
    assert right > straight + 5
    assert abs((left + right) / 2 - straight) < 1


def test_the_speed_is_shown_in_whole_kilometres_an_hour() -> None:
    overlay = Overlay()
    slow, same, fast = (overlay.draw(FRAME, speed=v, steer=0.0) for v in (10.0, 10.05, 20.0))
    assert np.array_equal(slow, same)
    assert not np.array_equal(slow, fast)


def test_a_scale_out_of_range_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match="scale: got 0, expected 1 to 16"):
        OverlayConfig(scale=0)
