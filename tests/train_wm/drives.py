"""Recordings made by hand: of any size, clock and length, and quick to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.episodes import (
    EGO_COLUMNS,
    FLAG_COLUMNS,
    FORMAT_VERSION,
    LIST_COLUMNS,
    TRUTH_COLUMNS,
    DatasetInfo,
    episode_path,
    write_info,
    write_shard,
)
from sanawm_gym.geometry import planar_pose
from sanawm_gym.video import write_video

LENS = (0.8, 0.8, 0.5, 0.4)
"""fx and fy over the width, cx over the width, cy over the height."""


def drive_poses(num: int, fps: float) -> np.ndarray:
    """A car that goes at 8 m/s and turns left."""
    times = np.arange(num) / fps
    return camera_poses(planar_pose(8.0 * times, 0.0, 0.1 * times), CameraRig())


def picture(height: int, width: int, frame: int) -> np.ndarray:
    """Left to right dark to bright, all of it brighter from frame to frame."""
    ramp = np.linspace(20, 120, width)[None, :, None] + 2.0 * frame
    return np.broadcast_to(ramp, (height, width, 3)).round().astype(np.uint8)


def write_drives(
    root: Path,
    lengths: Sequence[int],
    *,
    size: tuple[int, int] = (72, 128),
    fps: float = 16.0,
    per_shard: int = 2,
    poses: dict[int, np.ndarray] | None = None,
    aside: dict[int, int] | None = None,
) -> Path:
    """Write a dataset of drives of some lengths.

    `poses` replaces those of some episodes, `aside` is how many frames some spend beside the road.
    """
    height, width = size
    shards = [range(first, len(lengths))[:per_shard] for first in range(0, len(lengths), per_shard)]
    for shard, episodes in enumerate(shards):
        for episode in episodes:
            frames = [picture(height, width, frame) for frame in range(lengths[episode])]
            write_video(episode_path(root, shard, episode), frames, fps)
        tables = []
        for episode in episodes:
            num = lengths[episode]
            columns: dict[str, np.ndarray | list[str]] = {
                name: np.zeros((num, wide)) for name, wide in LIST_COLUMNS.items()
            }
            columns |= {name: np.zeros(num) for name in (*EGO_COLUMNS, *TRUTH_COLUMNS)}
            columns |= {name: np.zeros(num, bool) for name in FLAG_COLUMNS}
            columns["on_road"] = np.arange(num) >= (aside or {}).get(episode, 0)
            columns["c2w"] = (poses or {}).get(episode, drive_poses(num, fps)).reshape(num, 16)
            lens = np.array(LENS) * [width, width, width, height]
            columns["intrinsics"] = np.tile(lens, (num, 1))
            columns["episode"], columns["frame"] = np.full(num, episode), np.arange(num)
            columns["caption"], columns["policy"] = [f"road {episode}"] * num, ["good"] * num
            columns["world_seed"] = np.full(num, episode)
            tables.append(columns)
        write_shard(root, shard, tables)
    info = DatasetInfo(
        format_version=FORMAT_VERSION, fps=fps, width=width, height=height, seed=0,
        num_episodes=len(lengths), num_frames=sum(lengths), episodes_per_shard=per_shard,
        seconds=max(lengths) / fps,
    )  # fmt: skip
    write_info(root, info)
    return root


def cut_off(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
