"""Where a picture's lens is known from, in which order, and what is refused."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from PIL import ExifTags, Image

from sanawm_gym.worldmodel.official.intrinsics import ASSUMED_FOV_DEG, find_lens


def photograph(size: tuple[int, int] = (300, 200), **tags: Any) -> Image.Image:
    """A picture as it comes out of a file, with EXIF of a camera."""
    picture = Image.new("RGB", size)
    exif = picture.getexif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner.update({ExifTags.Base[name]: value for name, value in tags.items()})
    file = io.BytesIO()
    picture.save(file, "jpeg", exif=exif)
    return Image.open(file)


def test_what_is_given_comes_first() -> None:
    picture = photograph(FocalLengthIn35mmFilm=50)
    lens = find_lens(picture, given=(250.0, 240.0, 140.0, 90.0))
    assert lens.origin == "given" and list(lens.intrinsics.as_array()) == [250, 240, 140, 90]
    by_angle = find_lens(picture, horizontal_fov_deg=90.0)
    assert by_angle.origin == "field of view"
    assert by_angle.intrinsics.fx == pytest.approx(150.0)
    with pytest.raises(ValueError, match="expected one of them"):
        find_lens(picture, given=(250.0, 240.0, 140.0, 90.0), horizontal_fov_deg=90.0)


def test_a_focal_length_on_film_compares_diagonals() -> None:
    lens = find_lens(photograph(FocalLengthIn35mmFilm=28))
    assert lens.origin == "EXIF"
    # 3:2 as film: the same angle as 28 mm before a frame 36 mm wide.
    assert lens.intrinsics.horizontal_fov_deg == pytest.approx(
        math.degrees(2 * math.atan(18 / 28)), abs=0.01
    )
    tall = find_lens(photograph((200, 300), FocalLengthIn35mmFilm=28))
    assert tall.intrinsics.fx == pytest.approx(lens.intrinsics.fx)


def test_a_focal_length_of_the_sensor_follows_a_smaller_copy() -> None:
    tags = {
        "FocalLength": 6.0,
        "FocalPlaneXResolution": 500.0,
        "FocalPlaneResolutionUnit": 4,
        "ExifImageWidth": 3000,
    }
    lens = find_lens(photograph(**tags))
    assert lens.origin == "EXIF" and lens.intrinsics.fx == pytest.approx(300.0)


def test_an_estimator_is_asked_only_when_nothing_is_known() -> None:
    asked = []

    def estimator(picture: Image.Image) -> tuple[float, float, float, float]:
        asked.append(picture.size)
        return (200.0, 210.0, 150.0, 100.0)

    assert find_lens(photograph(FocalLengthIn35mmFilm=28), estimator=estimator).origin == "EXIF"
    assert not asked
    lens = find_lens(photograph(FocalLengthIn35mmFilm=0), estimator=estimator)
    assert lens.origin == "estimated" and asked == [(300, 200)]
    assert lens.intrinsics.fy == 210.0


def test_a_picture_nothing_is_known_of_gets_the_documented_lens() -> None:
    lens = find_lens(Image.new("RGB", (320, 180)))
    assert lens.origin == "assumed"
    assert lens.intrinsics.horizontal_fov_deg == pytest.approx(ASSUMED_FOV_DEG)


@pytest.mark.parametrize(
    ("size", "focal", "named"),
    [
        ((300, 200), 700.0, "horizontal"),
        ((300, 200), 80.0, "horizontal"),
        ((300, 90), 250.0, "vertical"),
    ],
)
def test_a_lens_that_the_network_never_saw_is_refused(
    size: tuple[int, int], focal: float, named: str
) -> None:
    with pytest.raises(ValueError, match=f"lens \\(given\\): got a {named}"):
        find_lens(Image.new("RGB", size), given=(focal, focal, size[0] / 2, size[1] / 2))
