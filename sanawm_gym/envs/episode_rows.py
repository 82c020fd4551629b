"""A fixed number of episodes in rows, with their settings and random generators.

The bookkeeping between the Gymnasium protocol (`batched.py`) and a task (`core.py`): which row
begins how, what a row observes and reports, and how all of it is kept and brought back.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from .decision import Decision
from .row_state import RowState
from .settings import Settings
from .snapshot import Snapshot
from .spaces import Observation

ConfigT = TypeVar("ConfigT", bound=Settings)
StateT = TypeVar("StateT", bound=RowState)
SnapshotT = TypeVar("SnapshotT", bound=Snapshot[Any])


class EpisodeRows(ABC, Generic[ConfigT, StateT, SnapshotT]):
    """Episodes by row. Every method either works or leaves all as it was."""

    config_type: type[ConfigT]
    snapshot_type: type[SnapshotT]
    core: Any
    """Starts and advances episodes; has the `world` and the `seconds_per_decision`."""
    space: spaces.Space[Any]
    """Observations of a row."""
    action_space: spaces.Space[Any]
    """Actions of a row."""
    num_decisions = 1
    """Decisions of an action."""

    def __init__(self, config: ConfigT, num_rows: int, max_steps: int | None) -> None:
        """Keep the settings; no episode begins yet.

        Args:
            config: Settings of all rows, until `begin` is told otherwise.
            num_rows: Number of episodes.
            max_steps: Steps an episode, if fewer than the horizon holds.
        """
        self.config = config
        self.num_rows = num_rows
        self.max_steps = max_steps
        self.done = np.zeros(num_rows, dtype=np.bool_)
        self._generators: list[np.random.Generator | None] = [None] * num_rows
        self._state: StateT | None = None

    @property
    def state(self) -> StateT:
        """Episodes in progress.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._state is None:
            raise ResetNeeded("got no episode yet, expected a reset first; call reset()")
        return self._state

    @property
    def render_mode(self) -> str | None:
        """Render mode in force."""
        config: Any = self.config
        mode: str | None = config.render_mode
        return mode

    def check_started(self) -> None:
        """Raise `ResetNeeded` before the first reset."""
        _ = self.state

    @abstractmethod
    def begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Put new episodes into some rows.

        Args:
            rows: Which ones, ascending.
            seeds: A seed for every row of the batch; None goes on drawing from the row's generator.
            options: Fields of the config for the new episodes; see `split_options`.

        Raises:
            ValueError: If an option is unknown or impossible.
        """

    @abstractmethod
    def read(self, action: Any) -> Any:
        """Check the action of a single row, and give it a batch axis.

        Raises:
            ValueError: If it does not fit its space.
        """

    @abstractmethod
    def commands(self, actions: Any) -> Sequence[Any]:
        """What the actions of all rows ask for, one command a decision.

        Raises:
            ValueError: If the actions do not fit their space.
        """

    @abstractmethod
    def observe(self) -> Observation:
        """Observations of all rows, as fresh arrays."""

    @abstractmethod
    def info(self, row: int, decision: Decision | None = None, index: int = 0) -> dict[str, Any]:
        """Info of a row.

        Args:
            row: Which one.
            decision: What the last decision brought; None after a reset.
            index: The row's place in the decision.
        """

    @abstractmethod
    def _follow(self, state: StateT, command: Any, rows: Sequence[int]) -> tuple[StateT, Decision]:
        """Advance the state of some rows by their part of a command, which is for all rows."""

    def advance(self, rows: Sequence[int], command: Any) -> Decision:
        """Go on in some rows for one decision; the others stand still.

        Args:
            rows: Which ones, ascending.
            command: For every row of the batch.
        """
        before = self.state if len(rows) == self.num_rows else self.state.select(rows)
        after, decision = self._follow(before, command, rows)
        self._state = self.state.with_rows(after, rows)
        return decision

    def snapshot(self) -> SnapshotT:
        """All episodes and the random numbers to come, as a value."""
        states = [dict(g.bit_generator.state) for g in self._generators if g is not None]
        return self.snapshot_type(
            state=self.state, generators=tuple(copy.deepcopy(states)), done=self.done.copy()
        )

    def restore(self, snapshot: SnapshotT) -> None:
        """Go back to a snapshot.

        Raises:
            ValueError: If it is none, or has another number of rows or another picture size.
        """
        if not isinstance(snapshot, self.snapshot_type):
            raise ValueError(
                f"snapshot: got a {type(snapshot).__name__}, expected what snapshot() returned"
            )
        shape = snapshot.state.camera.shape
        expected = (self.num_rows, self.core.world.height, self.core.world.width, 3)
        if shape != expected:
            raise ValueError(
                f"snapshot: got pictures {shape}, expected what snapshot() returned in this world, "
                f"with pictures {expected}; fit the rows with snapshot.select([...])"
            )
        for row, state in enumerate(snapshot.generators):
            generator, _ = seeding.np_random(0)
            generator.bit_generator.state = copy.deepcopy(state)
            self._generators[row] = generator
        self._state = snapshot.state
        self.done = snapshot.done.copy()

    def _drawn_from(
        self, rows: Sequence[int], seeds: Sequence[int | None] | None
    ) -> list[np.random.Generator]:
        """Generators of some rows, to draw their starts from.

        They are copies: a start that fails must not have used up random numbers.
        """
        generators = []
        for row in rows:
            seed, current = seeds[row] if seeds else None, self._generators[row]
            if seed is None and current is not None:
                generators.append(copy.deepcopy(current))
            else:
                generators.append(seeding.np_random(seed)[0])
        return generators

    def _put(
        self, begun: StateT, rows: Sequence[int], generators: Sequence[np.random.Generator]
    ) -> None:
        """Take over episodes that have begun, and the generators as they are left."""
        everyone = len(rows) == self.num_rows
        self._state = begun if everyone else self.state.with_rows(begun, rows)
        self.done[list(rows)] = False
        for row, generator in zip(rows, generators, strict=True):
            self._generators[row] = generator

    def _limit(self, horizon: float, seconds_per_decision: float) -> float:
        """The horizon [s], cut to `max_steps`."""
        if self.max_steps is None:
            return horizon
        return min(horizon, self.max_steps * seconds_per_decision * self.num_decisions)
