"""Snapshots of environments: their rows, the random numbers to come, and who is due for a reset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Bool

from .row_state import RowState
from .state import DriveState

StateT = TypeVar("StateT", bound=RowState)
SnapshotT = TypeVar("SnapshotT", bound="Snapshot[Any]")


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot(Generic[StateT]):
    """An environment at one moment, as a value: it can be kept, pickled, copied and restored.

    Going on from a restored snapshot with the same actions gives byte-identical pictures, also
    through later resets. It holds no weights: restore it in an environment of the same world.
    """

    state: StateT
    """The rows."""
    generators: tuple[dict[str, Any], ...]
    """State of every row's random generator, which draws the starts of later episodes."""
    done: Bool[np.ndarray, " b"]
    """Rows whose episode has ended."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.state.num_rows

    def select(self: SnapshotT, rows: Sequence[int]) -> SnapshotT:
        """Rows by index, in any order; a repeated index forks a row.

        Raises:
            ValueError: If an index is out of range.
        """
        index = [int(row) for row in rows]
        if not index or not all(0 <= row < self.num_rows for row in index):
            raise ValueError(
                f"snapshot: got rows {index}, expected at least one of 0 to {self.num_rows - 1}"
            )
        return dataclasses.replace(
            self,
            state=self.state.select(index),
            generators=tuple(self.generators[row] for row in index),
            done=self.done[index],
        )


class DriveSnapshot(Snapshot[DriveState]):
    """A driving environment at one moment; see `Snapshot`."""
