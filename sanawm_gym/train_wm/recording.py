"""Recorded drives as the stages read them: of one size, on one clock, the damaged ones left out.

What lies on disk may have another size or another clock than the world to be made. Pictures and
lens are always fitted together, every n-th frame is taken with its pose, and what cannot be made
right is refused.

A drive is damaged when its table, its video or its cameras cannot be true. It is named once in a
warning, left out and counted; where more than a share of a recording is like that, somebody should
look at it before a network does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from sanawm_gym.camera import Intrinsics, fit_image, fit_intrinsics
from sanawm_gym.episodes import EpisodeDataset, EpisodeInfo, episode_path
from sanawm_gym.geometry import check_poses
from sanawm_gym.train_wm.mp4 import count_frames
from sanawm_gym.worldmodel.folder import read_json, write_json

_MOST_ASIDE = 0.1
"""Share of a drive beside the road from which on it counts as one that leaves it."""
_LENS_TOLERANCE = 1e-3
"""Part of the picture's width by which a lens may change within a drive."""


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How recorded drives are read."""

    picture: tuple[int, int] = (72, 128)
    """Height and width of the world's pictures [px], multiples of the autoencoder's spatial stride.
    Recordings of another size are scaled to cover it and cut around the middle, and their
    intrinsics with them."""
    fps: float = 16.0
    """Clock of the world [Hz], > 0. Of recordings with a whole multiple of it every n-th frame is
    read; others are refused."""
    max_damaged: float = 0.05
    """Largest share of the episodes that may be damaged, 0 to 1. They are named, left out and
    counted; if there are more, the stage refuses the recording."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.picture) < 1:
            raise ValueError(f"picture must be a height and a width in pixels, got {self.picture}")
        if not 0 < self.fps < math.inf:
            raise ValueError(f"fps must be positive, got {self.fps}")
        if not 0 <= self.max_damaged <= 1:
            raise ValueError(f"max_damaged must lie in 0 ... 1, got {self.max_damaged}")

    def check_stride(self, spatial_stride: int) -> None:
        """Refuse pictures that an autoencoder cannot cut into cells.

        Args:
            spatial_stride: Pixels along a side of its cells.
        """
        if any(side % spatial_stride for side in self.picture):
            raise ValueError(
                f"got pictures of {self.picture[0]}x{self.picture[1]}, expected multiples of the "
                f"autoencoder's {spatial_stride} pixels a latent cell: choose another picture"
            )


@dataclass(frozen=True)
class Cameras:
    """Where the camera of a drive was, on the world's clock."""

    poses: Float64[np.ndarray, "f 4 4"]
    """world_from_camera of every frame [m]."""
    intrinsics: Float64[np.ndarray, " 4"]
    """fx, fy, cx, cy in pixels of the world's pictures."""


