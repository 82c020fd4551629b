"""Driving along waypoints: pure pursuit by time, at every raw frame.

The car steers for the place where the plan wants it `steer_ahead` seconds from now, on the arc that
is tangent to its heading, and accelerates so as to have covered the arc to the place that it shall
reach in `pace_ahead` seconds:

    curvature = 2 y / (x^2 + y^2)                     [Coulter 1992, CMU-RI-TR-92-01]
    acceleration = 2 (s - v T) / T^2,  s the arc to (x, y) in the car's frame, T = pace_ahead

Against position and speed that is a PD law with gains 2/T^2 and 2/T, well damped at T = 1 s under
the 0.2 s lag of the drive. nuPlan and NAVSIM track with an LQR over the same bicycle and seven
weights; here two times are enough, and a plan may be a single point.

Axes: b cars, k waypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.vehicle import SPEED, YAW, KinematicBicycle, X, Y

_SHORTEST_ARM = 2.0
"""Aims nearer than this do not turn the wheels any further [m]: a standing car must not wriggle."""


@dataclass(frozen=True, kw_only=True)
class PursuitConfig:
    """How a plan is followed."""

    steer_ahead: float = 0.5
    """Time ahead of the place that is steered for [s], > 0."""
    pace_ahead: float = 1.0
    """Time within which the car shall be as far as the plan [s], > 0."""

    def __post_init__(self) -> None:
        """Check both times."""
        if not (0 < self.steer_ahead < np.inf and 0 < self.pace_ahead < np.inf):
            raise ValueError(f"waypoints: got {self}, expected times above 0 s")


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Where cars shall be, in the world frame."""

    points: Float64[np.ndarray, "b k 3"]
    """x [m], y [m] and yaw [rad]; first the car when the plan was made."""
    period: float
    """Time between two of them [s]."""

    def select(self, rows: Sequence[int]) -> Plan:
        """Cars by index."""
        return Plan(points=self.points[list(rows)], period=self.period)

    def at(self, time: float) -> Float64[np.ndarray, "b 2"]:
        """Places at a time since the plan was made [s]; after its end straight on at its pace."""
        last = self.points.shape[1] - 1
        place = time / self.period
        index = min(int(place), last - 1)
        ends = self.points[:, index : index + 2, :2]
        if place <= last:
            return np.asarray(ends[:, 0] + (place - index) * (ends[:, 1] - ends[:, 0]))
        pace = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
        yaw = self.points[:, -1, 2]
        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        return np.asarray(ends[:, 1] + ((place - last) * pace)[:, None] * heading)


def plan_from(
    states: Float64[np.ndarray, "b 6"], waypoints: Float64[np.ndarray, "b k 3"], period: float
) -> Plan:
    """Waypoints in the frames of cars (x ahead, y left, yaw) as a plan in the world frame."""
    x, y, yaw = waypoints[..., 0], waypoints[..., 1], waypoints[..., 2]
    own_yaw = states[:, YAW, None]
    points = np.empty((len(states), waypoints.shape[1] + 1, 3))
    points[:, 0] = states[:, [X, Y, YAW]]
    points[:, 1:, 0] = states[:, X, None] + x * np.cos(own_yaw) - y * np.sin(own_yaw)
    points[:, 1:, 1] = states[:, Y, None] + x * np.sin(own_yaw) + y * np.cos(own_yaw)
    points[:, 1:, 2] = own_yaw + yaw
    return Plan(points=points, period=period)


def pursue(
    plan: Plan,
    time: float,
    states: Float64[np.ndarray, "b 6"],
    bicycle: KinematicBicycle,
    config: PursuitConfig,
) -> Float64[np.ndarray, "b 2"]:
    """Steer and pedals, each in [-1, 1], for cars that follow a plan.

    Args:
        plan: Where they shall be.
        time: Time since the plan was made [s].
        states: Where they are.
        bicycle: The car.
        config: How far ahead to look.
    """
    x, y = _seen_from(states, plan.at(time + config.steer_ahead))
    square = np.maximum(x * x + y * y, _SHORTEST_ARM**2)
    steer = np.arctan(bicycle.config.wheelbase * 2.0 * y / square) / bicycle.config.max_steer
    arc = _arc(*_seen_from(states, plan.at(time + config.pace_ahead)))
    lacking = arc - states[:, SPEED] * config.pace_ahead
    return np.stack([steer, pedals(2.0 * lacking / config.pace_ahead**2, bicycle)], axis=1).clip(
        -1.0, 1.0
    )


def pedals(
    acceleration: Float64[np.ndarray, " b"], bicycle: KinematicBicycle
) -> Float64[np.ndarray, " b"]:
    """Pedals that ask for an acceleration [m/s^2], unclipped."""
    gain = np.where(acceleration >= 0, bicycle.config.max_accel, bicycle.config.max_brake)
    return np.asarray(acceleration / gain)


def _seen_from(
    states: Float64[np.ndarray, "b 6"], points: Float64[np.ndarray, "b 2"]
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
    """Points ahead of and to the left of cars [m]."""
    dx, dy = points[:, 0] - states[:, X], points[:, 1] - states[:, Y]
    yaw = np.ascontiguousarray(states[:, YAW])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return dx * cos + dy * sin, dy * cos - dx * sin


def _arc(x: Float64[np.ndarray, " b"], y: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Length of the arc that leaves along x and ends in (x, y) [m]; 0 where that lies behind."""
    half = np.arctan2(y, x)
    arc = np.hypot(x, y) / np.sinc(half / np.pi)
    return np.where(x > 0, arc, 0.0)
