"""The other vehicles: HighwayEnv's IDM and MOBIL drivers and collision tests on our road.

HighwayEnv (extra `reference`) sees our road as lanes of its own kind that share one centre line;
the ego takes part as a vehicle that is moved from outside, so that others brake for it and run into
it. A number of vehicles is kept around the ego: where one falls out of range, another comes in
out of sight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from .cars import BODIES, COLORS, Car
from .highway import EgoVehicle, build_network, import_highway
from .road import Road
from .scene import SceneConfig

BEHIND, AHEAD = 70.0, 190.0  # range around the ego in which vehicles are kept [m]
REFILL_EVERY = 4  # steps between attempts to bring in a missing vehicle
COMFORT = 2.4  # lateral acceleration that other drivers accept [m/s^2]
_BODY_WEIGHTS = (0.45, 0.3, 0.15, 0.1)


class Traffic:
    """Other vehicles on one road."""

    def __init__(
        self, scene: SceneConfig, road: Road, seed: int, ego_length: float, ego_width: float
    ) -> None:
        """Build the road network; `reset` brings the vehicles.

        Args:
            scene: The world.
            road: Its road.
            seed: Seed of the vehicles (not of the world).
            ego_length: Length of the ego [m].
            ego_width: Width of the ego [m].

        Raises:
            ImportError: If HighwayEnv is not installed.
        """
        highway = import_highway()
        self.scene, self.road = scene, road
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x7AFF])))
        self._highway = highway
        self._network = build_network(road, scene.speed_limit)
        self._world = highway.Road(
            network=self._network, np_random=np.random.RandomState(seed % 2**32)
        )
        self._ego_size = (ego_length, ego_width)
        self._ego: Any = None
        self._others: list[Any] = []
        self._num_steps = 0

    @property
    def crashed(self) -> bool:
        """Whether the ego touches or has touched another vehicle."""
        return bool(self._ego is not None and self._ego.crashed)

    def reset(self, ego: Float64[np.ndarray, "4"]) -> None:
        """Place the ego (box centre x, y [m], heading [rad], speed [m/s]) and all others."""
        self._ego = EgoVehicle.create(self._world, ego, self._ego_size)
        self._others, self._num_steps = [], 0
        self._world.vehicles = [self._ego]
        s, _ = self.road.locate(ego[0], ego[1])
        for _ in range(self.scene.num_vehicles):
            self._spawn(float(s), float(self._rng.uniform(-0.8 * BEHIND, 0.75 * AHEAD)))
        if self.road.extra_span is not None and self.scene.merge == "ends":
            lane = self.road.forward_lanes[-1]
            x, y, heading = self.road.point(lane.end, lane.center)
            self._world.objects = [self._highway.Obstacle(self._world, [x, y], float(heading))]
            self._world.objects[0].collidable = False  # the end of the lane, not a thing

    def step(self, ego: Float64[np.ndarray, "4"], dt: float) -> None:
        """Advance everybody to the time when the ego is at the given place.

        Args:
            ego: Box centre x, y [m], heading [rad] and speed [m/s] of the ego after the step.
            dt: Step [s].
        """
        for vehicle in self._others:
            self._limit_speed(vehicle)
        self._world.act()
        self._ego.move_to(ego)
        self._world.step(dt)
        s, _ = self.road.locate(ego[0], ego[1])
        self._remove_far(s)
        self._num_steps += 1
        if len(self._others) < self.scene.num_vehicles and self._num_steps % REFILL_EVERY == 0:
            self._refill(s)

    def cars(self) -> list[Car]:
        """All other vehicles, as things to draw."""
        return [
            Car(
                float(v.position[0]),
                float(v.position[1]),
                float(v.heading),
                v.body_index,
                v.color_index,
                bool(v.action["acceleration"] < -1.0 and v.speed > 0.2),
            )
            for v in self._others
        ]

    def states(self) -> Float64[np.ndarray, "n 6"]:
        """x, y, heading, speed, length, width of every other vehicle."""
        rows = [[*v.position, v.heading, v.speed, v.LENGTH, v.WIDTH] for v in self._others]
        return np.array(rows, dtype=np.float64).reshape(-1, 6)

    def _limit_speed(self, vehicle: Any) -> None:
        """Slow down for the curves of the next 40 m."""
        s, _ = self.road.locate(*vehicle.position)
        direction = 1.0 if vehicle.lane_index[0] == "a" else -1.0
        ahead = s + direction * np.arange(0.0, 45.0, 5.0)
        bend = np.abs(self.road.curvature_at(ahead)) + 1e-4
        allowed = np.sqrt(COMFORT / bend + 2 * 1.5 * np.arange(0.0, 45.0, 5.0))
        vehicle.target_speed = float(min(vehicle.wanted_speed, allowed.min()))

    def _remove_far(self, ego_s: float) -> None:
        """Take out vehicles that are out of range."""
        for vehicle in list(self._others):
            s, _ = self.road.locate(*vehicle.position)
            if not -BEHIND <= s - ego_s <= AHEAD:
                self._others.remove(vehicle)
                self._world.vehicles.remove(vehicle)

    def _refill(self, ego_s: float) -> None:
        """Let a missing vehicle come in from beyond the range of sight, ahead or behind."""
        oncoming = bool(self.road.oncoming_lanes) and self._rng.random() < 0.5
        ahead = oncoming or self._rng.random() < 0.6
        self._spawn(ego_s, AHEAD - 8.0 if ahead else -BEHIND + 8.0, oncoming=oncoming)

    def _spawn(self, ego_s: float, gap: float, oncoming: bool | None = None) -> None:
        """Put a new vehicle on a free lane near ego_s + gap, unless the road is full there."""
        rng, road = self._rng, self.road
        for attempt in range(8):
            if oncoming is None:
                backwards = bool(road.oncoming_lanes) and rng.random() < 0.5
            else:
                backwards = oncoming
            lanes = road.oncoming_lanes if backwards else road.forward_lanes
            index = int(rng.integers(len(lanes)))
            s = ego_s + gap + (rng.uniform(-15.0, 15.0) if attempt else 0.0)
            lane = lanes[index]
            if not bool(road.is_usable(lane, s)) or not 2.0 < s < road.length - 2.0:
                continue
            x, y, heading = (float(value) for value in road.point(s, lane.center))
            if any(np.hypot(*(v.position - (x, y))) < 16.0 for v in self._world.vehicles):
                continue
            self._add(
                x,
                y,
                heading + (np.pi if backwards else 0.0),
                ("c", "d", index) if backwards else ("a", "b", index),
            )
            return

    def _add(self, x: float, y: float, heading: float, lane_index: tuple[str, str, int]) -> None:
        """Create one vehicle."""
        rng = self._rng
        body = int(rng.choice(len(BODIES), p=_BODY_WEIGHTS))
        wanted = float(self.scene.speed_limit * rng.uniform(0.6, 1.05))
        vehicle = self._highway.IDMVehicle(
            self._world,
            [x, y],
            heading=heading,
            speed=0.9 * wanted,
            target_lane_index=lane_index,
            target_speed=wanted,
        )
        vehicle.LENGTH, vehicle.WIDTH = BODIES[body].length, BODIES[body].width
        vehicle.diagonal = float(np.hypot(vehicle.LENGTH, vehicle.WIDTH))
        vehicle.wanted_speed, vehicle.body_index = wanted, body
        vehicle.color_index = int(rng.integers(len(COLORS)))
        self._limit_speed(vehicle)
        vehicle.speed = min(vehicle.speed, vehicle.target_speed)
        self._others.append(vehicle)
        self._world.vehicles.append(vehicle)
