"""A stretch of a drive as an episode: rows planned from the poses first, then pictures written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int
from tqdm import tqdm

from sanawm_gym.camera import Intrinsics, fit_image
from sanawm_gym.episodes import episode_path
from sanawm_gym.geometry import check_poses
from sanawm_gym.video import VideoWriter

from .clock import Ticks, cut, sample
from .config import FPS, IngestConfig
from .drive import Drive
from .ego import Columns, ego_columns, unknown_columns
from .level import Level, mount_pitch
from .pictures import Picture

DRIVER = "human"
"""Policy of every foreign drive."""


@dataclass(frozen=True)
class Episode:
    """One episode to be."""

    pictures: Int[np.ndarray, " n"]
    """Numbers of its pictures in the drive."""
    poses: Float64[np.ndarray, "n 4 4"]
    """world_from_camera when they were taken [m], level."""
    ego: dict[str, Float64[np.ndarray, " n"]]
    """Ego columns."""


def plan(drive: Drive, config: IngestConfig, camera_height: float) -> tuple[list[Episode], int]:
    """Episodes of a drive, and how many stretches were too short for one.

    Raises:
        ValueError: If there is none, or the poses are not those of a camera on a car.
    """
    episodes: list[Episode] = []
    short = 0
    for ticks in sample(drive.times, drive.path.times):
        parts = cut(len(ticks.clock), config.min_frames, config.max_frames)
        short += not parts
        if parts:
            pitch = mount_pitch(drive.path.at(ticks.clock))
            episodes += [_level(drive, ticks, part, pitch, camera_height) for part in parts]
    if not episodes:
        raise ValueError(
            f"length: got {short} stretches shorter than min_seconds={config.min_seconds:g}, "
            "expected a longer drive"
        )
    return episodes, short


def _level(drive: Drive, ticks: Ticks, part: slice, pitch: float, camera_height: float) -> Episode:
    clock, taken = ticks.clock[part], ticks.taken[part]
    even = drive.path.at(clock)
    level = Level.of(clock, even, pitch=pitch, camera_height=camera_height)
    return Episode(
        ticks.pictures[part],
        check_poses(level.apply(taken, drive.path.at(taken))),
        ego_columns(level.apply(clock, even)),
    )


def write_episodes(
    drive: Drive,
    episodes: list[Episode],
    config: IngestConfig,
    *,
    shard: int,
    first: int,
    caption: str,
) -> list[Columns]:
    """Write the videos of a drive and return the columns of its table.

    Args:
        drive: Where the pictures are.
        episodes: What `plan` said.
        config: Folder and size.
        shard: Number of the shard.
        first: Number of the first episode.
        caption: Caption of all of them.

    Raises:
        ValueError: If a picture cannot be read or the lens is none the world model knows.
    """
    # The lens first: it needs no picture to be read.
    blank = np.zeros((drive.pictures.height, drive.pictures.width, 3), np.uint8)
    _, lens = fit_image(blank, drive.intrinsics, config.width, config.height)
    lens.check()
    wanted = np.concatenate([episode.pictures for episode in episodes]).tolist()
    frames = drive.pictures.read(wanted)
    columns = []
    with tqdm(total=len(wanted), unit="frame", desc="frames", leave=False) as bar:
        for number, episode in enumerate(episodes, first):
            path = episode_path(config.out, shard, number)
            _write_video(path, islice(frames, len(episode.pictures)), drive.intrinsics, config)
            bar.update(len(episode.pictures))
            columns.append(_columns(episode, lens, number, caption))
    return columns


def _write_video(
    path: Path, frames: Iterator[Picture], intrinsics: Intrinsics, config: IngestConfig
) -> None:
    with VideoWriter(path, FPS) as writer:
        for frame in frames:
            fitted, _ = fit_image(frame, intrinsics, config.width, config.height)
            writer.append(fitted)


def _columns(episode: Episode, lens: Intrinsics, number: int, caption: str) -> Columns:
    num = len(episode.pictures)
    columns = unknown_columns(num) | episode.ego
    columns["episode"], columns["frame"] = np.full(num, number), np.arange(num)
    columns["c2w"] = episode.poses.reshape(num, 16)
    columns["intrinsics"] = np.tile(lens.as_array(), (num, 1))
    columns["caption"], columns["policy"] = [caption] * num, [DRIVER] * num
    columns["world_seed"] = np.full(num, -1)
    return columns
