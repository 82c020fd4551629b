"""Episodes under way as a value: rows that can be taken, repeated and put side by side.

Nothing in a `RowState` is ever changed in place: starting makes one, advancing maps one to another.
Snapshots are states that were kept, forks are states with a row repeated, and an autoreset is a row
put in another's place.

Axes: b rows, h and w of the picture, c channels of a latent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from .worlds import Memory

StateT = TypeVar("StateT", bound="RowState")


@dataclass(frozen=True, kw_only=True, eq=False)
class RowState:
    """What every generated episode has; every field of a state has a row an episode.

    Fields are arrays, tuples, None, or values with `select` and `concat` of their own.
    """

    world: Memory
    """What the world model remembers."""
    episodes: tuple[Any, ...]
    """Constants of every row."""
    camera: UInt8[np.ndarray, "b h w 3"]
    """Newest raw frame."""
    decisions: Int64[np.ndarray, " b"]
    """Decisions made since the reset."""
    distance: Float64[np.ndarray, " b"]
    """Way since the reset [m]."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.episodes)

    def select(self: StateT, rows: Sequence[int]) -> StateT:
        """Rows by index, in any order; a repeated index forks a row."""
        index = [int(row) for row in rows]
        return dataclasses.replace(
            self, **{name: _selected(value, index) for name, value in _values(self).items()}
        )

    @classmethod
    def concat(cls: type[StateT], states: Sequence[StateT]) -> StateT:
        """Rows side by side."""
        if len(states) == 1:
            return states[0]
        columns = [_values(state) for state in states]
        return cls(**{name: _joined([each[name] for each in columns]) for name in columns[0]})

    def with_rows(self: StateT, fresh: StateT, rows: Sequence[int]) -> StateT:
        """These rows with some of them replaced.

        Args:
            fresh: What stands there afterwards.
            rows: Which ones, ascending.
        """
        kept = [row for row in range(self.num_rows) if row not in set(rows)]
        if not kept:
            return fresh
        order = [*kept, *rows]
        joined = type(self).concat([self.select(kept), fresh])
        return joined.select([order.index(row) for row in range(self.num_rows)])

    def latent(self) -> Float32[np.ndarray, "b c h w"]:
        """Newest latent frame of every row."""
        return np.array(self.world.latent.float().cpu().numpy())


def _values(state: RowState) -> dict[str, Any]:
    # Not `dataclasses.asdict`, which would copy the values and take them apart.
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _selected(value: Any, index: list[int]) -> Any:
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return value[index]
    if isinstance(value, tuple):
        return tuple(value[row] for row in index)
    return value.select(index)


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, tuple):
        return tuple(item for value in values for item in value)
    return type(first).concat(values)
