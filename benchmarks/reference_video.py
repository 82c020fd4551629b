"""Reference video for a benchmark: recorded if need be, and seen at a world's picture size.

Axes: f frames, h rows, w columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sanawm_gym.camera import Intrinsics, fit_image
from sanawm_gym.episodes import EpisodeDataset


def recorded(data: Path | None, folder: Path, *, episodes: int, seconds: float, seed: int) -> Path:
    """The folder given, or a new recording in `folder`.

    Args:
        data: Dataset folder, or None.
        folder: Where to record.
        episodes: Drives to record.
        seconds: Length of each [s].
        seed: Seed of the recording.
    """
    if data is not None:
        return data
    from sanawm_gym.envs.reference.record import RecordConfig, record

    return record(RecordConfig(out=folder, episodes=episodes, seconds=seconds, seed=seed))


def fitted(
    dataset: EpisodeDataset, episode: int, size: tuple[int, int], stop: int | None = None
) -> tuple[UInt8[np.ndarray, "f h w 3"], Float[np.ndarray, " 4"]]:
    """Pictures of a recorded drive and their lens (fx, fy, cx, cy) [px].

    Args:
        dataset: Recorded drives, each of one lens.
        episode: Number of the drive.
        size: Width and height of the pictures [px].
        stop: Frame to stop before; None takes all.
    """
    frames = dataset.frames(episode, 0, stop)
    fx, fy, cx, cy = dataset.columns(episode, 0, 1, ["intrinsics"])["intrinsics"][0]
    lens = Intrinsics(fx, fy, cx, cy, frames.shape[2], frames.shape[1])
    pictures, lens = fit_image(frames, lens, *size)
    return pictures, np.array(lens.as_array(), dtype=np.float64)


def resized(
    frames: UInt8[np.ndarray, "*f h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "*f height width 3"]:
    """Pictures of one world at the size of another."""
    lens = Intrinsics.from_fov(70.0, frames.shape[-2], frames.shape[-3])
    return fit_image(frames, lens, *size)[0]
