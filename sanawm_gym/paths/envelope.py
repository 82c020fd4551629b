"""The motion that a world was trained on, and where a path leaves it.

A world draws whatever path it is given, but what it never saw it draws badly. So a path outside is
not refused; it is told, with the first frame and the numbers.

Axes: n frames.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sanawm_gym.vehicle import VehicleConfig

from .camera_path import CameraPath


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Greatest motion of a camera, upright axes.

    Attributes:
        name: What moves like this.
        forward: Along the heading [m/s].
        backward: Against it [m/s].
        sideways: Across it [m/s].
        vertical: Up or down [m/s].
        yaw: About the vertical [rad/s].
        tilt: About any level axis [rad/s].
    """

    name: str
    forward: float
    backward: float
    sideways: float
    vertical: float
    yaw: float
    tilt: float

    def in_unit(self, metres: float) -> Envelope:
        """The same for a network that takes so many metres for one: lengths grow, turns do not."""
        ways = ("forward", "backward", "sideways", "vertical")
        return dataclasses.replace(self, **{way: metres * getattr(self, way) for way in ways})


_VEHICLE = VehicleConfig()
CAR = Envelope(
    name="a car on a level road",
    forward=_VEHICLE.max_speed + 1.0,
    backward=0.1,
    # The axle does not slide; a camera 1.5 m ahead of it swings with the yaw rate.
    sideways=1.5 * _VEHICLE.max_yaw_rate + 0.2,
    vertical=0.3,
    yaw=_VEHICLE.max_yaw_rate + 0.1,
    tilt=0.1,
)
"""What the bundled world was trained on."""
WALK = Envelope(
    name="a walking camera",
    forward=0.8,
    backward=0.8,
    sideways=0.8,
    vertical=0.8,
    yaw=math.radians(19.2),
    tilt=math.radians(19.2),
)
"""What the released SANA-WM is shown with: 0.05 m and 1.2 degrees a frame are its first release's
keys; its benchmark keeps to 0.4 m/s and 12 degrees a second, its second release's keys to 0.4 m/s
and 9.6."""
ENVELOPES = {"car": CAR, "walk": WALK}


def departures(path: CameraPath, envelope: Envelope) -> list[str]:
    """Where a path leaves an envelope: one line for every kind of motion, none if it stays inside.

    Args:
        path: In a world frame with z up.
        envelope: What the world knows.
    """
    if path.num_frames < 2:
        return []
    motions = _motions(path)
    limits = {name: getattr(envelope, name) for name in motions}
    lines = []
    for name, values in motions.items():
        outside = np.flatnonzero(values > limits[name] * (1 + 1e-6))
        if len(outside):
            turns = name in ("yaw", "tilt")
            unit, factor = ("degrees/s", math.degrees(1.0)) if turns else ("m/s", 1.0)
            lines.append(
                f"{name} motion reaches {factor * values.max():.2f} {unit}, beyond "
                f"{factor * limits[name]:.2f} of {envelope.name}, in {len(outside)} of "
                f"{len(values)} frames, {outside[0] + 1} the first"
            )
    return lines


def _motions(path: CameraPath) -> dict[str, Float64[np.ndarray, " m"]]:
    """Motion of every frame by the fields of an envelope; m = n - 1."""
    rotations = path.poses[:, :3, :3]
    # The right hand side of an upright camera is level whatever its tilt.
    right = rotations[:-1, :2, 0] / np.maximum(
        np.linalg.norm(rotations[:-1, :2, 0], axis=1, keepdims=True), 1e-9
    )
    heading = np.stack([-right[:, 1], right[:, 0]], axis=1)
    velocity = np.diff(path.poses[:, :3, 3], axis=0) * path.fps
    ahead = (velocity[:, :2] * heading).sum(axis=1)
    aside = (velocity[:, :2] * right).sum(axis=1)
    turns = Rotation.from_matrix(rotations[1:] @ rotations[:-1].swapaxes(1, 2)).as_rotvec()
    turns = turns * path.fps
    return {
        "forward": np.maximum(ahead, 0.0),
        "backward": np.maximum(-ahead, 0.0),
        "sideways": np.abs(aside),
        "vertical": np.abs(velocity[:, 2]),
        "yaw": np.abs(turns[:, 2]),
        "tilt": np.asarray(np.linalg.norm(turns[:, :2], axis=1)),
    }
