"""From a drive's own clock to that of recordings, and from one drive to episodes.

A tick takes the picture nearest to it in time, and the pose of a row is that of the moment its
picture was taken, not of the tick. So picture and pose agree exactly, as in every recording, and
what the other clock costs is evenness: a step may be longer or shorter by the time between two
pictures of the source. Poses at the ticks themselves would be even, but would tell of motion that
the pictures do not show; a world that learns from them learns to disobey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from .config import FPS, FRAMES_PER_DECISION

LONGEST_GAP = 0.5
"""Time between two pictures or poses over which a drive is one [s]."""


@dataclass(frozen=True)
class Ticks:
    """A stretch of a drive, sampled at the clock of recordings."""

    clock: Float64[np.ndarray, " n"]
    """Even times [s]."""
    pictures: Int[np.ndarray, " n"]
    """Number of the picture nearest to each."""
    taken: Float64[np.ndarray, " n"]
    """When that picture was taken [s]."""


def sample(
    picture_times: Float64[np.ndarray, " n"], pose_times: Float64[np.ndarray, " m"]
) -> list[Ticks]:
    """Ticks of every stretch with pictures and poses without gaps.

    Raises:
        ValueError: If there is no such stretch.
    """
    stretches = []
    for first, last in _overlaps(_runs(picture_times), _runs(pose_times)):
        inside = np.flatnonzero((picture_times >= first) & (picture_times <= last))
        if len(inside) > 1:
            stretches.append(_tick(picture_times[inside], int(inside[0])))
    if not stretches:
        raise ValueError(
            f"times: got pictures from {picture_times[0]:.2f} to {picture_times[-1]:.2f} s and "
            f"poses from {pose_times[0]:.2f} to {pose_times[-1]:.2f} s without a common stretch, "
            f"expected the same clock and gaps of at most {LONGEST_GAP:g} s"
        )
    return stretches


def _runs(times: Float64[np.ndarray, " n"]) -> list[tuple[float, float]]:
    parts = np.split(times, np.flatnonzero(np.diff(times) > LONGEST_GAP) + 1)
    return [(float(part[0]), float(part[-1])) for part in parts]


def _overlaps(
    some: list[tuple[float, float]], others: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    pairs = [(max(a[0], b[0]), min(a[1], b[1])) for a in some for b in others]
    return sorted((first, last) for first, last in pairs if last > first)


def _tick(times: Float64[np.ndarray, " n"], first: int) -> Ticks:
    # A hair more than the last picture, so that rounding does not lose it.
    clock = times[0] + np.arange(int((times[-1] - times[0]) * FPS + 1e-6) + 1) / FPS
    nearest = np.searchsorted((times[1:] + times[:-1]) / 2, clock)
    return Ticks(clock, first + nearest, times[nearest])


def cut(num_frames: int, shortest: int, longest: int) -> list[slice]:
    """Cut a stretch into as few equal episodes of 4 k + 1 frames as possible.

    Args:
        num_frames: Frames of the stretch.
        shortest: Frames of the shortest episode.
        longest: Frames of the longest one.

    Returns:
        The episodes; none if they would be too short.
    """
    parts = -(-num_frames // longest)
    length = (num_frames // parts - 1) // FRAMES_PER_DECISION * FRAMES_PER_DECISION + 1
    if length < shortest:
        return []
    return [slice(part * length, (part + 1) * length) for part in range(parts)]
