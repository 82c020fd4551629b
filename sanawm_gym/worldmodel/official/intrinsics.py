"""The lens of a picture: given, written in the file, estimated, or assumed.

Tried in this order, and the answer says which it was. Every answer has to lie within the fields of
view the network was trained on, in both directions; a lens that does not is an error, never bent
into the range.

EXIF states a focal length in millimetres of 35 mm film, which by the standard compares diagonals
(43.27 mm), or in millimetres of the sensor together with the sensor's pixels per unit of length at
the size the picture was taken in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from PIL import ExifTags, Image

from sanawm_gym.camera import MAX_FOV_DEG, MIN_FOV_DEG, Intrinsics

Origin = Literal["given", "field of view", "EXIF", "estimated", "assumed"]
Estimator = Callable[[Image.Image], "tuple[float, float, float, float]"]
"""From a picture to fx, fy, cx, cy in its pixels; the release uses Pi3X."""

ASSUMED_FOV_DEG = 70.0
"""Horizontal field of view of a picture that nothing is known of: about that of a phone's or a
dash camera's main lens held level. A wrong one bends the space, it does not break the drawing."""
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""EXIF's units of sensor resolution: inch, centimetre, millimetre, micrometre."""


@dataclass(frozen=True, kw_only=True)
class KnownLens:
    """A lens and where it is known from."""

    intrinsics: Intrinsics
    origin: Origin


def find_lens(
    picture: Image.Image,
    *,
    given: tuple[float, float, float, float] | None = None,
    horizontal_fov_deg: float | None = None,
    estimator: Estimator | None = None,
) -> KnownLens:
    """Lens of a picture.

    Args:
        picture: As opened from its file, so that EXIF is there.
        given: fx, fy, cx, cy in pixels of the picture.
        horizontal_fov_deg: Angle between its left and right edges [deg].
        estimator: Asked when neither is given and the file says nothing.

    Raises:
        ValueError: If two lenses are given, or the lens is outside 25 to 120 degrees.
    """
    width, height = picture.size
    if given is not None and horizontal_fov_deg is not None:
        raise ValueError("got intrinsics and a field of view, expected one of them")
    if given is not None:
        return _checked(Intrinsics(*given, width, height), "given")
    if horizontal_fov_deg is not None:
        lens = Intrinsics.from_fov(horizontal_fov_deg, width, height)
        return _checked(lens, "field of view")
    focal_px = exif_focal_px(picture)
    if focal_px is not None:
        return _checked(_centred(focal_px, width, height), "EXIF")
    if estimator is not None:
        fx, fy, cx, cy = (float(number) for number in np.asarray(estimator(picture)))
        return _checked(Intrinsics(fx, fy, cx, cy, width, height), "estimated")
    return _checked(Intrinsics.from_fov(ASSUMED_FOV_DEG, width, height), "assumed")


def check_lenses(
    intrinsics: Float[np.ndarray, "*n 4"], shape: tuple[int, ...], picture: tuple[int, int]
) -> Float64[np.ndarray, "*n 4"]:
    """Lenses of the pictures of a path, which may zoom.

    Args:
        intrinsics: fx, fy, cx, cy of every picture [px].
        shape: That they must have.
        picture: Height and width of the pictures [px].

    Raises:
        ValueError: If they have another shape, or a lens is outside 25 to 120 degrees.
    """
    lenses = np.asarray(intrinsics, dtype=np.float64)
    if lenses.shape != shape:
        raise ValueError(
            f"intrinsics: got shape {lenses.shape}, expected {shape}; give fx, fy, cx, cy of every "
            "picture"
        )
    sides = np.array([picture[1], picture[0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        angles = np.degrees(2 * np.arctan(sides / (2 * lenses[..., :2])))
    good = (angles >= MIN_FOV_DEG - 1e-9) & (angles <= MAX_FOV_DEG + 1e-9)
    if not (good.all() and np.isfinite(lenses).all()):
        worst = lenses.reshape(-1, 4)[int(np.argmin(good.all(axis=-1).reshape(-1)))]
        raise ValueError(
            f"intrinsics: got {worst.tolist()} for pictures of {picture[1]}x{picture[0]}, expected "
            f"fields of view of {MIN_FOV_DEG:g} to {MAX_FOV_DEG:g} degrees; zoom less"
        )
    return lenses


def exif_focal_px(picture: Image.Image) -> float | None:
    """Focal length in pixels of the picture, as far as EXIF says it; else None."""
    tags = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    width, height = picture.size
    on_film = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if on_film:
        return on_film / _FILM_DIAGONAL_MM * math.hypot(width, height)
    focal_mm = _number(tags.get(ExifTags.Base.FocalLength))
    density = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    taken_width = _number(tags.get(ExifTags.Base.ExifImageWidth))
    unit_mm = _MM_PER_UNIT.get(int(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)))
    if not focal_mm or not density or not taken_width or unit_mm is None:
        return None
    return focal_mm * density / unit_mm * width / taken_width


def _number(value: object) -> float | None:
    """A tag as a positive number, or None; EXIF writes 0 for what is not known."""
    if not isinstance(value, int | float) and not hasattr(value, "numerator"):
        return None
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) and number > 0 else None


def _centred(focal_px: float, width: int, height: int) -> Intrinsics:
    return Intrinsics(focal_px, focal_px, width / 2, height / 2, width, height)


def _checked(lens: Intrinsics, origin: Origin) -> KnownLens:
    for name, angle in (
        ("horizontal", lens.horizontal_fov_deg),
        ("vertical", lens.vertical_fov_deg),
    ):
        if not MIN_FOV_DEG - 1e-9 <= angle <= MAX_FOV_DEG + 1e-9:
            raise ValueError(
                f"lens ({origin}): got a {name} field of view of {angle:.1f} degrees, expected "
                f"{MIN_FOV_DEG:g} to {MAX_FOV_DEG:g}; give intrinsics of this very picture, or "
                "cut the picture"
            )
    return KnownLens(intrinsics=lens, origin=origin)
