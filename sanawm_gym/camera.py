"""Pinhole cameras: intrinsics in pixels, pictures cut to size with them, the mount on the car.

A pixel (u, v), counted from 0 at the top left, is seen along ((u + 0.5 - cx) / fx,
(v + 0.5 - cy) / fy, 1) in the OpenCV camera frame (x right, y down, z forward), so a centred camera
has cx = width / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

MIN_FOV_DEG = 25.0  # the world model was trained on lenses between these two
MAX_FOV_DEG = 120.0

# Columns: the camera's right, down and forward axes in the vehicle frame (x forward, y left, z up).
VEHICLE_FROM_LEVEL_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics of a picture of `width` x `height` pixels.

    Attributes:
        fx: Horizontal focal length [px], > 0.
        fy: Vertical focal length [px], > 0.
        cx: Principal point from the left edge [px].
        cy: Principal point from the top edge [px].
        width: Picture width [px], >= 1.
        height: Picture height [px], >= 1.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        """Check that this is a lens at all (`check` asks for one the world model knows)."""
        if not all(math.isfinite(value) for value in (self.fx, self.fy, self.cx, self.cy)):
            raise ValueError(f"intrinsics: got {self}, expected finite pixels; give fx, fy, cx, cy")
        if min(self.fx, self.fy) <= 0 or min(self.width, self.height) < 1:
            raise ValueError(
                f"intrinsics: got {self}, expected positive focal lengths and a picture of at "
                "least 1x1; give focal lengths in pixels of the stated size"
            )

    @classmethod
    def from_fov(cls, horizontal_fov_deg: float, width: int, height: int) -> Intrinsics:
        """Centred square-pixel camera: fx = fy = width / (2 tan(fov / 2)).

        Args:
            horizontal_fov_deg: Horizontal field of view [deg], within 25-120.
            width: Picture width [px].
            height: Picture height [px].

        Raises:
            ValueError: If the field of view lies outside 25-120 degrees.
        """
        if not MIN_FOV_DEG <= horizontal_fov_deg <= MAX_FOV_DEG:  # also false for NaN
            raise ValueError(_fov_message(horizontal_fov_deg))
        focal = width / (2.0 * math.tan(math.radians(horizontal_fov_deg) / 2.0))
        return cls(focal, focal, width / 2.0, height / 2.0, width, height)

    @property
    def horizontal_fov_deg(self) -> float:
        """Angle between the left and right picture edges [deg]."""
        return math.degrees(
            math.atan(self.cx / self.fx) + math.atan((self.width - self.cx) / self.fx)
        )

    @property
    def vertical_fov_deg(self) -> float:
        """Angle between the top and bottom picture edges [deg]."""
        return math.degrees(
            math.atan(self.cy / self.fy) + math.atan((self.height - self.cy) / self.fy)
        )

    def as_array(self) -> Float64[np.ndarray, " 4"]:
        """The four numbers fx, fy, cx, cy [px]."""
        return np.array([self.fx, self.fy, self.cx, self.cy], dtype=np.float64)

    def check(self) -> Intrinsics:
        """Return self when the horizontal field of view lies in 25-120 degrees.

        Raises:
            ValueError: If it does not.
        """
        # A lens made by `from_fov` at a bound comes back with a rounding error of its arctangents.
        if not MIN_FOV_DEG - 1e-9 <= self.horizontal_fov_deg <= MAX_FOV_DEG + 1e-9:
            raise ValueError(_fov_message(self.horizontal_fov_deg))
        return self


def _fov_message(fov_deg: float) -> str:
    return (
        f"field of view: got {fov_deg:g} degrees, expected {MIN_FOV_DEG:g} to {MAX_FOV_DEG:g} "
        "(horizontal); pass focal lengths in pixels of the picture you give, and rectify fisheye "
        "pictures first"
    )


def fit_intrinsics(
    intrinsics: Intrinsics, width: int, height: int
) -> tuple[Intrinsics, tuple[float, float, float, float]]:
    """Lens of a picture that is scaled to cover a size and cut to it around its middle.

    With s the scale and (l, t) the cut corner in source pixels: f' = s f, c' = s (c - (l, t)).

    Args:
        intrinsics: Lens of the given picture [px].
        width: Target width [px].
        height: Target height [px].

    Returns:
        The new lens, and left, top, right and bottom of what is kept [px of the given picture].
    """
    scale = max(width / intrinsics.width, height / intrinsics.height)
    left = (intrinsics.width - width / scale) / 2.0
    top = (intrinsics.height - height / scale) / 2.0
    fitted = replace(
        intrinsics,
        fx=intrinsics.fx * scale,
        fy=intrinsics.fy * scale,
        cx=(intrinsics.cx - left) * scale,
        cy=(intrinsics.cy - top) * scale,
        width=width,
        height=height,
    )
    return fitted, (left, top, left + width / scale, top + height / scale)


def fit_image(
    image: UInt8[np.ndarray, "*f h w 3"], intrinsics: Intrinsics, width: int, height: int
) -> tuple[UInt8[np.ndarray, "*f height width 3"], Intrinsics]:
    """Scale pictures to cover the target, cut the middle out, move the intrinsics along.

    Scale and cut are one resampling with an antialiased bicubic kernel, so the corner need not fall
    on a whole pixel; `fit_intrinsics` says where it is.

    Args:
        image: One picture or a stack of them, RGB.
        intrinsics: Lens of the given picture [px].
        width: Target width [px].
        height: Target height [px].

    Returns:
        The picture at `height` x `width` and its intrinsics.

    Raises:
        ValueError: If the picture's size is not the one the intrinsics state.
    """
    *leading, source_height, source_width, _ = image.shape
    if (source_width, source_height) != (intrinsics.width, intrinsics.height):
        raise ValueError(
            f"fit_image: got a picture of {source_width}x{source_height}, expected the "
            f"intrinsics' {intrinsics.width}x{intrinsics.height}; "
            "state intrinsics in pixels of this very picture"
        )
    fitted, box = fit_intrinsics(intrinsics, width, height)
    if (source_width, source_height) == (width, height):
        return image, fitted
    frames = [
        np.asarray(
            Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box=box)
        )
        for frame in image.reshape(-1, source_height, source_width, 3)
    ]
    return np.stack(frames).reshape(*leading, height, width, 3), fitted


@dataclass(frozen=True, kw_only=True)
class CameraRig:
    """Where the camera sits on the car.

    Attributes:
        x: Ahead of the rear axle [m].
        y: To the left of the centre line [m].
        z: Above the ground [m], > 0.
        pitch_deg: Positive looks down (right-handed about the left axis) [deg], within +-45.
        yaw_deg: Positive looks left [deg], within +-180.
    """

    x: float = 1.5
    y: float = 0.0
    z: float = 1.5
    pitch_deg: float = 0.0
    yaw_deg: float = 0.0

    def __post_init__(self) -> None:
        """Check the mount."""
        if not all(
            math.isfinite(v) for v in (self.x, self.y, self.z, self.pitch_deg, self.yaw_deg)
        ):
            raise ValueError(
                f"rig: got {self}, expected finite metres and degrees; name every number"
            )
        if self.z <= 0 or abs(self.pitch_deg) > 45 or abs(self.yaw_deg) > 180:
            raise ValueError(
                f"rig: got {self}, expected z > 0 m, pitch within +-45 degrees and yaw within "
                "+-180; measure x ahead of the rear axle, y to the left and z above the ground"
            )

    def vehicle_from_camera(self) -> Float64[np.ndarray, "4 4"]:
        """Mount as a rigid transform [m]."""
        mount = np.eye(4)
        turn = Rotation.from_euler("ZY", [self.yaw_deg, self.pitch_deg], degrees=True).as_matrix()
        mount[:3, :3] = turn @ VEHICLE_FROM_LEVEL_CAMERA
        mount[:3, 3] = (self.x, self.y, self.z)
        return mount


def camera_poses(
    world_from_vehicle: Float[np.ndarray, "*b 4 4"], rig: CameraRig
) -> Float[np.ndarray, "*b 4 4"]:
    """Camera poses `world_from_camera` [m] of a vehicle's poses [m] under a fixed mount."""
    return np.asarray(np.matmul(world_from_vehicle, rig.vehicle_from_camera()))
