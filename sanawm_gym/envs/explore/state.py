"""Cameras under way as a value, and snapshots of an environment.

Nothing in an `ExploreState` is ever changed in place: snapshots are states that were kept, forks
are states with a row repeated, and an autoreset is a row put in another's place.

Axes: b rows, h and w of the picture, c channels of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from sanawm_gym.paths.keys import Walker
from sanawm_gym.worldmodel.world_state import WorldState


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
class ExploreState:
    """Cameras under way; nothing in it is ever changed in place."""

    world: WorldState
    """What the world model remembers."""
    episodes: tuple[Episode, ...]
    """Constants of every row."""
    walkers: tuple[Walker, ...]
    """Where keys have led; at the start where actions are continuous."""
    poses: Float64[np.ndarray, "b 4 4"]
    """`world_from_camera` of the newest frame [m]."""
    motion: Float64[np.ndarray, "b 6"]
    """Velocity along and about `moves.AXES` [m/s, rad/s]."""
    camera: UInt8[np.ndarray, "b h w 3"]
    """Newest raw frame."""
    decisions: Int64[np.ndarray, " b"]
    """Decisions made since the reset."""
    distance: Float64[np.ndarray, " b"]
    """Way since the reset [m]."""

    @property
    def num_rows(self) -> int:
        """Number of cameras."""
        return len(self.episodes)

    def select(self, rows: Sequence[int]) -> ExploreState:
        """Cameras by index, in any order; a repeated index forks one."""
        index = [int(row) for row in rows]
        return ExploreState(
            world=self.world.select(index),
            episodes=tuple(self.episodes[row] for row in index),
            walkers=tuple(self.walkers[row] for row in index),
            poses=self.poses[index],
            motion=self.motion[index],
            camera=self.camera[index],
            decisions=self.decisions[index],
            distance=self.distance[index],
        )

    @classmethod
    def concat(cls, states: Sequence[ExploreState]) -> ExploreState:
        """Cameras side by side."""
        if len(states) == 1:
            return states[0]
        return cls(
            world=WorldState.concat([state.world for state in states]),
            episodes=tuple(episode for state in states for episode in state.episodes),
            walkers=tuple(walker for state in states for walker in state.walkers),
            poses=np.concatenate([state.poses for state in states]),
            motion=np.concatenate([state.motion for state in states]),
            camera=np.concatenate([state.camera for state in states]),
            decisions=np.concatenate([state.decisions for state in states]),
            distance=np.concatenate([state.distance for state in states]),
        )

    def with_rows(self, fresh: ExploreState, rows: Sequence[int]) -> ExploreState:
        """These cameras with some rows replaced."""
        kept = [row for row in range(self.num_rows) if row not in set(rows)]
        if not kept:
            return fresh
        order = [*kept, *rows]
        joined = ExploreState.concat([self.select(kept), fresh])
        return joined.select([order.index(row) for row in range(self.num_rows)])

    def latent(self) -> Float32[np.ndarray, "b c h w"]:
        """Newest latent frame of every row."""
        return np.array(self.world.latent.float().cpu().numpy())


@dataclass(frozen=True, kw_only=True, eq=False)
class ExploreSnapshot:
    """An environment at one moment, as a value: it can be kept, pickled, copied and restored.

    Going on from a restored snapshot with the same actions gives byte-identical pictures, also
    through later resets. It holds no weights: restore it in an environment of the same world.
    """

    state: ExploreState
    """The cameras."""
    generators: tuple[dict[str, Any], ...]
    """State of every row's random generator, which draws the starts of later episodes."""
    done: Bool[np.ndarray, " b"]
    """Rows whose episode has ended."""

    @property
    def num_rows(self) -> int:
        """Number of cameras."""
        return self.state.num_rows

    def select(self, rows: Sequence[int]) -> ExploreSnapshot:
        """Rows by index, in any order; a repeated index forks a camera.

        Raises:
            ValueError: If an index is out of range.
        """
        index = [int(row) for row in rows]
        if not index or not all(0 <= row < self.num_rows for row in index):
            raise ValueError(
                f"snapshot: got rows {index}, expected at least one of 0 to {self.num_rows - 1}"
            )
        return ExploreSnapshot(
            state=self.state.select(index),
            generators=tuple(self.generators[row] for row in index),
            done=self.done[index],
        )
