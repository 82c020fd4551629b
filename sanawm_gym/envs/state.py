"""Drives in progress as a value.

Nothing in a `DriveState` is ever changed in place: starting makes one, advancing maps one to
another. Snapshots are states that were kept, forks are states with a row repeated, and an autoreset
is a row put in another's place.

Axes: b rows, f raw frames of a decision, h and w of the picture, c channels of a latent, o
outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.vehicle import YAW, VehicleConfig, X, Y
from sanawm_gym.worldmodel.world_state import WorldState

from .drift import DriftConfig
from .outcomes import OutcomeConfig
from .reading import Reading
from .reward import RewardConfig


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
    reward: RewardConfig
    """What is paid."""
    outcomes: OutcomeConfig | None
    """What ends the task, if anything."""
    drift: DriftConfig | None
    """What ends the trust in the world, if anything."""
    contrast: float
    """Standard deviation of the latent frame at the start."""
    num_decisions: int
    """Length of the episode."""

    @property
    def rules(self) -> tuple[object, ...]:
        """What rows must share to be driven and judged together."""
        return (self.vehicle, self.reward, self.outcomes, self.drift)


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
    reading: Reading | None
    """What the world reads off the newest pictures; None in worlds without heads."""
    counts: Int64[np.ndarray, "b o"]
    """Decisions in a row at which every outcome was read."""
    drift: Float64[np.ndarray, " b"]
    """Smoothed drift scores."""

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
            reading=None if self.reading is None else self.reading.select(index),
            counts=self.counts[index],
            drift=self.drift[index],
        )

    @classmethod
    def concat(cls, states: Sequence[DriveState]) -> DriveState:
        """Drives side by side."""
        if len(states) == 1:
            return states[0]
        readings = [state.reading for state in states if state.reading is not None]
        return cls(
            world=WorldState.concat([state.world for state in states]),
            episodes=tuple(episode for state in states for episode in state.episodes),
            vehicle=np.concatenate([state.vehicle for state in states]),
            camera=np.concatenate([state.camera for state in states]),
            decisions=np.concatenate([state.decisions for state in states]),
            distance=np.concatenate([state.distance for state in states]),
            reading=Reading.concat(readings) if readings else None,
            counts=np.concatenate([state.counts for state in states]),
            drift=np.concatenate([state.drift for state in states]),
        )

    def select_row(self, row: int) -> DriveRow:
        """One drive without what its world remembers."""
        return DriveRow(
            episode=self.episodes[row],
            vehicle=self.vehicle[row],
            decisions=int(self.decisions[row]),
            distance=float(self.distance[row]),
            drift=float(self.drift[row]),
            perceived=None if self.reading is None else self.reading.row(row),
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
    decisions: int
    """Decisions made since the reset."""
    distance: float
    """Way driven since the reset [m]."""
    drift: float
    """Smoothed drift score."""
    perceived: dict[str, dict[str, float]] | None
    """What the world reads off the newest picture, by name; None in worlds without heads."""

    @property
    def world_from_camera(self) -> Float64[np.ndarray, "4 4"]:
        """Pose of the newest frame [m]."""
        return np.asarray(frame_poses([self.episode], self.vehicle[None, None])[0, 0])


def equal_rules(episodes: Sequence[Episode]) -> list[list[int]]:
    """Rows that drive the same car for the same reward to the same ends: they advance together."""
    groups: list[list[int]] = []
    for row, episode in enumerate(episodes):
        for rows in groups:
            if episodes[rows[0]].rules == episode.rules:
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
