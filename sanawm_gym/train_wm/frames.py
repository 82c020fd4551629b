"""Clips of raw frames for the autoencoder, held in memory once decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.video import contact_sheet, write_video


class FrameClips:
    """Random clips of the episodes of a dataset.

    Whole episodes are decoded the first time they are asked for and stay in memory (an episode of
    20 s at 128x72 is 9 MB), because decoding a video again for every clip would cost more than the
    training step itself.

    Args:
        path: Dataset folder.
        held_out: Share of the episodes, the last ones, that training never sees.
    """

    def __init__(self, path: Path, held_out: float = 0.05) -> None:
        self.dataset = EpisodeDataset(path)
        total = len(self.dataset.episodes)
        num_held_out = max(1, round(held_out * total))
        if total <= num_held_out:
            raise ValueError(f"{path} holds {total} episodes, expected at least 2: record more")
        self.train_indices = range(total - num_held_out)
        self.held_out_indices = range(total - num_held_out, total)
        self._decoded: dict[int, UInt8[np.ndarray, "f h w 3"]] = {}

    def episode(self, index: int) -> UInt8[np.ndarray, "f h w 3"]:
        """All frames of one episode."""
        if index not in self._decoded:
            info = self.dataset.episodes[index]
            self._decoded[index] = self.dataset.frames(index, 0, info.num_frames)
        return self._decoded[index]

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 f h w"]:
        """Frames start ... start + length - 1 of an episode, RGB in [-1, 1]."""
        return to_signed(self.episode(index)[start : start + length])

    def draw(
        self, count: int, length: int, generator: torch.Generator
    ) -> Float[Tensor, "b 3 f h w"]:
        """Draw ``count`` training clips of ``length`` frames, mirrored left to right half the time.

        Raises:
            ValueError: If an episode is shorter than ``length``.
        """
        clips = []
        for _ in range(count):
            index = int(torch.randint(len(self.train_indices), (), generator=generator))
            frames = self.episode(self.train_indices[index])
            if len(frames) < length:
                raise ValueError(
                    f"episode {index} has {len(frames)} frames, expected at least {length}: "
                    "record longer episodes or shorten the clips"
                )
            start = int(torch.randint(len(frames) - length + 1, (), generator=generator))
            clip = to_signed(frames[start : start + length])
            if torch.rand((), generator=generator) < 0.5:
                clip = clip.flip(-1)
            clips.append(clip)
        return torch.stack(clips)


def to_signed(frames: UInt8[np.ndarray, "f h w 3"]) -> Float[Tensor, "3 f h w"]:
    """Bytes of a clip to RGB in [-1, 1], channels first."""
    return torch.tensor(frames).permute(3, 0, 1, 2).float() / 127.5 - 1.0


def to_bytes(frames: Float[Tensor, "3 f h w"]) -> UInt8[np.ndarray, "f h w 3"]:
    """RGB in [-1, 1] to bytes; the inverse of :func:`to_signed` up to rounding."""
    scaled = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()


def save_samples(
    path: Path,
    truth: UInt8[np.ndarray, "b f h w 3"],
    drawn: UInt8[np.ndarray, "b f h w 3"],
    *,
    fps: float,
    stride: int,
) -> None:
    """Write clips twice: as a picture to look at and, beside it, as an mp4 to watch.

    Args:
        path: Picture to write: truth above drawing, one pair of rows a clip.
        truth: Recorded clips.
        drawn: The same clips as drawn.
        fps: Frames a second of the video.
        stride: Every how many frames stands in the picture.
    """
    pairs = np.stack([truth, drawn], axis=1)
    rows = pairs[:, :, stride - 1 :: stride].reshape(-1, *truth.shape[2:])
    num_columns = len(range(stride - 1, truth.shape[1], stride))
    Image.fromarray(contact_sheet(rows, num_columns, scale=2)).save(path)
    # One column a clip, truth above drawing.
    film = pairs.transpose(2, 1, 3, 0, 4, 5)
    film = film.reshape(film.shape[0], film.shape[1] * film.shape[2], -1, 3)
    write_video(path.with_suffix(".mp4"), film, fps)
