"""Kinds of actions: what an agent hands over, and the controls that the car makes of it.

| kind | space | one step of the environment |
|---|---|---|
| `continuous` | `Box(-1, 1, (2,))` | one decision: steer, pedals |
| `discrete` | `Discrete(15)` | one decision: a lateral and a longitudinal acceleration |
| `chunk` | `Box(-1, 1, (k, 2))` | k decisions, controls for each |
| `waypoints` | `Box(..., (k, 3))` | k decisions or fewer along x, y, yaw, steered at every frame |

Where a decision is long (1.5 s in the released SANA-WM), controls and waypoints can be closer than
that: `Chunk(length=6, decisions=1)`, `Waypoints(length=6, interval=0.25, driven=1)`.

Whatever its kind, an action becomes a list of commands, one a decision. The controls of both worlds
go through this file.

Axes: b cars, k decisions of an action.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, Float64, Int64

from sanawm_gym.vehicle import SPEED, KinematicBicycle, VehicleConfig

from .commands import Command, Held, Sequenced, Tracked
from .spaces import action_space, check_actions, read_numbers
from .tracking import PursuitConfig, pedals, plan_from

_SLOWEST_BEND = 2.5
"""Slower than this, a lateral acceleration asks for the wheel angle that it takes here [m/s]."""


def _check_length(name: str, value: object, low: int, high: float = math.inf) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high:  # type: ignore[operator]
        bound = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"action: got {name}={value!r}, expected a whole number {bound}")


def _batched(shape: tuple[int, ...], num_rows: int | None) -> tuple[int, ...]:
    return shape if num_rows is None else (num_rows, *shape)


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """Steer and pedals for one decision."""

    num_decisions = 1

    def space(self, vehicle: VehicleConfig, seconds: float) -> spaces.Space[Any]:
        """Space of one car's actions; see the other kinds."""
        return action_space()

    def read(self, actions: Any, num_rows: int | None) -> Float32[np.ndarray, "b 2"]:
        """Check actions; a single one gets a batch axis."""
        checked = check_actions(actions, num_rows)
        return checked if num_rows is not None else checked[None]

    def commands(
        self,
        actions: Float32[np.ndarray, "b 2"],
        states: Float64[np.ndarray, "b 6"],
        vehicles: Sequence[VehicleConfig],
        seconds: float,
    ) -> list[Command]:
        """One command a decision; see the other kinds."""
        return [Held(actions=actions)]


@dataclass(frozen=True, kw_only=True)
class Discrete:
    """Meta-actions: a lateral and a longitudinal acceleration, whatever the speed.

    Action i x len(longitudinal) + j asks for `lateral[i]` and `longitudinal[j]`. The wheel angle
    that a lateral acceleration takes follows from the speed at the decision; the car stays within
    the comfort bands of nuPlan, hence brakes less than it could.
    """

    lateral: tuple[float, ...] = (3.0, 1.0, 0.0, -1.0, -3.0)
    """Lateral accelerations [m/s^2], + to the left."""
    longitudinal: tuple[float, ...] = (2.0, 0.0, -4.0)
    """Longitudinal accelerations [m/s^2], - brakes."""

    num_decisions = 1

    def __post_init__(self) -> None:
        """Check that there is something to choose from."""
        numbers = (*self.lateral, *self.longitudinal)
        if not (self.lateral and self.longitudinal and all(map(math.isfinite, numbers))):
            raise ValueError(
                f"action: got {self}, expected at least one finite lateral and one longitudinal "
                "acceleration; give m/s^2"
            )

    def space(self, vehicle: VehicleConfig, seconds: float) -> spaces.Space[Any]:
        """Space of one car's actions; see the other kinds."""
        return spaces.Discrete(len(self.lateral) * len(self.longitudinal))

    def read(self, actions: Any, num_rows: int | None) -> Int64[np.ndarray, " b"]:
        """Check actions; a single one gets a batch axis.

        Raises:
            ValueError: If they are no whole numbers of the space, or the wrong number of them.
        """
        array, count = np.asarray(actions), len(self.lateral) * len(self.longitudinal)
        shape = () if num_rows is None else (num_rows,)
        whole = np.issubdtype(array.dtype, np.integer)
        if not whole or array.shape != shape or (array < 0).any() or (array >= count).any():
            raise ValueError(
                f"action: got {actions!r}, expected whole numbers from 0 to {count - 1} of shape "
                f"{shape}; pass one a car"
            )
        return np.atleast_1d(array.astype(np.int64))

    def commands(
        self,
        actions: Int64[np.ndarray, " b"],
        states: Float64[np.ndarray, "b 6"],
        vehicles: Sequence[VehicleConfig],
        seconds: float,
    ) -> list[Command]:
        """One command a decision; see the other kinds."""
        controls = np.empty((len(actions), 2))
        for row, (action, vehicle) in enumerate(zip(actions.tolist(), vehicles, strict=True)):
            across, along = divmod(action, len(self.longitudinal))
            square = max(float(states[row, SPEED]), _SLOWEST_BEND) ** 2
            angle = math.atan(vehicle.wheelbase * self.lateral[across] / square)
            wanted = np.array([self.longitudinal[along]])
            controls[row] = angle / vehicle.max_steer, pedals(wanted, KinematicBicycle(vehicle))[0]
        return [Held(actions=controls.clip(-1.0, 1.0))]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Steer and pedals for each of several decisions, driven through without looking."""

    length: int = 4
    """Controls, >= 1; at a decision each 4 are a second in the bundled world."""
    decisions: int | None = None
    """Decisions that the controls are spread over evenly, a divisor of `length`; None is one each.
    The raw frames of a decision must divide evenly among its controls."""

    def __post_init__(self) -> None:
        """Check both numbers."""
        _check_length("length", self.length, 1)
        if self.decisions is not None:
            _check_length("decisions", self.decisions, 1, self.length)
            if self.length % self.decisions:
                raise ValueError(
                    f"action: got {self.length} controls for {self.decisions} decisions, expected "
                    "equally many in each; make length a multiple of decisions"
                )

    @property
    def num_decisions(self) -> int:
        """Decisions of a step."""
        return self.length if self.decisions is None else self.decisions

    def space(self, vehicle: VehicleConfig, seconds: float) -> spaces.Space[Any]:
        """Space of one car's actions; see the other kinds."""
        return spaces.Box(-1.0, 1.0, (self.length, 2), np.float32)

    def read(self, actions: Any, num_rows: int | None) -> Float32[np.ndarray, "b k 2"]:
        """Check actions; a single one gets a batch axis.

        Raises:
            ValueError: If the shape is wrong or a value is not a finite number.
        """
        shape = _batched((self.length, 2), num_rows)
        array = read_numbers(actions, shape, "(steer, throttle/brake) one after the other")
        return np.asarray(np.clip(array, -1.0, 1.0).reshape(-1, self.length, 2))

    def commands(
        self,
        actions: Float32[np.ndarray, "b k 2"],
        states: Float64[np.ndarray, "b 6"],
        vehicles: Sequence[VehicleConfig],
        seconds: float,
    ) -> list[Command]:
        """One command a decision; see the other kinds."""
        if self.decisions in (None, self.length):
            return [Held(actions=actions[:, index]) for index in range(self.length)]
        return [Sequenced(actions=part) for part in np.split(actions, self.num_decisions, axis=1)]