class Recording:
    """Reads the drives of a dataset.

    Args:
        path: Dataset folder.
        config: Size, clock and how much damage is borne.

    Attributes:
        episodes: Drives whose tables can be read.
        left_out: Files that are damaged, relative to the folder, and why.

    Raises:
        ValueError: If there is no dataset or its clock does not fit.
    """

    def __init__(self, path: Path, config: ReadingConfig) -> None:
        self.path, self.config = path, config
        dataset = EpisodeDataset(path, num_cached=1, skip_damaged=True)
        self._dataset, info = dataset, dataset.info
        self.episodes = dataset.episodes
        self.left_out: dict[str, str] = {}
        self._stride = whole_stride(info.fps, config.fps, path)
        # Nobody knows what a table that cannot be read had in it; there are its videos to count.
        lost = {
            table: max(1, len(list(episode_path(path, _shard(table), 0).parent.glob("*.mp4"))))
            for table in dataset.damaged
        }
        self.num_episodes = len(self.episodes) + sum(lost.values())
        self._num_damaged = 0
        for table, reason in dataset.damaged.items():
            self._leave_out(table, reason, lost[table])
        if (info.height, info.width) != config.picture:
            lens = Intrinsics(1.0, 1.0, 0.0, 0.0, info.width, info.height)
            _, box = fit_intrinsics(lens, config.picture[1], config.picture[0])
            kept = (box[2] - box[0]) * (box[3] - box[1]) / (info.width * info.height)
            print(
                f"pictures of {path} are fitted from {info.height}x{info.width} to "
                f"{config.picture[0]}x{config.picture[1]}, which keeps {kept:.0%} of them"
            )

    def split(self, held_out: float) -> tuple[list[EpisodeInfo], list[EpisodeInfo]]:
        """Episodes to train on and held-out ones, whether damaged or not.

        Which are held out does not change when a damaged video is mended.

        Args:
            held_out: Share of the episodes, the last ones; at least one is.
        """
        first = len(self.episodes) - max(1, round(held_out * len(self.episodes)))
        return self.episodes[:first], self.episodes[first:]

    def num_frames(self, info: EpisodeInfo) -> int:
        """Frames of a drive on the world's clock."""
        return (info.num_frames - 1) // self._stride + 1

    def cameras(self, info: EpisodeInfo) -> Cameras | None:
        """Cameras of a drive, or None if it is damaged as far as can be told without decoding."""
        if self._name(info.video) in self.left_out:
            return None
        try:
            num_coded = count_frames(info.video)
            if num_coded not in (None, info.num_frames):
                raise ValueError(
                    f"got {num_coded} frames in {info.video}, expected {info.num_frames} as in its "
                    "table; record it again"
                )
            columns = self._dataset.columns(info.index, names=["c2w", "intrinsics"])
            poses = check_poses(columns["c2w"], f"poses of {info.video}")
            return Cameras(poses[:: self._stride], self._lens(columns["intrinsics"]).as_array())
        except ValueError as error:
            self._leave_out(info.video, str(error))
            return None

    def frames(self, info: EpisodeInfo) -> UInt8[np.ndarray, "f h w 3"] | None:
        """Pictures of a drive, or None if they cannot be decoded."""
        if self._name(info.video) in self.left_out:
            return None
        try:
            frames = self._dataset.frames(info.index)[:: self._stride]
        except ValueError as error:
            self._leave_out(info.video, str(error))
            return None
        source = self._dataset.info
        middle = Intrinsics(1.0, 1.0, 0.0, 0.0, source.width, source.height)
        height, width = self.config.picture
        return fit_image(frames, middle, width, height)[0]

    def strays(self, info: EpisodeInfo) -> bool:
        """Whether a drive spends more than a tenth of its frames beside the road."""
        on_road = self._dataset.columns(info.index, names=["on_road"])["on_road"]
        return bool(1.0 - np.mean(on_road) > _MOST_ASIDE)

    def report(self) -> dict[str, Any]:
        """What became of the drives."""
        return {
            "num_episodes": self.num_episodes,
            "num_left_out": self._num_damaged,
            "left_out": self.left_out,
        }

    def _lens(self, rows: Float64[np.ndarray, "f 4"]) -> Intrinsics:
        """The one lens of a drive, fitted."""
        info = self._dataset.info
        if not np.abs(rows - rows[0]).max() <= _LENS_TOLERANCE * info.width:  # also refuses NaN
            raise ValueError("the intrinsics are not finite or change, expected one lens")
        fx, fy, cx, cy = rows[0].tolist()
        lens = Intrinsics(fx, fy, cx, cy, info.width, info.height)
        return fit_intrinsics(lens, self.config.picture[1], self.config.picture[0])[0].check()

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _leave_out(self, file: Path, reason: str, num_episodes: int = 1) -> None:
        name = self._name(file)
        self.left_out[name] = " ".join(reason.split())
        self._num_damaged += num_episodes
        warnings.warn(f"left out {name}: {self.left_out[name]}", stacklevel=3)
        if self._num_damaged > self.config.max_damaged * self.num_episodes:
            first = next(iter(self.left_out.items()))
            raise ValueError(
                f"{self.path}: {self._num_damaged} of {self.num_episodes} episodes are damaged, "
                f"expected at most a share of {self.config.max_damaged:g} (max_damaged); the "
                f"first, {first[0]}: {first[1]}"
            )


def conclude(recordings: Sequence[Recording], out: Path) -> None:
    """Print how many drives were left out, and add which to the ``run.json`` of a folder.

    Args:
        recordings: What was read; of one the report is an object, of several a list of them.
        out: The folder.
    """
    reports = [recording.report() for recording in recordings]
    for recording, report in zip(recordings, reports, strict=True):
        num_episodes, num_left_out = report["num_episodes"], report["num_left_out"]
        print(
            f"read {num_episodes - num_left_out} of {num_episodes} episodes of "
            f"{recording.path}; {num_left_out} damaged and left out"
        )
    path = out / "run.json"
    run = read_json(path) if path.is_file() else {}
    write_json(path, {**run, "recording": reports[0] if len(reports) == 1 else reports})


def whole_stride(recorded: float, wanted: float, path: Path) -> int:
    """Every how many recorded frames one is read.

    Args:
        recorded: Clock of the recording [Hz].
        wanted: Clock of the world [Hz].
        path: The recording, to be named.

    Raises:
        ValueError: If the world's frames do not fall on recorded ones.
    """
    stride = round(recorded / wanted)
    if stride < 1 or abs(recorded / wanted - stride) > 1e-6:
        raise ValueError(
            f"{path} has {recorded:g} frames/s, expected a whole multiple of the world's "
            f"{wanted:g}: poses between frames would not be those of any picture, so bring the "
            "videos to that clock first (`sanawm-gym ingest` does) or choose another fps"
        )
    return stride


def _shard(table: Path) -> int:
    return int(table.stem.split("-")[1])
