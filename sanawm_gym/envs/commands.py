"""Commands: how cars are driven during one decision.

An action is turned into one command a decision (`actions.py`); a command says where the cars are at
every raw frame.

Axes: b cars, f raw frames of a decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from sanawm_gym.vehicle import KinematicBicycle

from .tracking import Plan, PursuitConfig, pursue


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Controls that do not change during the decision."""

    actions: Float[np.ndarray, "b 2"]
    """Steer and pedals, each in [-1, 1]."""

    def select(self, rows: Sequence[int]) -> Held:
        """Cars by index."""
        return Held(actions=self.actions[list(rows)])

    def drive(
        self,
        bicycle: KinematicBicycle,
        before: Float64[np.ndarray, "b 6"],
        num_frames: int,
        fps: float,
    ) -> Float64[np.ndarray, "b f 6"]:
        """States at every raw frame of the decision."""
        return bicycle.advance(before, self.actions, num_frames, fps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequenced:
    """Controls that follow one another within the decision, for equal times."""

    actions: Float[np.ndarray, "b m 2"]
    """Steer and pedals, each in [-1, 1]."""

    def select(self, rows: Sequence[int]) -> Sequenced:
        """Cars by index."""
        return Sequenced(actions=self.actions[list(rows)])

    def drive(
        self,
        bicycle: KinematicBicycle,
        before: Float64[np.ndarray, "b 6"],
        num_frames: int,
        fps: float,
    ) -> Float64[np.ndarray, "b f 6"]:
        """States at every raw frame of the decision.

        Raises:
            ValueError: If the controls cannot share the frames evenly.
        """
        count = self.actions.shape[1]
        if num_frames % count:
            raise ValueError(
                f"action: got {count} controls for the {num_frames} raw frames of a decision, "
                "expected a divisor of them; choose another length"
            )
        parts, now = [], before
        for number in range(count):
            parts.append(bicycle.advance(now, self.actions[:, number], num_frames // count, fps))
            now = parts[-1][:, -1]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracked:
    """A part of a plan, followed with new controls at every raw frame."""

    plan: Plan
    """Where the cars shall be."""
    time: float
    """When the decision begins, since the plan was made [s]."""
    pursuit: PursuitConfig
    """How to follow it."""

    def select(self, rows: Sequence[int]) -> Tracked:
        """Cars by index."""
        return dataclasses.replace(self, plan=self.plan.select(rows))

    def drive(
        self,
        bicycle: KinematicBicycle,
        before: Float64[np.ndarray, "b 6"],
        num_frames: int,
        fps: float,
    ) -> Float64[np.ndarray, "b f 6"]:
        """States at every raw frame of the decision."""
        states = np.empty((len(before), num_frames, 6))
        now = before
        for frame in range(num_frames):
            controls = pursue(self.plan, self.time + frame / fps, now, bicycle, self.pursuit)
            now = bicycle.advance(now, controls, 1, fps)[:, 0]
            states[:, frame] = now
        return states


Command = Held | Sequenced | Tracked
"""Any of them."""
