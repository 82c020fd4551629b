"""What one decision did to some cars: all that a reward may look at.

Axes: b cars, f raw frames of the decision (f1 with the moment before it), m motions, h and w of the
picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from sanawm_gym.vehicle import ACCELERATION, SPEED, KinematicBicycle, X, Y

from .reading import Reading

MOTIONS = (
    "acceleration",
    "lateral_acceleration",
    "yaw_rate",
    "jerk",
    "yaw_acceleration",
    "jerk_magnitude",
)
"""Quantities of `Transition.motion`: first those of a frame, then rates of change."""
_NUM_SAMPLED = MOTIONS.index("jerk")


@dataclass(frozen=True, kw_only=True, eq=False)
class Transition:
    """What the cars did during one decision, and what could be seen at its end."""

    before: Float64[np.ndarray, "b 6"]
    """Vehicle state when the action was chosen."""
    states: Float64[np.ndarray, "b f 6"]
    """Vehicle state at every raw frame since."""
    bicycle: KinematicBicycle
    """The car that moved."""
    fps: float
    """Raw frames a second."""
    reading: Reading | None = None
    """The road around the cars at the end; None in a world without heads."""
    picture: UInt8[np.ndarray, "b h w 3"] | None = None
    """Newest raw frame, for terms that bring a reader of their own."""

    @property
    def seconds(self) -> float:
        """Length of the decision [s]."""
        return float(self.states.shape[1] / self.fps)

    @property
    def distance(self) -> Float64[np.ndarray, " b"]:
        """Way driven [m]."""
        path = np.concatenate([self.before[:, None], self.states], axis=1)
        steps = np.hypot(np.diff(path[..., X], axis=1), np.diff(path[..., Y], axis=1))
        return np.asarray(steps.sum(axis=1))

    @property
    def road(self) -> Reading:
        """The reading.

        Raises:
            ValueError: If there is none.
        """
        if self.reading is None:
            raise ValueError(
                "reward: got a world that does not read its pictures, expected one with heads; "
                "use reward='kinematic' or terms that look at the motion or the picture alone"
            )
        return self.reading

    def motion(self, name: str) -> Float64[np.ndarray, "b n"]:
        """Values of a named quantity [SI] over the decision.

        Accelerations and the yaw rate are given at every raw frame, their rates of change over the
        whole decision: the actuators' first milliseconds would otherwise count as jolts.

        Raises:
            ValueError: If the name is none of `MOTIONS`.
        """
        if name not in MOTIONS:
            raise ValueError(f"reward: got the quantity {name!r}, expected one of {MOTIONS}")
        values, index = self._motions, MOTIONS.index(name)
        return values[index, :, 1:] if index < _NUM_SAMPLED else self._rates[index - _NUM_SAMPLED]

    def breaks(
        self, low: Float64[np.ndarray, " m"], high: Float64[np.ndarray, " m"]
    ) -> Int64[np.ndarray, " b"]:
        """How many of `MOTIONS` left their band at some frame.

        Args:
            low: Lower ends in the order of `MOTIONS` [SI].
            high: Upper ends.
        """
        sampled, rates = self._motions[:, :, 1:], self._rates
        ends = (low[:_NUM_SAMPLED, None, None], high[:_NUM_SAMPLED, None, None])
        during = ((sampled < ends[0]) | (sampled > ends[1])).any(axis=2).sum(axis=0)
        ends = (low[_NUM_SAMPLED:, None, None], high[_NUM_SAMPLED:, None, None])
        return np.asarray(during + ((rates < ends[0]) | (rates > ends[1])).sum(axis=(0, 2)))

    @cached_property
    def _motions(self) -> Float64[np.ndarray, "3 b f1"]:
        """Acceleration, lateral acceleration and yaw rate, before the decision and since."""
        path = np.concatenate([self.before[:, None], self.states], axis=1)
        yaw_rate = self.bicycle.yaw_rate(path)
        return np.stack([path[..., ACCELERATION], path[..., SPEED] * yaw_rate, yaw_rate])

    @cached_property
    def _rates(self) -> Float64[np.ndarray, "3 b 1"]:
        """Jerk, yaw acceleration and the jerk of both accelerations together."""
        change = (self._motions[:, :, -1] - self._motions[:, :, 0]) / self.seconds
        rates = np.stack([change[0], change[2], np.hypot(change[0], change[1])])
        return np.asarray(rates[..., None])
