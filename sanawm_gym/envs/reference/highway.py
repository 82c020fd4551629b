"""The seam to HighwayEnv: our lanes and our ego in its terms. Nothing else imports it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float64

from .road import Lane, Road


def import_highway() -> SimpleNamespace:
    """The parts of HighwayEnv that are used, imported now.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        from highway_env.road.road import Road as HighwayRoad
        from highway_env.road.road import RoadNetwork
        from highway_env.vehicle.behavior import IDMVehicle
        from highway_env.vehicle.kinematics import Vehicle
        from highway_env.vehicle.objects import Obstacle
    except ImportError as error:
        raise ModuleNotFoundError(
            "the reference world's traffic needs HighwayEnv: pip install 'sanawm-gym[reference]'",
            name="highway_env",
        ) from error
    return SimpleNamespace(
        Road=HighwayRoad,
        RoadNetwork=RoadNetwork,
        IDMVehicle=IDMVehicle,
        Vehicle=Vehicle,
        Obstacle=Obstacle,
    )


class RoadLane:
    """One of our lanes with the methods of HighwayEnv's AbstractLane."""

    VEHICLE_LENGTH = 5.0
    forbidden = False
    priority = 0

    def __init__(self, road: Road, lane: Lane, speed_limit: float) -> None:
        """Wrap a lane.

        Args:
            road: The road it belongs to.
            lane: The lane.
            speed_limit: Speed that nobody exceeds here [m/s].
        """
        self.road, self.lane, self.speed_limit = road, lane, speed_limit
        self._start = max(lane.start, 0.0)
        self.length = min(lane.end, road.length) - self._start
        self.line_types = (0, 0)

    def _along(self, longitudinal: float) -> float:
        return self._start + (longitudinal if self.lane.forward else self.length - longitudinal)

    def position(self, longitudinal: float, lateral: float) -> Float64[np.ndarray, "2"]:
        """World position of lane coordinates [m]."""
        sign = 1.0 if self.lane.forward else -1.0
        x, y, _ = self.road.point(self._along(longitudinal), self.lane.center + sign * lateral)
        return np.array([float(x), float(y)])

    def local_coordinates(self, position: Float64[np.ndarray, "2"]) -> tuple[float, float]:
        """Lane coordinates of a world position [m]; lateral grows to the left of its direction."""
        s, d = self.road.locate(position[0], position[1])
        s, d = s - self._start, d - self.lane.center
        return (s, d) if self.lane.forward else (self.length - s, -d)

    def heading_at(self, longitudinal: float) -> float:
        """Heading of the lane [rad]."""
        heading = self.road.heading_at(self._along(longitudinal))
        return heading if self.lane.forward else heading + np.pi

    def width_at(self, longitudinal: float) -> float:
        """Width of the lane [m]."""
        return self.road.scene.lane_width

    def on_lane(
        self,
        position: Float64[np.ndarray, "2"],
        longitudinal: float | None = None,
        lateral: float | None = None,
        margin: float = 0.0,
    ) -> bool:
        """Whether a world position lies on the lane, give or take a margin [m]."""
        if longitudinal is None or lateral is None:
            longitudinal, lateral = self.local_coordinates(position)
        inside = -self.VEHICLE_LENGTH <= longitudinal < self.length + self.VEHICLE_LENGTH
        return inside and abs(lateral) <= self.road.scene.lane_width / 2 + margin

    def is_reachable_from(self, position: Float64[np.ndarray, "2"]) -> bool:
        """Whether a vehicle here may change onto the lane."""
        longitudinal, lateral = self.local_coordinates(position)
        near = abs(lateral) <= 2.0 * self.road.scene.lane_width
        return near and 0.0 <= longitudinal < self.length - 40.0

    def after_end(
        self,
        position: Float64[np.ndarray, "2"],
        longitudinal: float | None = None,
        lateral: float | None = None,
    ) -> bool:
        """Whether the lane has been driven to its end."""
        if longitudinal is None:
            longitudinal, _ = self.local_coordinates(position)
        return longitudinal > self.length - self.VEHICLE_LENGTH / 2

    def distance(self, position: Float64[np.ndarray, "2"]) -> float:
        """Distance to the lane [m], one coordinate after the other."""
        s, d = self.local_coordinates(position)
        return abs(d) + max(s - self.length, 0.0) + max(-s, 0.0)

    def distance_with_heading(
        self,
        position: Float64[np.ndarray, "2"],
        heading: float | None,
        heading_weight: float = 1.0,
    ) -> float:
        """That distance with a penalty for pointing elsewhere."""
        if heading is None:
            return self.distance(position)
        s, _ = self.local_coordinates(position)
        return self.distance(position) + heading_weight * abs(self.local_angle(heading, s))

    def local_angle(self, heading: float, long_offset: float) -> float:
        """Heading relative to the lane [rad], in [-pi, pi)."""
        return (heading - self.heading_at(long_offset) + np.pi) % (2 * np.pi) - np.pi


def build_network(road: Road, speed_limit: float) -> Any:
    """Forward lanes from a to b, oncoming ones from c to d, with no route between them."""
    network = import_highway().RoadNetwork()
    for lane in road.forward_lanes:
        network.add_lane("a", "b", RoadLane(road, lane, 1.3 * speed_limit))
    for lane in road.oncoming_lanes:
        network.add_lane("c", "d", RoadLane(road, lane, 1.3 * speed_limit))
    return network


class EgoVehicle:
    """Makes HighwayEnv vehicles that are moved from outside."""

    @staticmethod
    def create(world: Any, state: Float64[np.ndarray, "4"], size: tuple[float, float]) -> Any:
        """A vehicle at (x, y, heading, speed) of this (length, width) without dynamics."""
        base = import_highway().Vehicle

        class Ego(base):  # type: ignore[misc, valid-type]
            LENGTH, WIDTH = size

            def act(self, action: object = None) -> None:
                """Decisions come from outside."""

            def step(self, dt: float) -> None:
                """So does motion; being pushed in a crash has no effect."""
                self.impact = None

            def move_to(self, state: Float64[np.ndarray, "4"]) -> None:
                """Take a new place."""
                self.position = np.array(state[:2], dtype=np.float64)
                self.heading, self.speed = float(state[2]), float(state[3])
                self.on_state_update()

        return Ego(world, state[:2], heading=float(state[2]), speed=float(state[3]))
