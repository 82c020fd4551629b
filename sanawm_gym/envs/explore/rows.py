"""A fixed number of cameras under one world model: how a row begins, observes and reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sanawm_gym.envs.config import split_options
from sanawm_gym.envs.decision import Decision
from sanawm_gym.envs.episode_rows import EpisodeRows
from sanawm_gym.envs.known_motion import say_that_it_left
from sanawm_gym.envs.rows import core_of
from sanawm_gym.envs.spaces import Observation

from .config import EPISODE_FIELDS, ExploreConfig
from .core import ExploreCore
from .moves import action_space, read_actions
from .state import ExploreSnapshot, ExploreState
from .views import observation_space, observe, reset_info, step_info


class ExploreRows(EpisodeRows[ExploreConfig, ExploreState, ExploreSnapshot]):
    """Cameras by row; see `EpisodeRows`."""

    config_type = ExploreConfig
    snapshot_type = ExploreSnapshot

    def __init__(self, config: ExploreConfig, num_rows: int, max_steps: int | None) -> None:
        """Load the world; no episode begins yet.

        Args:
            config: Settings of all rows.
            num_rows: Number of cameras.
            max_steps: Decisions an episode, if fewer than the horizon holds.

        Raises:
            ValueError: If the world, device or dtype is unknown.
        """
        super().__init__(config, num_rows, max_steps)
        self.core: ExploreCore = ExploreCore(core_of(config))
        self.space = observation_space(config, self.core)
        self.action_space = action_space(config.action)

    def begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Put new episodes into some rows; see `EpisodeRows`."""
        options = options or {}
        fixed = sorted(set(options) - EPISODE_FIELDS)
        if fixed:
            raise ValueError(
                f"options: got {fixed}, expected some of {sorted(EPISODE_FIELDS)}; what else there "
                "is belongs to the environment, make another one"
            )
        if len(rows) < self.num_rows:
            self.check_started()
        own = split_options(options, self.num_rows)
        configs = [self._limited(self.config.replace(own[row])) for row in rows]
        generators = self._drawn_from(rows, seeds)
        self._put(self.core.start(configs, generators), rows, generators)

    def read(self, action: Any) -> Any:
        """Check the action of a single camera, and give it a batch axis."""
        return read_actions(action, self.config.action, None)[None]

    def commands(self, actions: Any) -> list[np.ndarray]:
        """The actions of all rows, checked: they are held for one decision."""
        return [read_actions(actions, self.config.action, self.num_rows)]

    def observe(self) -> Observation:
        """Observations of all rows, as fresh arrays."""
        return observe(self.state, self.config)

    def info(self, row: int, decision: Decision | None = None, index: int = 0) -> dict[str, Any]:
        """Info of a row; see `EpisodeRows`."""
        if decision is None:
            return reset_info(self.state, row, self.core)
        return step_info(self.state, row, self.core, decision, index, self.config)

    def _follow(
        self, state: ExploreState, command: np.ndarray, rows: Sequence[int]
    ) -> tuple[ExploreState, Decision]:
        after, decision = self.core.advance(state, command[list(rows)], self.config)
        say_that_it_left(
            os.fspath(self.config.world),
            self.core.envelope,
            decision.departures,
            slower="a lower max_speed and max_turn_deg",
        )
        return after, decision

    def _limited(self, config: ExploreConfig) -> ExploreConfig:
        limited = self._limit(config.horizon, self.core.seconds_per_decision)
        return config.replace({"horizon": limited})
