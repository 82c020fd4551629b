"""Cameras under way as a value, see `RowState`, and snapshots of an environment.

Axes: b rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.envs.row_state import RowState
from sanawm_gym.envs.snapshot import Snapshot
from sanawm_gym.paths.keys import Walker


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """What stays the same from one reset of a row to the next."""

    start: str
    """Name of the start."""
    prompt: str
    """Description in force."""
    world_seed: int
    """Seed of the world's noise."""
    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy [px]."""
    world_from_level: Float64[np.ndarray, "4 4"]
    """Upright frame at the first camera in which keys walk [m]."""
    num_decisions: int
    """Length of the episode."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExploreState(RowState):
    """Cameras under way; nothing in it is ever changed in place."""

    episodes: tuple[Episode, ...]
    """Constants of every row."""
    walkers: tuple[Walker, ...]
    """Where keys have led; at the start where actions are continuous."""
    poses: Float64[np.ndarray, "b 4 4"]
    """`world_from_camera` of the newest frame [m]."""
    motion: Float64[np.ndarray, "b 6"]
    """Velocity along and about `moves.AXES` [m/s, rad/s]."""


class ExploreSnapshot(Snapshot[ExploreState]):
    """A free camera's environment at one moment; see `Snapshot`."""
