"""What the car did, out of where its camera was: the columns of a recording that poses can tell.

Nobody knows the wheel and the pedals of a foreign drive. `steer` is the angle at which the gym's
own car would go round the same bend, so that a drive may begin where a recording ends.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.signal import savgol_filter

from sanawm_gym.episodes import EGO_COLUMNS, FLAG_COLUMNS, TRUTH_COLUMNS
from sanawm_gym.vehicle import VehicleConfig

from .config import FPS

_WINDOW = 9
"""Frames of the parabola whose derivative is a speed: half a second."""
_TOP_SPEED = 70.0
"""Nothing on a road is faster [m/s]."""
_CRAWL = 1.0
"""Speed under which a bend tells no steering angle [m/s]."""

Columns = dict[str, np.ndarray | list[str]]


def ego_columns(poses: Float64[np.ndarray, "n 4 4"]) -> dict[str, Float64[np.ndarray, " n"]]:
    """Ego columns of level poses at even times.

    Args:
        poses: world_from_camera [m], z up.

    Returns:
        speed [m/s] (the camera's, along its heading), acceleration [m/s^2], yaw [rad], yaw_rate
        [rad/s], steer [rad], and x, y [m] of the point under the camera.

    Raises:
        ValueError: If the speed is not one of a car.
    """
    heading = poses[:, :2, 2] / np.linalg.norm(poses[:, :2, 2], axis=1, keepdims=True)
    yaw = np.unwrap(np.arctan2(heading[:, 1], heading[:, 0]))
    velocity = _rate(poses[:, :2, 3])
    speed = (velocity * heading).sum(axis=1)
    top = float(np.abs(speed).max())
    if top > _TOP_SPEED:
        raise ValueError(
            f"speed: got {top:.0f} m/s at frame {int(np.abs(speed).argmax())}, expected at most "
            f"{_TOP_SPEED:g}; are the positions in metres, the times in seconds, and without jumps?"
        )
    yaw_rate = _rate(yaw)
    car = VehicleConfig()
    bend = car.wheelbase * yaw_rate / np.where(np.abs(speed) > _CRAWL, speed, np.inf)
    return {
        "speed": speed,
        "steer": np.clip(np.arctan(bend), -car.max_steer, car.max_steer),
        "acceleration": _rate(speed),
        "yaw_rate": yaw_rate,
        "x": poses[:, 0, 3].copy(),
        "y": poses[:, 1, 3].copy(),
        "yaw": yaw,
    }


def _rate(values: Float64[np.ndarray, "n *k"]) -> Float64[np.ndarray, "n *k"]:
    """Derivative by time of smoothed values."""
    return np.asarray(savgol_filter(values, _WINDOW, 2, deriv=1, delta=1 / FPS, axis=0))


def unknown_columns(num_frames: int) -> Columns:
    """Columns that nobody knows of a foreign drive: numbers are NaN, the car is on the road."""
    columns: Columns = {name: np.full(num_frames, np.nan) for name in TRUTH_COLUMNS}
    columns |= {name: np.full((num_frames, 2), np.nan) for name in ("action", "expert_action")}
    columns |= {name: np.full(num_frames, name == "on_road") for name in FLAG_COLUMNS}
    assert not set(columns) & set(EGO_COLUMNS)
    return columns
