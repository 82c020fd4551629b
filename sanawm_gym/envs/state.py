"""Drives in progress as a value.

Nothing in a `DriveState` is ever changed in place: starting makes one, advancing maps one to
another. Snapshots are states that were kept, forks are states with a row repeated, and an autoreset
is a row put in another's place.

Axes: b rows, f raw frames of a decision, h and w of the picture, c channels of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.vehicle import YAW, VehicleConfig, X, Y
from sanawm_gym.worldmodel.world_state import WorldState

from .reward import RewardTerm

Readings: TypeAlias = dict[str, dict[str, float]]
"""Mean and deviation by quantity (`worldmodel.heads.QUANTITIES`)."""


@dataclass(frozen=True, kw_only=True)
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
    rig: CameraRig
    """Camera mount."""
    vehicle: VehicleConfig
    """The car."""
    terms: tuple[RewardTerm, ...]
    """Parts of the reward."""
    num_decisions: int
    """Length of the episode."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveState:
    """Drives in progress; nothing in it is ever changed in place."""

    world: WorldState
    """What the world model remembers."""
    episodes: tuple[Episode, ...]
    """Constants of every row."""
    vehicle: Float64[np.ndarray, "b 6"]
    """State of every car."""
    camera: UInt8[np.ndarray, "b h w 3"]
    """Newest raw frame."""
    decisions: Int64[np.ndarray, " b"]
    """Decisions made since the reset."""
    distance: Float64[np.ndarray, " b"]
    """Way driven since the reset [m]."""
    perceived: tuple[Readings | None, ...]
    """What the world reads off every row's newest picture; None in worlds without heads."""

    @property
    def num_rows(self) -> int:
        """Number of drives."""
        return len(self.episodes)

    def select(self, rows: Sequence[int]) -> DriveState:
        """Drives by index, in any order; a repeated index forks a drive."""
        index = [int(row) for row in rows]
        return DriveState(
            world=self.world.select(index),
            episodes=tuple(self.episodes[row] for row in index),
            vehicle=self.vehicle[index],
            camera=self.camera[index],
            decisions=self.decisions[index],
            distance=self.distance[index],
            perceived=tuple(self.perceived[row] for row in index),
        )

    @classmethod
    def concat(cls, states: Sequence[DriveState]) -> DriveState:
        """Drives side by side."""
        if len(states) == 1:
            return states[0]
        return cls(
            world=WorldState.concat([state.world for state in states]),
            episodes=tuple(episode for state in states for episode in state.episodes),
            vehicle=np.concatenate([state.vehicle for state in states]),
            camera=np.concatenate([state.camera for state in states]),
            decisions=np.concatenate([state.decisions for state in states]),
            distance=np.concatenate([state.distance for state in states]),
            perceived=tuple(readings for state in states for readings in state.perceived),
        )

    def select_row(self, row: int) -> DriveRow:
        """One drive without what its world remembers."""
        return DriveRow(
            episode=self.episodes[row],
            vehicle=self.vehicle[row],
            world_from_camera=frame_poses(
                self.episodes[row : row + 1], self.vehicle[None, row : row + 1]
            )[0, 0],
            decisions=int(self.decisions[row]),
            distance=float(self.distance[row]),
            perceived=self.perceived[row],
        )

    def latent(self) -> Float32[np.ndarray, "b c h w"]:
        """Newest latent frame of every row."""
        return np.array(self.world.latent.float().cpu().numpy())


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveRow:
    """What there is to say about one drive at one moment."""

    episode: Episode
    """Constants of the drive."""
    vehicle: Float64[np.ndarray, " 6"]
    """State of the car."""
    world_from_camera: Float64[np.ndarray, "4 4"]
    """Pose of the newest frame [m]."""
    decisions: int
    """Decisions made since the reset."""
    distance: float
    """Way driven since the reset [m]."""
    perceived: Readings | None
    """What the world reads off the newest picture."""


def equal_cars(episodes: Sequence[Episode]) -> list[list[int]]:
    """Rows that drive the same car for the same reward, so that they advance together."""
    groups: list[list[int]] = []
    for row, episode in enumerate(episodes):
        for rows in groups:
            first = episodes[rows[0]]
            if (first.vehicle, first.terms) == (episode.vehicle, episode.terms):
                rows.append(row)
                break
        else:
            groups.append([row])
    return groups


def frame_poses(
    episodes: Sequence[Episode], states: Float64[np.ndarray, "b f 6"]
) -> Float64[np.ndarray, "b f 4 4"]:
    """`world_from_camera` [m] of cars under their mounts."""
    vehicles = planar_pose(
        np.ascontiguousarray(states[..., X]),
        np.ascontiguousarray(states[..., Y]),
        np.ascontiguousarray(states[..., YAW]),
    )
    return np.stack(
        [camera_poses(path, episode.rig) for path, episode in zip(vehicles, episodes, strict=True)]
    )