@dataclass(frozen=True, kw_only=True)
class Waypoints:
    """Where the car shall be at the end of each of several decisions: x, y [m] and yaw [rad].

    In the frame of the car when the action is taken: x ahead, y left, yaw to the left. A simple
    controller drives there (`tracking.py`), as well as the car can.
    """

    length: int = 8
    """Waypoints, >= 1; 8 are two seconds."""
    driven: int | None = None
    """Decisions driven before the next action, from 1 to `length`; None drives them all. A planner
    that looks far ahead and plans anew every decision says 1."""
    interval: float | None = None
    """Time between two waypoints [s], > 0; None is a decision. With it `driven` has to be said."""
    pursuit: PursuitConfig = dataclasses.field(default_factory=PursuitConfig)
    """How the plan is followed."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_length("length", self.length, 1)
        if self.driven is not None:
            limit = self.length if self.interval is None else math.inf
            _check_length("driven", self.driven, 1, limit)
        if self.interval is None:
            return
        if self.driven is None or not 0 < self.interval < math.inf:
            raise ValueError(
                f"action: got interval={self.interval} with driven={self.driven}, expected a time "
                "above 0 s and a number of decisions; with waypoints every 0.25 s say driven=1"
            )

    @property
    def num_decisions(self) -> int:
        """Decisions of a step."""
        return self.length if self.driven is None else self.driven

    def space(self, vehicle: VehicleConfig, seconds: float) -> spaces.Space[Any]:
        """Space of one car's actions: as far as its largest speed takes it.

        Args:
            vehicle: The car.
            seconds: Length of a decision [s].
        """
        period = seconds if self.interval is None else self.interval
        reach = vehicle.max_speed * period * np.arange(1, self.length + 1)
        high = np.stack([reach, reach, np.full(self.length, math.pi)], axis=1).astype(np.float32)
        return spaces.Box(-high, high, dtype=np.float32)

    def read(self, actions: Any, num_rows: int | None) -> Float64[np.ndarray, "b k 3"]:
        """Check actions; a single one gets a batch axis. Waypoints out of reach are driven towards.

        Raises:
            ValueError: If the shape is wrong or a value is not a finite number.
        """
        shape = _batched((self.length, 3), num_rows)
        array = read_numbers(actions, shape, "(x, y, yaw) of every waypoint")
        return array.astype(np.float64).reshape(-1, self.length, 3)

    def commands(
        self,
        actions: Float64[np.ndarray, "b k 3"],
        states: Float64[np.ndarray, "b 6"],
        vehicles: Sequence[VehicleConfig],
        seconds: float,
    ) -> list[Command]:
        """One command a decision.

        Args:
            actions: What `read` returned.
            states: The cars when the action is taken.
            vehicles: Their kinds.
            seconds: Length of a decision [s].
        """
        plan = plan_from(states, actions, seconds if self.interval is None else self.interval)
        return [
            Tracked(plan=plan, time=index * seconds, pursuit=self.pursuit)
            for index in range(self.num_decisions)
        ]


ActionKind = Continuous | Discrete | Chunk | Waypoints

ACTION_KINDS: dict[str, ActionKind] = {
    "continuous": Continuous(),
    "discrete": Discrete(),
    "chunk": Chunk(),
    "waypoints": Waypoints(),
}
"""Kinds by name, with their defaults."""


def action_kind(action: str | ActionKind) -> ActionKind:
    """The kind that a setting stands for.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(action, str) and action in ACTION_KINDS:
        return ACTION_KINDS[action]
    if isinstance(action, ActionKind):
        return action
    raise ValueError(
        f"action: got {action!r}, expected one of {list(ACTION_KINDS)} or a Continuous, Discrete, "
        "Chunk or Waypoints of sanawm_gym.envs.actions; choose one"
    )
