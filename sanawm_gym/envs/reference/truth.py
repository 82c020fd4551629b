"""What is true about a car on a reference road: offsets, curvature, edges, the vehicle ahead."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.vehicle import SPEED, YAW, VehicleConfig, X, Y

from .road import Lane, Road

LOOKAHEAD = 20.0  # curvature is averaged over this length [m]
LEAD_RANGE = 100.0  # vehicles farther ahead do not count [m]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One moment of a drive. Every number is finite.

    Attributes:
        lane_offset: Rear axle to the middle of its lane [m], + left of it.
        heading_error: Heading relative to the lane [rad], + turned left, in [-pi, pi).
        curvature_ahead: Mean curvature of the road over the next 20 m [1/m], + left.
        left_edge: Rear axle to the left edge of the road [m], negative beyond it.
        right_edge: Rear axle to the right edge [m], negative beyond it.
        lead_distance: Bumper to bumper to the vehicle ahead in the lane [m]; 100 if there is none
            nearer.
        lead_speed: Speed at which that gap closes [m/s], + when it shrinks; 0 if there is none.
        on_road: Whether the middle of the car lies between the edges.
        crashed: Whether the car has touched another vehicle.
    """

    lane_offset: float
    heading_error: float
    curvature_ahead: float
    left_edge: float
    right_edge: float
    lead_distance: float
    lead_speed: float
    on_road: bool
    crashed: bool

    def as_dict(self) -> dict[str, float | bool]:
        """All fields by name."""
        return asdict(self)


TRUTH_NAMES = tuple(Truth.__dataclass_fields__)


def nearest_lane(road: Road, s: float, d: float) -> Lane:
    """The forward lane that a car at (s, d) should drive in."""
    return min(road.open_lanes(s), key=lambda lane: abs(d - lane.center))


def box_center(state: Float64[np.ndarray, "6"], vehicle: VehicleConfig) -> Float64[np.ndarray, "4"]:
    """x, y of the middle of the car, heading, speed."""
    yaw, ahead = state[YAW], vehicle.rear_axle_to_center
    return np.array(
        [state[X] + ahead * np.cos(yaw), state[Y] + ahead * np.sin(yaw), yaw, state[SPEED]]
    )


def corners(state: Float64[np.ndarray, "6"], vehicle: VehicleConfig) -> Float64[np.ndarray, "4 2"]:
    """Corners of the car on the ground [m]."""
    x, y, yaw, _ = box_center(state, vehicle)
    along = np.array([np.cos(yaw), np.sin(yaw)]) * vehicle.length / 2
    across = np.array([-np.sin(yaw), np.cos(yaw)]) * vehicle.width / 2
    signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    return np.asarray(np.array([x, y]) + signs @ np.stack([along, across]))


def distance_outside(state: Float64[np.ndarray, "6"], vehicle: VehicleConfig, road: Road) -> float:
    """How far the whole car has left the road [m]; negative while a corner is on it."""
    points = corners(state, vehicle)
    return float(road.outside(points[:, 0], points[:, 1]).min())


def measure(
    road: Road,
    state: Float64[np.ndarray, "6"],
    others: Float64[np.ndarray, "n 6"],
    *,
    vehicle: VehicleConfig,
    crashed: bool,
) -> Truth:
    """Read the truth of a state.

    Args:
        road: The road.
        state: The ego (`sanawm_gym.vehicle` columns).
        others: x, y, heading, speed, length, width of the other vehicles.
        vehicle: The ego's size.
        crashed: Whether the ego has crashed.
    """
    s, d = road.locate(state[X], state[Y])
    heading = road.heading_at(s)
    error = (state[YAW] - heading + np.pi) % (2 * np.pi) - np.pi
    lane = nearest_lane(road, s, d)
    center = box_center(state, vehicle)
    distance, closing = lead(road, state, others, vehicle)
    return Truth(
        lane_offset=d - lane.center,
        heading_error=float(error),
        curvature_ahead=float(road.curvature_at(s + np.linspace(0.0, LOOKAHEAD, 21)).mean()),
        left_edge=float(road.left_edge(s)) - d,
        right_edge=d - float(road.right_edge(s)),
        lead_distance=distance,
        lead_speed=closing,
        on_road=bool(road.outside(center[0], center[1]) <= 0.0),
        crashed=crashed,
    )


def lead(
    road: Road,
    state: Float64[np.ndarray, "6"],
    others: Float64[np.ndarray, "n 6"],
    vehicle: VehicleConfig,
) -> tuple[float, float]:
    """Gap to the vehicle ahead in the ego's way [m] and the speed at which it closes [m/s]."""
    if len(others) == 0:
        return LEAD_RANGE, 0.0
    center = box_center(state, vehicle)
    s, d = road.locate(center[0], center[1])
    other_s, other_d = road.project(others[:, 0], others[:, 1])
    gap = other_s - s - (vehicle.length + others[:, 4]) / 2
    overlap = np.abs(other_d - d) < 0.3 + (vehicle.width + others[:, 5]) / 2
    candidates = np.flatnonzero(overlap & (other_s > s) & (gap < LEAD_RANGE))
    if len(candidates) == 0:
        return LEAD_RANGE, 0.0
    first = candidates[np.argmin(gap[candidates])]
    along = road.heading_at(other_s[first])
    speed = others[first, 3] * np.cos(others[first, 2] - along)
    ego_speed = state[SPEED] * np.cos(state[YAW] - along)
    return max(float(gap[first]), 0.0), float(ego_speed - speed)
