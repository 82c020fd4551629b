"""Which piece of which clip a row of a batch reads, and how long the pieces of a step are.

A row draws with a generator of its own (`processes.Rows`), so what it reads follows from the seed,
the step and its number in the batch. The length follows from the seed and the step alone: rows
stand in one tensor, and processes that wait for each other should have equally much to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sanawm_gym.worldmodel.noise import mix_seed

_LENGTH = 0x1E46
"""Tells the draw of a length from other draws of a step."""


def draw_length(shortest: int, longest: int, stride: int, *, seed: int, step: int) -> int:
    """Length of all clips of a step, the same in every process: equally likely ones from a range.

    Args:
        shortest: Fewest frames.
        longest: Most frames.
        stride: Frames between one length and the next.
        seed: Of the run.
        step: Forward pass of the run.
    """
    return shortest + stride * (
        mix_seed(seed, step, _LENGTH) % ((longest - shortest) // stride + 1)
    )


class ClipDraw:
    """Draws pieces of clips so that every piece of the wanted length is as likely as every other.

    A clip twice as long is therefore drawn about twice as often, and one that is too short never.

    Args:
        lengths: Frames of every clip.
        longest: Most frames that will be asked for.
        unit: What the frames are called in messages.

    Raises:
        ValueError: If no clip is that long.
    """

    def __init__(self, lengths: Sequence[int], longest: int, unit: str = "frames") -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        most = int(self._lengths.max(initial=0))
        if most < longest:
            raise ValueError(
                f"the longest of {len(lengths)} clips has {most} {unit}, expected at least "
                f"{longest}: record longer drives or shorten the training clips"
            )
        num_short = int((self._lengths < longest).sum())
        if num_short:
            print(
                f"{num_short} of {len(lengths)} clips have fewer than {longest} {unit}: only "
                "shorter pieces of them are drawn, if any are asked for"
            )
        self._ends: dict[int, np.ndarray] = {}

    def draw(
        self, length: int, generator: torch.Generator, *, beginnings: float = 0.0
    ) -> tuple[int, int]:
        """Number of a clip and the frame its piece begins with.

        Args:
            length: Frames of the piece.
            generator: The row's.
            beginnings: Share of the pieces that begin where a clip does, 0 to 1.
        """
        if beginnings and float(torch.rand((), generator=generator)) < beginnings:
            long_enough = np.flatnonzero(self._lengths >= length)
            place = int(torch.randint(len(long_enough), (), generator=generator))
            return int(long_enough[place]), 0
        ends = self._ends.setdefault(length, np.cumsum(np.maximum(self._lengths - length + 1, 0)))
        place = int(torch.randint(int(ends[-1]), (), generator=generator))
        clip = int(np.searchsorted(ends, place, side="right"))
        return clip, place - (int(ends[clip - 1]) if clip else 0)
