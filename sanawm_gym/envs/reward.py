"""Rewards: named terms, how they make one number, and the presets.

    reward of a decision = (sum of the gains) x (product of the factors),
    and if the decision ended the drive by an outcome, `ending` instead.

Summed penalties can be traded for progress; multiplied ones cannot, which is why CaRL's reward goes
on improving with scale where summed ones stall [Jaeger et al. 2025, arXiv 2504.17838]. It is the
default wherever the road can be read. Worlds without heads have `kinematic`, which looks at the
exact motion of the car and at nothing else and is **blind to the picture**: a car that leaves the
drawn road at speed is paid for every metre.

A term is any object with a `name` that maps a `Transition` to one number a car. It may bring a
reader of its own: `Transition.picture` is what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from .terms import (
    COMFORT_BOUNDS,
    URBAN_LIMIT,
    Chance,
    Comfort,
    ComfortBounds,
    LaneOffset,
    LaneProgress,
    Progress,
    Speed,
    SpeedLimit,
    TimeToCollision,
)
from .transition import Transition

ENDING = "ending"
"""Key in `info["reward_terms"]` of what a drive's end is worth."""
AUTO = "auto"
"""`carl` where the road can be read, `kinematic` elsewhere."""


@runtime_checkable
class RewardTerm(Protocol):
    """One named part of a reward.

    A term that uses `Transition.reading` says so with a class attribute `reads = True`, so that a
    world that cannot read refuses it when the environment is made and not in the middle of a drive.
    """

    @property
    def name(self) -> str:
        """Key in `info["reward_terms"]`."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """Value of the term for every car."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """How terms make one number."""

    gains: tuple[RewardTerm, ...]
    """Added up."""
    factors: tuple[RewardTerm, ...] = ()
    """Multiply the sum; each between 0 and 1."""
    ending: float | None = None
    """Reward of the decision that ends a drive by an outcome, whatever else it brought; None pays
    it like any other."""

    def __post_init__(self) -> None:
        """Check that every term has a name of its own."""
        names = [ENDING, *(term.name for term in self.terms)]
        if not self.terms or len(set(names)) != len(names):
            raise ValueError(
                f"reward: got terms named {names[1:]}, expected at least one and distinct names "
                f"other than {ENDING!r}; rename one"
            )

    @property
    def terms(self) -> tuple[RewardTerm, ...]:
        """Gains and factors."""
        return self.gains + self.factors

    @property
    def reads(self) -> bool:
        """Whether a term needs a world that reads its pictures."""
        return any(getattr(term, "reads", False) for term in self.terms)

    def blank(self) -> dict[str, float]:
        """All keys with zeros, for the info of a reset."""
        names = [term.name for term in self.terms]
        return dict.fromkeys(names if self.ending is None else [*names, ENDING], 0.0)

    def score(
        self, transition: Transition, ended: Bool[np.ndarray, " b"]
    ) -> tuple[Float64[np.ndarray, " b"], dict[str, Float64[np.ndarray, " b"]]]:
        """Reward of every car, and its named parts.

        Args:
            transition: What the decision did.
            ended: Whether it ended the drive by an outcome.
        """
        parts = {term.name: term(transition) for term in self.terms}
        total = np.zeros(len(transition.before))
        for term in self.gains:
            total = total + parts[term.name]
        for term in self.factors:
            total = total * parts[term.name]
        if self.ending is not None:
            parts[ENDING] = np.where(ended, self.ending, 0.0)
            total = np.where(ended, self.ending, total)
        return total, parts


KINEMATIC = RewardConfig(
    gains=(
        Progress(),
        *(
            Comfort(name=name, low=low, high=high)
            for name, (low, high) in COMFORT_BOUNDS.items()
            if name != "jerk_magnitude"
        ),
    )
)
"""Progress minus comfort penalties, from the exact ego motion; blind to the picture."""

CARL = RewardConfig(
    gains=(LaneProgress(),),
    factors=(SpeedLimit(), LaneOffset(), TimeToCollision(), ComfortBounds()),
    ending=-1.0,
)
"""Progress along the lane times soft penalties; -1 for the infraction that ends the drive."""

METADRIVE = RewardConfig(gains=(LaneProgress(weight=1.0), Speed()), ending=-5.0)
"""MetaDrive's: 1 a metre along the lane and up to 1 a second for speed; -5 at a bad end. Its +10
for arriving has no counterpart: a drive has no destination."""

PDM = RewardConfig(
    gains=(
        LaneProgress(weight=5 / 12, full_speed=URBAN_LIMIT),
        TimeToCollision(penalty=1.0, weight=5 / 12),
        ComfortBounds(penalty=1.0, graded=False, weight=2 / 12),
    ),
    factors=(
        Chance(quantity="crashed", wanted=False, name="no_collision"),
        Chance(quantity="on_road"),
    ),
    ending=0.0,
)
"""NAVSIM's PDM score of every decision, between 0 and 1: NC x DAC x (5 EP + 5 TTC + 2 C) / 12.
Progress is measured against `URBAN_LIMIT`, as no human drove here first; on the road means the
middle of the car."""

REWARD_PRESETS: dict[str, RewardConfig] = {
    "carl": CARL,
    "metadrive": METADRIVE,
    "pdm": PDM,
    "kinematic": KINEMATIC,
}


def reward_config(
    reward: str | RewardConfig | Sequence[RewardTerm], can_read: bool
) -> RewardConfig:
    """What a setting stands for in a world.

    Args:
        reward: A preset, `auto`, a config, or terms to be added up.
        can_read: Whether the world reads its pictures, or knows the truth.

    Raises:
        ValueError: If it is none of these, or needs a reading where there is none.
    """
    if isinstance(reward, RewardConfig):
        config = reward
    elif isinstance(reward, str):
        if reward not in (AUTO, *REWARD_PRESETS):
            raise ValueError(
                f"reward: got {reward!r}, expected one of {[AUTO, *REWARD_PRESETS]}, a "
                "RewardConfig or a sequence of reward terms; try 'auto'"
            )
        automatic = CARL if can_read else KINEMATIC
        config = automatic if reward == AUTO else REWARD_PRESETS[reward]
    else:
        config = RewardConfig(gains=_terms(reward))
    if config.reads and not can_read:
        names = [term.name for term in config.terms if getattr(term, "reads", False)]
        raise ValueError(
            f"reward: got {reward if isinstance(reward, str) else names!r}, which reads the road, "
            "in a world without heads; expected 'kinematic' or terms that look at the motion or "
            "the picture alone; train heads with: sanawm-gym train-wm heads"
        )
    return config


def _terms(reward: object) -> tuple[RewardTerm, ...]:
    """Terms that were given one by one."""
    if isinstance(reward, Sequence) and all(isinstance(term, RewardTerm) for term in reward):
        return tuple(reward)
    raise ValueError(
        f"reward: got {reward!r}, expected reward terms, which have a name and can be called; see "
        "sanawm_gym.envs.reward.RewardTerm"
    )
