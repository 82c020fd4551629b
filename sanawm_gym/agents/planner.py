"""A driver that tries before it acts: cross-entropy planning in forks of the world.

At every decision the world is forked into a batch of branches, each branch drives a plan of its own
for some seconds, the best plans say where to look next, and after a few rounds the first action of
the best one is taken (CEM: Rubinstein 1999; as planning: Chua et al. 2018). The branches are the
world itself, not a model of it: what a plan promises is what driving it brings, byte for byte.

An action is held for several decisions, so that few numbers make a plan; a plan that was found goes
on, shifted, as the middle of the next search.

Axes: n candidates, k actions of a plan, a numbers of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float64

from sanawm_gym.agents.policy import Action, Infos, Observation
from sanawm_gym.agents.vec_infos import split_infos

Score = Callable[[Float64[np.ndarray, " n"], Infos], Float64[np.ndarray, " n"]]
"""What a decision is worth to every branch, from its rewards and infos."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How far, how wide and how often a planner looks."""

    candidates: int = 16
    """Branches of the world that are driven together, >= 2."""
    elites: int = 4
    """Best of them that say where to look next, 1 to `candidates`."""
    rounds: int = 2
    """Searches a decision, >= 1."""
    decisions: int = 8
    """Length of a plan, >= 1; a decision lasts 0.25 s."""
    hold: int = 4
    """Decisions for which one action of a plan is held, >= 1."""
    deviation: tuple[float, ...] = (0.15, 0.4)
    """Spread of the first round's actions about the plan in force, as a share of half their range,
    > 0: of steering and of the pedals, or one for all numbers of an action. At speed a little
    steering goes a long way."""
    least_deviation: float = 0.03
    """Spread below which later rounds do not fall, likewise, > 0."""
    discount: float = 0.97
    """Weight of a decision against the one before it, above 0 to 1."""
    end_cost: float = 10.0
    """What a branch loses whose episode terminates, >= 0: the rewards it no longer gets."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        counts = (self.candidates - 1, self.elites, self.rounds, self.decisions, self.hold)
        if min(counts) < 1 or self.elites > self.candidates:
            raise ValueError(
                f"planner: got {self}, expected at least two candidates, other counts of at least "
                "1, and no more elites than candidates"
            )
        spreads = (*self.deviation, self.least_deviation)
        if not self.deviation or min(spreads) <= 0 or not 0 < self.discount <= 1:
            raise ValueError(
                f"planner: got {self}, expected deviations above 0 and a discount above 0 to 1"
            )


class CEMPlanner:
    """Plans for the one car of an environment that can be forked.

    Args:
        env: The environment that is driven; its `snapshot` and `fork` are used and it stays as it
            is.
        config: How it plans.
        score: What is to be made much of; the environment's reward by default.

    Raises:
        ValueError: If the environment cannot be forked or its actions have no bounds.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        config: PlannerConfig | None = None,
        score: Score | None = None,
    ) -> None:
        missing = [name for name in ("snapshot", "fork") if not hasattr(env.unwrapped, name)]
        if missing:
            raise ValueError(
                f"planner: got {env}, which lacks {missing}, expected an environment that can be "
                "forked; plan in SanaWM-Drive-v0"
            )
        space = env.action_space
        if not (isinstance(space, gym.spaces.Box) and space.is_bounded()):
            raise ValueError(
                f"planner: got the actions {space}, expected a Box with bounds; choose continuous "
                "actions"
            )
        self.config = config or PlannerConfig()
        self.value = 0.0
        """Discounted score that the plan in force promises."""
        self.plan: Float64[np.ndarray, "k a"]
        """Actions in force, each to be held for `hold` decisions."""
        self._env: Any = env.unwrapped
        self._score = score or (lambda rewards, infos: rewards)
        self._shape = space.shape
        self._low, self._high = (np.asarray(x, float).ravel() for x in (space.low, space.high))
        if len(self.config.deviation) not in (1, len(self._low)):
            raise ValueError(
                f"planner: got deviation={self.config.deviation} for actions of {len(self._low)} "
                "numbers, expected one for each or one for all"
            )
        self._branches: Any = None
        self.reset([0])

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin a drive: forget the plan, and draw by the seed from now on.

        Raises:
            ValueError: If there is more than one drive.
        """
        _check_one(len(seeds))
        self.close()
        self._rng = np.random.default_rng(seeds[0])
        length = -(-self.config.decisions // self.config.hold)
        self.plan = np.tile((self._low + self._high) / 2, (length, 1))
        self._age = 0

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Plan from where the environment stands now, and take the first action.

        Args:
            observation: Of the one car; only counted.
            infos: Not used: branches have their own.
        """
        _check_one(len(next(iter(observation.values()))))
        config = self.config
        moment = self._env.snapshot()
        if self._branches is None:
            self._branches = self._env.fork(config.candidates)
        start = moment.select([0] * config.candidates)
        middle = self._shifted()
        half_range = (self._high - self._low) / 2
        spread = np.broadcast_to(np.asarray(config.deviation) * half_range, middle.shape)
        least = config.least_deviation * half_range
        self.value = -np.inf
        for _ in range(config.rounds):
            drawn = self._rng.standard_normal((config.candidates, *middle.shape))
            # The middle itself is tried too: a round never forgets what it began from.
            drawn[0] = 0.0
            plans = np.clip(middle + drawn * spread, self._low, self._high)
            values = self._drive(start, plans)
            order = np.argsort(-values, kind="stable")[: config.elites]
            if values[order[0]] > self.value:
                self.value, self.plan = float(values[order[0]]), plans[order[0]]
            middle = plans[order].mean(axis=0)
            spread = np.maximum(plans[order].std(axis=0), least)
        self._age = 1
        return np.asarray(self.plan[0].reshape(1, *self._shape), dtype=np.float32)

    def close(self) -> None:
        """Close the branches."""
        if self._branches is not None:
            self._branches.close()
            self._branches = None

    def _shifted(self) -> Float64[np.ndarray, "k a"]:
        """The plan in force, seen one decision later; its last action goes on."""
        times = np.arange(len(self.plan)) * self.config.hold + self._age
        known = np.arange(len(self.plan)) * self.config.hold
        columns = [np.interp(times, known, column) for column in self.plan.T]
        return np.stack(columns, axis=1)

    def _drive(self, start: Any, plans: Float64[np.ndarray, "n k a"]) -> Float64[np.ndarray, " n"]:
        """Discounted score of every plan."""
        config, branches = self.config, self._branches
        branches.restore(start)
        values, is_on = np.zeros(len(plans)), np.ones(len(plans), dtype=np.bool_)
        for step in range(config.decisions):
            actions = plans[:, step // config.hold].reshape(-1, *self._shape)
            _, rewards, terminated, truncated, infos = branches.step(actions.astype(np.float32))
            gained = self._score(rewards, split_infos(infos, len(plans)))
            gained = gained - config.end_cost * terminated
            values += np.where(is_on, config.discount**step * gained, 0.0)
            over = terminated | truncated
            is_on &= ~over
            if not is_on.any():
                break
            if over.any():
                # A branch that ended takes the place of one that did not, and counts no more.
                going = int(np.flatnonzero(~over)[0])
                rows = np.where(over, going, np.arange(len(plans)))
                branches.restore(branches.snapshot().select(rows.tolist()))
        return values


def _check_one(num_cars: int) -> None:
    if num_cars != 1:
        raise ValueError(
            f"planner: got {num_cars} cars, expected one: a planner forks the world of one car; "
            "make one for each"
        )
