"""Drives in progress as a value; see `RowState`.

Axes: b rows, f raw frames of a decision, o outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.vehicle import YAW, VehicleConfig, X, Y

from .drift import DriftConfig
from .outcomes import OutcomeConfig
from .reading import Reading
from .reward import RewardConfig
from .road_filter import RoadBelief, RoadFilterConfig
from .row_state import RowState


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
    road_filter: RoadFilterConfig | None
    """How pictures and motion are put together, if they are."""
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
        return (self.vehicle, self.reward, self.road_filter, self.outcomes, self.drift)


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveState(RowState):
    """Drives in progress; nothing in it is ever changed in place."""

    episodes: tuple[Episode, ...]
    """Constants of every row."""
    vehicle: Float64[np.ndarray, "b 6"]
    """State of every car."""
    belief: RoadBelief | None
    """What is kept of the road from decision to decision; None in worlds without heads."""
    reading: Reading | None
    """What is known of the road now; None in worlds without heads."""
    counts: Int64[np.ndarray, "b o"]
    """Decisions in a row at which every outcome was read."""
    drift: Float64[np.ndarray, " b"]
    """Smoothed drift scores."""

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
    """What is known of the road, by name; None in worlds without heads."""

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
