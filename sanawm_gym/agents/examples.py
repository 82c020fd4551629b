"""What a driver learns from: pictures with speeds, and what the good driver would have done.

They come from recordings (``sanawm-gym record``), from practice (:mod:`sanawm_gym.agents.practice`)
and from imagination (:mod:`sanawm_gym.agents.imagination`), which is stored as practice is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.agents.practice import is_practice
from sanawm_gym.episodes import EpisodeDataset


@dataclass(frozen=True)
class Examples:
    """Moments of drives, side by side."""

    camera: UInt8[Tensor, "n h w 3"]
    """Pictures, RGB bytes."""
    speed: Float[Tensor, " n"]
    """[m/s]."""
    action: Float[Tensor, "n 2"]
    """Steer and pedal of the good driver, each in [-1, 1]."""

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.speed)

    @staticmethod
    def of(camera: np.ndarray, speed: np.ndarray, action: np.ndarray) -> Examples:
        """Examples out of arrays."""
        return Examples(
            torch.from_numpy(np.ascontiguousarray(camera)),
            torch.from_numpy(np.asarray(speed, dtype=np.float32)),
            torch.from_numpy(np.asarray(action, dtype=np.float32)),
        )

    @staticmethod
    def joined(parts: Sequence[Examples]) -> Examples:
        """All of them, one after the other."""
        return Examples(
            torch.cat([part.camera for part in parts]),
            torch.cat([part.speed for part in parts]),
            torch.cat([part.action for part in parts]),
        )


def load_examples(
    folders: Sequence[Path], *, frame_stride: int, held_out: float
) -> tuple[Examples, Examples]:
    """Examples to learn from, and held-out ones of the last drives of every recording.

    Practice is learnt whole: its drives depend on the driver that made them, so errors on them
    could not be compared.

    Args:
        folders: Recordings and practices.
        frame_stride: Every how many frames of a recording is used, >= 1; of a practice all are.
        held_out: Share of the drives of a recording that is held out, 0 to 1; at least one is.

    Raises:
        ValueError: If a folder is neither, or there is no recording among them.
    """
    train: list[Examples] = []
    test: list[Examples] = []
    for folder in folders:
        if is_practice(folder):
            train += _practised(folder)
            continue
        drives = _recorded(folder, frame_stride)
        num_held_out = max(1, round(held_out * len(drives)))
        train += drives[:-num_held_out]
        test += drives[-num_held_out:]
    if not train or not test:
        raise ValueError(
            f"examples: got {[str(folder) for folder in folders]}, expected at least one recording "
            "of two drives or more (`sanawm-gym record`)"
        )
    return Examples.joined(train), Examples.joined(test)


def _recorded(folder: Path, frame_stride: int) -> list[Examples]:
    dataset, drives = EpisodeDataset(folder, num_cached=1), []
    dataset.require("expert_action")
    for info in tqdm(dataset.episodes, desc=f"reading {folder.name}", unit="drive"):
        columns = dataset.columns(info.index, names=["speed", "expert_action"])
        frames = dataset.frames(info.index)[::frame_stride]
        drives.append(
            Examples.of(
                frames, columns["speed"][::frame_stride], columns["expert_action"][::frame_stride]
            )
        )
    return drives


def _practised(folder: Path) -> list[Examples]:
    drives = []
    for path in tqdm(
        sorted(folder.glob("drive-*.npz")), desc=f"reading {folder.name}", unit="drive"
    ):
        with np.load(path) as kept:
            drives.append(Examples.of(kept["camera"], kept["speed"], kept["expert_action"]))
    return drives
