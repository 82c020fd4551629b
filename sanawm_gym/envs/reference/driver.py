"""The good driver: keeps to the middle of its lane, slows for bends, keeps its distance.

Steering follows the path curvature plus feedback on offset e and heading error psi over a preview
length l: curvature = path curvature + 2 / l * (psi_wanted - psi), psi_wanted = -atan(e / l);
linearised in distance that is a damping of 0.71 and a settling length of about 3 l. Speed follows
the Intelligent Driver Model (Treiber et al. 2000, eq. 3) towards the smallest of the wanted speed
and what the bends ahead allow. It has no memory, so it can say what it would do in any state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.vehicle import SPEED, YAW, VehicleConfig, X, Y

from .road import Road
from .truth import box_center, lead, nearest_lane

Others = Float64[np.ndarray, "n 6"]


@dataclass(frozen=True, kw_only=True)
class DriverConfig:
    """How the good driver drives.

    Attributes:
        lateral_comfort: Lateral acceleration it accepts in bends [m/s^2].
        braking_comfort: Deceleration it plans with [m/s^2].
        acceleration: Acceleration from standstill [m/s^2].
        time_gap: Time gap to the vehicle ahead [s].
        standstill_gap: Gap when both stand [m].
        preview: Preview length per speed [s].
        min_preview: Smallest preview length [m].
    """

    lateral_comfort: float = 2.2
    braking_comfort: float = 1.8
    acceleration: float = 2.0
    time_gap: float = 1.5
    standstill_gap: float = 4.0
    preview: float = 0.9
    min_preview: float = 4.5


class GoodDriver:
    """Steer and throttle for any state on a road."""

    def __init__(
        self, road: Road, vehicle: VehicleConfig, config: DriverConfig | None = None
    ) -> None:
        """Keep the road and the car."""
        self.road, self.vehicle, self.config = road, vehicle, config or DriverConfig()

    def act(
        self,
        state: Float64[np.ndarray, "6"],
        others: Others,
        *,
        speed_limit: float,
        offset: float = 0.0,
    ) -> Float64[np.ndarray, "2"]:
        """The action (steer, throttle/brake) for a state.

        Args:
            state: The ego.
            others: x, y, heading, speed, length, width of the other vehicles.
            speed_limit: Wanted speed on a free straight road [m/s].
            offset: Wanted distance to the left of the lane's middle [m].
        """
        steer = self.steer(state, offset)
        pedal = self.acceleration(state, others, speed_limit)
        pedal /= self.vehicle.max_accel if pedal > 0 else self.vehicle.max_brake
        return np.asarray(np.clip(np.array([steer / self.vehicle.max_steer, pedal]), -1.0, 1.0))

    def steer(self, state: Float64[np.ndarray, "6"], offset: float = 0.0) -> float:
        """Wheel angle [rad]."""
        speed = float(state[SPEED])
        s, d = self.road.locate(state[X], state[Y])
        lane = nearest_lane(self.road, s, d)
        error = d - lane.center - offset
        heading = self.road.heading_at(s)
        turned = (state[YAW] - heading + np.pi) % (2 * np.pi) - np.pi
        preview = max(self.config.min_preview, self.config.preview * speed)
        # the command acts for a decision to come: read the path a little ahead
        bend = float(self.road.curvature_at(s + 0.2 * speed + 0.5))
        path = bend * np.cos(turned) / max(1.0 - bend * d, 0.4)
        wanted = -np.arctan(error / preview)
        curvature = path + 2.0 / preview * (wanted - turned)
        return float(np.arctan(self.vehicle.wheelbase * curvature))

    def acceleration(
        self, state: Float64[np.ndarray, "6"], others: Others, speed_limit: float
    ) -> float:
        """Acceleration [m/s^2]."""
        config, speed = self.config, float(state[SPEED])
        wanted = max(min(speed_limit, self._bend_speed(state)), 0.5)
        ratio = speed / wanted
        free = config.acceleration * (1.0 - ratio**4)
        if ratio > 1.0:
            free = max(-2.0 * config.braking_comfort, -1.2 * (speed - wanted) - 0.3)
        gap, closing = lead(self.road, state, others, self.vehicle)
        if gap >= 99.0:
            return free
        slack = speed * config.time_gap
        slack += speed * closing / (2.0 * np.sqrt(config.acceleration * config.braking_comfort))
        desired = config.standstill_gap + max(slack, 0.0)
        return float(
            max(
                free - config.acceleration * (desired / max(gap, 0.5)) ** 2, -self.vehicle.max_brake
            )
        )

    def _bend_speed(self, state: Float64[np.ndarray, "6"]) -> float:
        """Speed that the bends of the next 60 m and the car's own trouble allow [m/s]."""
        s, _ = self.road.locate(state[X], state[Y])
        ahead = np.arange(0.0, 62.0, 2.0)
        bend = np.abs(self.road.curvature_at(s + ahead)) + 1e-4
        allowed = np.sqrt(
            self.config.lateral_comfort / bend + 2.0 * self.config.braking_comfort * ahead
        )
        heading = self.road.heading_at(s)
        turned = abs((state[YAW] - heading + np.pi) % (2 * np.pi) - np.pi)
        center = box_center(state, self.vehicle)
        outside = max(float(self.road.outside(center[0], center[1])), 0.0)
        trouble = 25.0 / (1.0 + 4.0 * max(turned - 0.15, 0.0) + 1.5 * outside)
        return float(min(allowed.min(), max(trouble, 3.0)))
