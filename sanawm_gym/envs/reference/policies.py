"""Who drives a recording: good and bad drivers, so that bad states and recoveries are seen.

Every policy is the good driver with a fault. When the car has left the road too far or is turned
across it, the good driver takes over until it is back in its lane: recordings contain the trouble
and the recovery, and mostly road.

The astray driver is there for what the others leave out, and drives only where it is asked for: it
lets go of the road, holds a wheel angle or none, and crosses the country until the good driver
brings it back. A world that has never seen this draws a road under every car that leaves one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .world import ReferenceWorld, StartState

ASTRAY = "astray"
POLICIES = ("good", "noisy", "recovering", "reckless", "stop_and_go")
_WEIGHTS = (0.18, 0.24, 0.28, 0.21, 0.09)
DECISION = 0.25  # [s]
_FARTHEST = 25.0  # [m] from the edge of the road; there the good driver takes the astray one back


@dataclass(frozen=True, kw_only=True)
class Temper:
    """Fixed traits of one recording's driver.

    Attributes:
        policy: One of POLICIES.
        speed_factor: Wanted speed as a share of the scene's limit.
        steer_noise: Standard deviation of the steering noise, in lateral acceleration [m/s^2].
        pedal_noise: Standard deviation of the throttle noise, 0-1.
        noise_time: Correlation time of the noise [s].
        kick_every: Mean time between deliberate swerves [s]; inf for none.
        wander: Standard deviation of the wanted lane offset [m].
        careless: Whether the vehicle ahead is ignored.
        stray_every: Mean time on the road between two departures from it [s]; inf for none.
    """

    policy: str
    speed_factor: float
    steer_noise: float = 0.0
    pedal_noise: float = 0.0
    noise_time: float = 0.8
    kick_every: float = np.inf
    wander: float = 0.0
    careless: bool = False
    stray_every: float = np.inf


def sample_temper(rng: np.random.Generator, astray: bool = False) -> Temper:
    """Draw the driver of one recording.

    Args:
        rng: Of the recording.
        astray: Whether it is one that leaves the road and drives on beside it.
    """
    if astray:
        return Temper(
            policy=ASTRAY,
            speed_factor=float(rng.uniform(0.5, 1.2)),
            pedal_noise=0.2,
            stray_every=float(rng.uniform(0.7, 2.5)),
        )
    policy = POLICIES[rng.choice(len(POLICIES), p=_WEIGHTS)]
    factor = float(rng.uniform(0.7, 1.1))
    if policy == "noisy":
        return Temper(
            policy=policy,
            speed_factor=factor,
            steer_noise=float(rng.uniform(0.5, 2.6)),
            pedal_noise=float(rng.uniform(0.1, 0.5)),
            noise_time=float(rng.uniform(0.3, 1.5)),
        )
    if policy == "recovering":
        kicks = float(rng.uniform(2.5, 5.0))
        return Temper(policy=policy, speed_factor=0.9 * factor, pedal_noise=0.1, kick_every=kicks)
    if policy == "reckless":
        return Temper(
            policy=policy,
            speed_factor=float(rng.uniform(1.0, 1.5)),
            steer_noise=float(rng.uniform(0.2, 0.8)),
            pedal_noise=0.3,
            wander=float(rng.uniform(0.6, 2.2)),
            kick_every=float(rng.uniform(5.0, 14.0)),
            careless=bool(rng.random() < 0.3),
        )
    return Temper(policy=policy, speed_factor=factor)


def sample_start(world: ReferenceWorld, temper: Temper, rng: np.random.Generator) -> StartState:
    """Draw how a recording begins; recovering drivers begin off the middle and askew."""
    limit = world.scene.speed_limit * temper.speed_factor
    bend = float(np.abs(world.road.curvature_at(np.arange(75.0, 110.0, 5.0))).max()) + 1e-4
    speed = min(float(rng.uniform(0.3, 1.0)) * limit, float(np.sqrt(2.5 / bend)))
    if rng.random() < 0.12 or temper.policy == "stop_and_go":
        speed *= float(rng.uniform(0.0, 0.6))
    lane = int(rng.integers(4))
    if temper.policy != "recovering":
        return StartState(lane=lane, speed=speed, offset=float(rng.normal(0.0, 0.15)))
    askew = float(rng.normal(0.0, 0.28)) * min(1.0, 9.0 / max(speed, 1.0))
    return StartState(
        lane=lane, speed=speed, offset=float(rng.normal(0.0, 1.3)), heading_error=askew
    )


class RecordingDriver:
    """Drives one recording, one decision at a time."""

    def __init__(self, world: ReferenceWorld, temper: Temper, rng: np.random.Generator) -> None:
        """Keep the world it drives in and draw its first whims."""
        self.world, self.temper, self.rng = world, temper, rng
        self._noise = np.zeros(2)
        self._offset, self._offset_goal = 0.0, 0.0
        self._taken_over = False
        self._kick, self._kick_left = 0.0, 0.0
        self._pace, self._pace_left = 1.0, float(rng.uniform(2.0, 6.0))
        self._stray, self._stray_left = np.zeros(2), 0.0

    def act(self) -> Float64[np.ndarray, "2"]:
        """Action for the next decision."""
        world, temper = self.world, self.temper
        self._update_whims()
        if temper.policy == ASTRAY and self._is_astray():
            action = self._stray.copy()
            action[1] += self._noise[1] * temper.pedal_noise
            return np.asarray(np.clip(action, -1.0, 1.0))
        careful = self._needs_help()
        limit = world.scene.speed_limit * temper.speed_factor * self._pace
        others = world.traffic.states()
        if temper.careless and not careful:
            others = others[:0]
        offset = 0.0 if careful else self._offset
        if limit < 0.5 and not careful:
            action = np.array([0.0, -0.4 if world.speed > 0.1 else -0.1])
            action[0] = world.expert.steer(world.state) / world.vehicle.max_steer
            return np.asarray(np.clip(action, -1.0, 1.0))
        action = world.expert.act(world.state, others, speed_limit=max(limit, 1.0), offset=offset)
        if careful:
            return action
        if self._kick_left > 0.0:
            action[0] = self._steer_for(self._kick)
        action[0] += self._steer_for(float(self._noise[0]) * temper.steer_noise)
        action[1] += self._noise[1] * temper.pedal_noise
        return np.asarray(np.clip(action, -1.0, 1.0))

    def _steer_for(self, lateral: float) -> float:
        """Steering command that gives a lateral acceleration [m/s^2] at the present speed."""
        vehicle, speed = self.world.vehicle, max(self.world.speed, 2.5)
        angle = np.arctan(vehicle.wheelbase * lateral / speed**2)
        return float(np.clip(angle / vehicle.max_steer, -1.0, 1.0))

    def _update_whims(self) -> None:
        """Advance noise, swerves, wandering and pace by one decision."""
        rng, temper = self.rng, self.temper
        keep = np.exp(-DECISION / temper.noise_time)
        self._noise = keep * self._noise + np.sqrt(1 - keep**2) * rng.standard_normal(2)
        self._kick_left -= DECISION
        if self._kick_left <= -1.0 and rng.random() < DECISION / temper.kick_every:
            self._kick_left = float(rng.uniform(0.5, 1.8))
            self._kick = float(rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 4.5))
        if temper.wander > 0.0 and rng.random() < DECISION / 2.5:
            jump = rng.random() < 0.2 and len(self.world.road.forward_lanes) > 1
            self._offset_goal = float(rng.normal(0.0, 3.2 if jump else temper.wander))
        self._offset += 0.25 * (self._offset_goal - self._offset)
        if temper.policy == "stop_and_go":
            self._pace_left -= DECISION
            if self._pace_left <= 0.0:
                stop = self._pace > 0.0 and rng.random() < 0.6
                self._pace = 0.0 if stop else float(rng.uniform(0.3, 1.0))
                self._pace_left = float(rng.uniform(2.0, 4.5) if stop else rng.uniform(3.0, 7.0))

    def _is_astray(self) -> bool:
        """Whether the car has been let go of; draws when, how and for how long."""
        rng, world = self.rng, self.world
        if world.outside() > _FARTHEST:
            self._stray_left = 0.0
        self._stray_left -= DECISION
        if self._stray_left > 0.0:
            return True
        outside = world.outside() > 0.0
        # beside the road it goes on as likely as not; on it, it waits for the next departure
        chance = 0.5 if outside and not self._taken_over else DECISION / self.temper.stray_every
        if self._taken_over or rng.random() >= chance:
            return False
        self._stray_left = float(rng.uniform(2.0, 6.0))
        hold = rng.random()
        lateral = 0.0 if hold < 0.25 else float(rng.normal(0.0, 0.7 if hold < 0.5 else 2.5))
        pedal = float(rng.normal(0.05, 0.25)) if world.speed > 3.0 else 0.4
        self._stray = np.array([self._steer_for(lateral), min(pedal, 0.5)])
        return True

    def _needs_help(self) -> bool:
        """Whether the good driver is at the wheel, with some hysteresis."""
        truth = self.world.truth()
        beyond = -min(truth.left_edge, truth.right_edge)
        limit = 2.6 if self.world.scene.barrier == "none" else self.world.scene.shoulder_width + 0.2
        if beyond > limit or abs(truth.heading_error) > 0.9:
            self._taken_over = True
        elif abs(truth.lane_offset) < 0.6 and abs(truth.heading_error) < 0.12:
            self._taken_over = False
        return self._taken_over
