"""Cameras under way as a value, and snapshots of an environment.

Nothing in an `ExploreState` is ever changed in place: snapshots are states that were kept, forks
are states with a row repeated, and an autoreset is a row put in another's place.

Axes: b rows, h and w of the picture, c channels of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from sanawm_gym.envs.snapshot import Snapshot
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


class ExploreSnapshot(Snapshot[ExploreState]):
    """A free camera's environment at one moment; see `Snapshot`."""
