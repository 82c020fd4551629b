"""Clips of raw frames for the autoencoder, held in memory once decoded."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from sanawm_gym.episodes import EpisodeInfo
from sanawm_gym.train_wm.clip_draw import ClipDraw
from sanawm_gym.train_wm.recording import ReadingConfig, Recording
from sanawm_gym.video import contact_sheet, write_video

_MOST_DRAWS = 1000
"""Draws of a clip after which there can be no whole one."""


class FrameClips:
    """Random clips of the episodes of a dataset.

    Whole episodes are decoded when they are first asked for and stay in memory as long as there is
    room (an episode of 20 s at 128x72 is 9 MB), because decoding a video again for every clip would
    cost more than the training step itself.

    Args:
        path: Dataset folder.
        reading: Size, clock and how much damage is borne.
        longest: Most frames that a clip will have.
        held_out: Share of the episodes, the last ones, that training never sees.
        memory_gb: Room for decoded pictures [GB].

    Attributes:
        held_out: Episodes that training never sees.

    Raises:
        ValueError: If too few episodes are whole and long enough.
    """

    def __init__(
        self,
        path: Path,
        reading: ReadingConfig,
        *,
        longest: int,
        held_out: float = 0.05,
        memory_gb: float = 8.0,
    ) -> None:
        self.recording = Recording(path, reading)
        self._train, self.held_out = (
            [info for info in part if self.recording.cameras(info) is not None]
            for part in self.recording.split(held_out)
        )
        self.held_out = [i for i in self.held_out if self.recording.num_frames(i) >= longest]
        if not self._train or not self.held_out:
            raise ValueError(
                f"{path} has {len(self._train)} whole episodes to train on and "
                f"{len(self.held_out)} of {longest} frames or more held out, expected at least one "
                "of each: record more and longer ones, or shorten the clips"
            )
        self._draw = ClipDraw([self.recording.num_frames(info) for info in self._train], longest)
        self._room = int(memory_gb * 1e9)
        self._decoded: OrderedDict[int, UInt8[np.ndarray, "f h w 3"] | None] = OrderedDict()

    @property
    def longest(self) -> int:
        """Frames of the longest episode to train on."""
        return max(self.recording.num_frames(info) for info in self._train)

    def episode(self, info: EpisodeInfo) -> UInt8[np.ndarray, "f h w 3"] | None:
        """All frames of one episode, or None if they cannot be decoded."""
        if info.index not in self._decoded:
            self._decoded[info.index] = self.recording.frames(info)
            held = sum(0 if frames is None else frames.nbytes for frames in self._decoded.values())
            for index, frames in list(self._decoded.items())[:-1]:
                if frames is not None and held > self._room:
                    del self._decoded[index]
                    held -= frames.nbytes
        self._decoded.move_to_end(info.index)
        return self._decoded[info.index]

    def draw(self, length: int, generator: torch.Generator) -> Float[Tensor, "3 f h w"]:
        """A training clip of ``length`` frames, mirrored left to right half the time.

        One that turns out not to be decodable is drawn again, so what a generator draws does not
        depend on when that was noticed.

        Raises:
            ValueError: If hardly anything can be decoded.
        """
        for _ in range(_MOST_DRAWS):
            number, start = self._draw.draw(length, generator)
            mirrored = torch.rand((), generator=generator) < 0.5
            frames = self.episode(self._train[number])
            if frames is not None:
                clip = to_signed(frames[start : start + length])
                return clip.flip(-1) if mirrored else clip
        raise ValueError(
            f"{self.recording.path}: {_MOST_DRAWS} draws in a row met videos that cannot be "
            "decoded, expected whole ones: record again"
        )

    def held_out_clips(self, length: int, most: int) -> Float[Tensor, "b 3 f h w"]:
        """A clip of the middle of each of the first held-out episodes.

        Args:
            length: Frames of a clip, at most `longest` of the constructor.
            most: Clips at most.

        Raises:
            ValueError: If none can be decoded.
        """
        clips: list[Tensor] = []
        for info in self.held_out:
            frames = self.episode(info) if len(clips) < most else None
            if frames is not None:
                start = (len(frames) - length) // 2
                clips.append(to_signed(frames[start : start + length]))
        if not clips:
            raise ValueError(
                f"{self.recording.path}: none of {len(self.held_out)} held-out videos can be "
                "decoded, expected one at least: record again"
            )
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
