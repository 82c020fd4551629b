"""Scripted drivers that know the road: lane keeper, pure pursuit, IDM and a reckless one.

They need no training and say what they do, so they are what trained drivers are compared with, and
what worlds are compared by. All of them read :mod:`sanawm_gym.agents.road`, steer a wheel angle and
ask for an acceleration; the car is the default one.

Axes: b cars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.agents.policy import Action, Infos, Observation
from sanawm_gym.agents.road import FREE_DISTANCE, Road, read_road
from sanawm_gym.vehicle import VehicleConfig

Column = Float64[np.ndarray, " b"]


@dataclass(frozen=True, kw_only=True)
class RoadDriverConfig:
    """How a scripted driver drives."""

    speed: float = 12.0
    """Wanted speed on a free straight road [m/s], > 0."""
    lateral_comfort: float = 2.2
    """Lateral acceleration accepted in bends [m/s^2], > 0."""
    acceleration: float = 2.0
    """Acceleration from standstill [m/s^2], > 0."""
    braking: float = 1.8
    """Deceleration that is comfortable [m/s^2], > 0."""
    time_gap: float = 1.5
    """Time gap to the vehicle ahead [s], >= 0."""
    standstill_gap: float = 4.0
    """Gap when both stand [m], >= 0."""
    preview: float = 0.9
    """Length over which errors are steered away, per speed [s], > 0."""
    min_preview: float = 5.0
    """Least such length [m], > 0."""


class LaneKeeper:
    """Keeps to the middle of its lane at a speed that suits the bend; sees no other vehicle.

    curvature = road's + 2 / l (-atan(e / l) - psi) with offset e, heading error psi and preview
    length l: over the distance driven a damping of 0.71.

    Args:
        config: How it drives.
        vehicle: The car it sits in.
    """

    def __init__(
        self, config: RoadDriverConfig | None = None, vehicle: VehicleConfig | None = None
    ) -> None:
        self.config = config or RoadDriverConfig()
        self.vehicle = vehicle or VehicleConfig()

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Steer and pedals of every car.

        Raises:
            ValueError: If the infos say nothing about the road.
        """
        road = read_road(observation, infos)
        wheel = np.arctan(self.vehicle.wheelbase * self.curvature(road))
        wanted = self.accelerate(road)
        limit = np.where(wanted > 0, self.vehicle.max_accel, self.vehicle.max_brake)
        action = np.stack([wheel / self.vehicle.max_steer, wanted / limit], axis=1)
        return np.asarray(np.clip(action, -1.0, 1.0), dtype=np.float32)

    def curvature(self, road: Road) -> Column:
        """Curvature of the way to be driven [1/m]."""
        length = self.preview(road)
        wanted = -np.arctan(road.lane_offset / length)
        return np.asarray(road.curvature_ahead + 2.0 / length * (wanted - road.heading_error))

    def accelerate(self, road: Road) -> Column:
        """Wanted acceleration [m/s^2]."""
        return self._free(road)

    def preview(self, road: Road) -> Column:
        """Preview length [m]."""
        return np.asarray(np.maximum(self.config.min_preview, self.config.preview * road.speed))

    def _free(self, road: Road) -> Column:
        """Acceleration on a free road (Treiber et al. 2000, eq. 3 without the gap)."""
        bend = np.sqrt(self.config.lateral_comfort / (np.abs(road.curvature_ahead) + 1e-4))
        ratio = road.speed / np.minimum(self.config.speed, bend)
        free = self.config.acceleration * (1.0 - ratio**4)
        return np.asarray(np.maximum(free, -2.0 * self.config.braking))


class PurePursuit(LaneKeeper):
    """Steers the arc through a point on the middle of the lane ahead (Coulter 1992); else as above.

    In the car's frame the point at distance l ahead lies y = -e - psi l + k l^2 / 2 to the left,
    and the arc through it has the curvature 2 y / l^2.
    """

    def curvature(self, road: Road) -> Column:
        """Curvature of the arc [1/m]."""
        length = self.preview(road)
        aside = -road.lane_offset - road.heading_error * length
        aside = aside + road.curvature_ahead * length**2 / 2
        return np.asarray(2.0 * aside / length**2)


class IDM(LaneKeeper):
    """The lane keeper with distance: the Intelligent Driver Model (Treiber et al. 2000, eq. 3)."""

    def accelerate(self, road: Road) -> Column:
        """Wanted acceleration [m/s^2]."""
        config = self.config
        closing = road.speed * road.lead_speed / (2 * np.sqrt(config.acceleration * config.braking))
        desired = config.standstill_gap + np.maximum(road.speed * config.time_gap + closing, 0.0)
        keep = config.acceleration * (desired / np.maximum(road.lead_distance, 0.5)) ** 2
        gap = np.where(road.lead_distance < FREE_DISTANCE, keep, 0.0)
        return np.asarray(np.maximum(self._free(road) - gap, -self.vehicle.max_brake))


class Reckless(LaneKeeper):
    """Drives too fast, weaves about its lane and heeds nobody; a row's weaving follows its seed."""

    def __init__(self, vehicle: VehicleConfig | None = None) -> None:
        super().__init__(
            RoadDriverConfig(speed=22.0, lateral_comfort=5.0, acceleration=3.5), vehicle
        )
        self._phases: Column = np.zeros(0)
        self._decisions = 0

    def reset(self, seeds: Sequence[int]) -> None:
        """Draw where in its weaving every car begins."""
        self._phases = np.array([np.random.default_rng(s).uniform(0, 2 * np.pi) for s in seeds])
        self._decisions = 0

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Steer and pedals of every car."""
        if len(self._phases) != len(observation["ego"]):
            raise ValueError(
                f"driver: got {len(observation['ego'])} cars, expected {len(self._phases)}: call "
                "reset with one seed a car first"
            )
        action = super().act(observation, infos)
        self._decisions += 1
        return action

    def curvature(self, road: Road) -> Column:
        """Curvature of a way that swings 1.2 m to either side every 4 s [1/m]."""
        swing = 1.2 * np.sin(self._phases + 2 * np.pi * self._decisions / 16)
        length = self.preview(road)
        return np.asarray(super().curvature(road) + 2.0 / length * np.arctan(swing / length))
