"""Rewards as sums of named terms over the motion of one decision.

The preset `kinematic` looks at the exact motion of the car and at nothing else: metres driven,
minus what a passenger would complain about. It is **blind to the picture**: a car that leaves the
drawn road at speed is paid for every metre. It is there to make the loop whole, and as the part of
later rewards that needs no eyes.

A term is any object with a `name` that maps a `Motion` to one number a car; the environments put
every term under its name into `info["reward_terms"]` and add them up.

Axes: b cars, f raw frames of the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from sanawm_gym.vehicle import ACCELERATION, KinematicBicycle, X, Y


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What the cars did during one decision."""

    before: Float64[np.ndarray, "b 6"]
    """Vehicle state when the action was chosen."""
    states: Float64[np.ndarray, "b f 6"]
    """Vehicle state at every raw frame since."""
    bicycle: KinematicBicycle
    """The car that moved."""
    fps: float
    """Raw frames a second."""

    @property
    def distance(self) -> Float64[np.ndarray, " b"]:
        """Way driven [m]."""
        path = np.concatenate([self.before[:, None], self.states], axis=1)
        steps = np.hypot(np.diff(path[..., X], axis=1), np.diff(path[..., Y], axis=1))
        return np.asarray(steps.sum(axis=1))

    def quantity(self, name: str) -> Float64[np.ndarray, "b n"]:
        """Values of a named quantity [SI] over the decision.

        Accelerations and the yaw rate are given at every raw frame, their rates of change over the
        whole decision: the actuators' first milliseconds would otherwise count as jolts.
        """
        seconds = self.states.shape[1] / self.fps
        last = self.states[:, -1]
        if name == "acceleration":
            return np.asarray(self.states[..., ACCELERATION])
        if name == "lateral_acceleration":
            return self.bicycle.lateral_acceleration(self.states)
        if name == "yaw_rate":
            return self.bicycle.yaw_rate(self.states)
        if name == "jerk":
            change = last[:, ACCELERATION] - self.before[:, ACCELERATION]
        elif name == "yaw_acceleration":
            change = self.bicycle.yaw_rate(last) - self.bicycle.yaw_rate(self.before)
        else:
            raise ValueError(f"reward: got the quantity {name!r}, expected one of {QUANTITIES}")
        return np.asarray(change[:, None] / seconds)


QUANTITIES = ("acceleration", "lateral_acceleration", "yaw_rate", "jerk", "yaw_acceleration")


@runtime_checkable
class RewardTerm(Protocol):
    """One named part of a reward."""

    @property
    def name(self) -> str:
        """Key in `info["reward_terms"]`."""

    def __call__(self, motion: Motion) -> Float64[np.ndarray, " b"]:
        """Value of the term for every car."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Metres driven, weighted."""

    weight: float = 0.1
    """Reward a metre [1/m]; 0.1 pays 1 a second at 10 m/s."""
    name: str = "progress"
    """Key in the reward terms."""

    def __call__(self, motion: Motion) -> Float64[np.ndarray, " b"]:
        """`weight` x distance, at least 0."""
        return np.asarray(self.weight * motion.distance)


@dataclass(frozen=True, kw_only=True)
class Comfort:
    """A penalty for leaving a comfort band, 0 inside it.

    -weight x mean over the frames of clip(q / bound - 1, 0, 1), with the bound on the side of q:
    the full penalty is reached at twice the bound.
    """

    name: str
    """Quantity of `Motion`, and key in the reward terms."""
    low: float
    """Lower end of the band [SI], < 0."""
    high: float
    """Upper end of the band [SI], > 0."""
    weight: float = 0.05
    """Largest penalty a decision, >= 0."""

    def __post_init__(self) -> None:
        """Check quantity and band."""
        if self.name not in QUANTITIES:
            raise ValueError(f"reward: got quantity {self.name!r}, expected one of {QUANTITIES}")
        if not (self.low < 0 < self.high and self.weight >= 0):
            raise ValueError(f"reward: got {self}, expected low < 0 < high and weight >= 0")

    def __call__(self, motion: Motion) -> Float64[np.ndarray, " b"]:
        """Between -weight and 0."""
        value = motion.quantity(self.name)
        excess = np.clip(value / np.where(value < 0, self.low, self.high) - 1.0, 0.0, 1.0)
        return np.asarray(0.0 - self.weight * excess.mean(axis=1))


KINEMATIC: tuple[RewardTerm, ...] = (
    Progress(),
    # Bands: the comfort metric of nuPlan and NAVSIM.
    Comfort(name="acceleration", low=-4.05, high=2.40),
    Comfort(name="lateral_acceleration", low=-4.89, high=4.89),
    Comfort(name="jerk", low=-4.13, high=4.13),
    Comfort(name="yaw_rate", low=-0.95, high=0.95),
    Comfort(name="yaw_acceleration", low=-1.93, high=1.93),
)
"""Progress minus comfort penalties, from the exact ego motion; blind to the picture."""

REWARD_PRESETS: dict[str, tuple[RewardTerm, ...]] = {"kinematic": KINEMATIC}


def reward_terms(reward: str | Sequence[RewardTerm]) -> tuple[RewardTerm, ...]:
    """Terms of a preset, or the given ones.

    Raises:
        ValueError: If the preset is unknown or two terms share a name.
    """
    if isinstance(reward, str):
        if reward not in REWARD_PRESETS:
            raise ValueError(
                f"reward: got {reward!r}, expected one of {sorted(REWARD_PRESETS)} or a sequence "
                "of reward terms; try 'kinematic'"
            )
        return REWARD_PRESETS[reward]
    names = [term.name for term in reward]
    if len(set(names)) != len(names):
        raise ValueError(f"reward: got terms named {names}, expected distinct names; rename one")
    return tuple(reward)


def score(
    terms: Sequence[RewardTerm], motion: Motion
) -> tuple[Float64[np.ndarray, " b"], dict[str, Float64[np.ndarray, " b"]]]:
    """Reward of every car, and its named parts."""
    parts = {term.name: term(motion) for term in terms}
    total = np.zeros(len(motion.before))
    for part in parts.values():
        total = total + part
    return total, parts
