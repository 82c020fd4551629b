"""The car: a kinematic bicycle at the rear axle with lagging actuators, one row a car.

    x' = v cos(yaw),  y' = v sin(yaw),  yaw' = v tan(steer) / wheelbase        (at the rear axle)
    steer' = (steer_command - steer) / steer_tau,  a' = (a_command - a) / accel_tau,  v' = a

The linear part (both actuators, speed, distance) is advanced by its exact solution under a held
command, the path by the exact arc of the curvature at the middle of each short substep: what is
left is the change of curvature inside 10 ms. Two limits stand in for tyres and engine: the wheels
turn no further than the lateral acceleration allows, and the speed stays within [0, max_speed] (no
reverse). While a speed limit holds, the acceleration reads zero. A dynamic tyre model was left out:
nothing in a drawn world could tell it apart at these accelerations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Float64

STATE_NAMES = ("x", "y", "yaw", "speed", "steer", "acceleration")
X, Y, YAW, SPEED, STEER, ACCELERATION = range(6)


@dataclass(frozen=True, kw_only=True)
class VehicleConfig:
    """A car and its limits; the defaults are the Chrysler Pacifica of nuPlan and NAVSIM.

    Attributes:
        wheelbase: Rear axle to front axle [m], > 0.
        width: Body width [m], > 0.
        length: Body length [m], > 0.
        rear_axle_to_center: Rear axle to the middle of the body box [m].
        max_steer: Wheel angle at full lock [rad], in (0, 1.3].
        max_accel: Acceleration at full throttle [m/s^2], > 0.
        max_brake: Deceleration at full brake [m/s^2], > 0.
        max_speed: Speed limit of the car [m/s], > 0.
        max_lateral_accel: Tyre limit; the wheel angle gives way to it [m/s^2], > 0.
        steer_tau: Time constant of the steering [s], >= 0.
        accel_tau: Time constant of the drive and brakes [s], >= 0.
        substep: Longest integration step [s], > 0.
    """

    wheelbase: float = 3.089
    width: float = 2.297
    length: float = 5.176
    rear_axle_to_center: float = 1.461
    max_steer: float = 0.5
    max_accel: float = 3.5
    max_brake: float = 6.0
    max_speed: float = 25.0
    max_lateral_accel: float = 5.5
    steer_tau: float = 0.05
    accel_tau: float = 0.2
    substep: float = 0.01

    def __post_init__(self) -> None:
        """Check every number."""
        free = {"rear_axle_to_center"}
        may_be_zero = {"steer_tau", "accel_tau"}
        for field in fields(self):
            value = getattr(self, field.name)
            positive = value > 0.0 or (field.name in may_be_zero and value == 0.0)
            if not math.isfinite(value) or not (positive or field.name in free):
                bound = ">= 0" if field.name in may_be_zero else "> 0"
                raise ValueError(
                    f"vehicle: got {field.name}={value}, expected a finite number {bound}; "
                    "use SI units and radians"
                )
        if self.max_steer > 1.3:
            raise ValueError(
                f"vehicle: got max_steer={self.max_steer} rad, expected at most 1.3; "
                "give radians, not degrees"
            )

    @property
    def max_yaw_rate(self) -> float:
        """Largest yaw rate [rad/s], reached where tyre limit and full lock meet."""
        speed = min(self.max_speed, math.sqrt(self.max_lateral_accel / self.max_curvature))
        return speed * self.max_curvature

    @property
    def max_curvature(self) -> float:
        """Path curvature at full lock [1/m]."""
        return math.tan(self.max_steer) / self.wheelbase


def vehicle_state(
    x: float = 0.0,
    y: float = 0.0,
    yaw: float = 0.0,
    speed: float = 0.0,
    steer: float = 0.0,
    acceleration: float = 0.0,
) -> Float64[np.ndarray, " 6"]:
    """State of one car [m, m, rad, m/s, rad, m/s^2]; `steer` is the wheel angle."""
    return np.array([x, y, yaw, speed, steer, acceleration], dtype=np.float64)


class KinematicBicycle:
    """Advances cars of one kind; holds no state of its own."""

    def __init__(self, config: VehicleConfig | None = None) -> None:
        """Keep the configuration (the Pacifica by default)."""
        self.config = VehicleConfig() if config is None else config

    def commands(
        self, action: Float[np.ndarray, "*b 2"]
    ) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
        """Read an action, clipped to [-1, 1], as wheel angle [rad] and acceleration [m/s^2]."""
        steer, pedal = np.moveaxis(np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0), -1, 0)
        gain = np.where(pedal >= 0, self.config.max_accel, self.config.max_brake)
        return steer * self.config.max_steer, pedal * gain

    def advance(
        self,
        state: Float64[np.ndarray, "b 6"],
        action: Float[np.ndarray, "b 2"],
        num_frames: int,
        fps: float = 16.0,
    ) -> Float64[np.ndarray, "b num_frames 6"]:
        """Hold an action over some video frames.

        Args:
            state: x [m], y [m], yaw [rad], speed [m/s], wheel angle [rad], acceleration [m/s^2].
            action: Steer (+1 full left) and throttle/brake, each in [-1, 1].
            num_frames: Number of frames to advance, > 0.
            fps: Frames a second [1/s].

        Returns:
            The state at every one of the next frames, the given state not among them.
        """
        steer_command, accel_command = self.commands(action)
        num_substeps = math.ceil(1.0 / (fps * self.config.substep) - 1e-9)
        # Contiguous columns: numpy then takes the same kernels for any number of rows.
        columns = tuple(np.array(state[:, i]) for i in range(6))
        states = np.empty((len(state), num_frames, 6))
        for frame in range(num_frames):
            for _ in range(num_substeps):
                columns = self._substep(
                    columns, steer_command, accel_command, 1.0 / (fps * num_substeps)
                )
            states[:, frame] = np.stack(columns, axis=-1)
        return states

    def yaw_rate(self, state: Float64[np.ndarray, "*b 6"]) -> Float64[np.ndarray, "*b"]:
        """Yaw rate of a state [rad/s], positive to the left."""
        steer = np.ascontiguousarray(state[..., STEER])
        return np.asarray(state[..., SPEED] * np.tan(steer) / self.config.wheelbase)

    def lateral_acceleration(self, state: Float64[np.ndarray, "*b 6"]) -> Float64[np.ndarray, "*b"]:
        """Lateral acceleration at the rear axle [m/s^2], positive to the left."""
        return np.asarray(state[..., SPEED] * self.yaw_rate(state))

    def _substep(
        self,
        columns: tuple[Float64[np.ndarray, " b"], ...],
        steer_command: Float64[np.ndarray, " b"],
        accel_command: Float64[np.ndarray, " b"],
        step: float,
    ) -> tuple[Float64[np.ndarray, " b"], ...]:
        """One exact actuator step and one arc of `step` seconds."""
        config = self.config
        x, y, yaw, speed, steer, acceleration = columns

        decay = _decay(step, config.accel_tau)
        lag = acceleration - accel_command
        settled = config.accel_tau * (1.0 - decay)
        free_speed = speed + accel_command * step + lag * settled
        distance = (
            speed * step + accel_command * step**2 / 2.0 + lag * config.accel_tau * (step - settled)
        )
        next_speed = _clip(free_speed, 0.0, config.max_speed)
        distance = _clip(distance, 0.0, config.max_speed * step)
        next_acceleration = np.where(free_speed == next_speed, accel_command + lag * decay, 0.0)

        middle = steer_command + (steer - steer_command) * _decay(step / 2.0, config.steer_tau)
        middle = self._within_grip(middle, distance / step)
        turn = distance * np.tan(middle) / config.wheelbase
        chord = distance * np.sinc(turn / (2.0 * np.pi))  # sin(turn / 2) / (turn / 2)
        next_steer = steer_command + (steer - steer_command) * _decay(step, config.steer_tau)
        return (
            x + chord * np.cos(yaw + turn / 2.0),
            y + chord * np.sin(yaw + turn / 2.0),
            yaw + turn,
            next_speed,
            self._within_grip(next_steer, next_speed),
            next_acceleration,
        )

    def _within_grip(
        self, steer: Float64[np.ndarray, " b"], speed: Float64[np.ndarray, " b"]
    ) -> Float64[np.ndarray, " b"]:
        """Turn the wheels back to v^2 tan(steer) / wheelbase <= max_lateral_accel."""
        grip = self.config.wheelbase * self.config.max_lateral_accel
        limit = np.arctan2(grip, speed**2)
        limit = np.minimum(limit, self.config.max_steer)
        return _clip(steer, -limit, limit)


def _decay(step: float, tau: float) -> float:
    """Share of a first-order lag that is left after a step; none when there is no lag."""
    return math.exp(-step / tau) if tau > 0 else 0.0


def _clip(
    value: Float64[np.ndarray, " b"],
    low: float | Float64[np.ndarray, " b"],
    high: float | Float64[np.ndarray, " b"],
) -> Float64[np.ndarray, " b"]:
    """`np.clip`, whose argument checks would be a third of the time of a substep."""
    return np.asarray(np.minimum(np.maximum(value, low), high))
