"""Pairs of draft and truth, cut into pieces with the beginning of their clip as sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sanawm_gym.train_wm.latent_clips import LatentClip, load_clip
from sanawm_gym.worldmodel.folder import read_json


@dataclass(frozen=True)
class PairPiece:
    """t consecutive latent frames of b clips, twice, and what their videos began with."""

    draft: Float[Tensor, "b c t y x"]
    truth: Float[Tensor, "b c t y x"]
    sink: Float[Tensor, "b c s y x"]
    first: Int[Tensor, " b"]
    """Index in the clip of the piece's first frame; on the CPU."""
    captions: list[str]

    def to(self, device: torch.device) -> PairPiece:
        """The same piece with its latents on a device."""
        return replace(
            self,
            draft=self.draft.to(device),
            truth=self.truth.to(device),
            sink=self.sink.to(device),
        )


def load_pairs(latents: Path, drafts: Sequence[Path]) -> tuple[list[LatentClip], list[LatentClip]]:
    """Clips for training and held-out ones, every one with its draft as `drawn`.

    A clip that several folders drafted counts once for each.

    Raises:
        ValueError: If either part is empty or the drafts are not of these latents.
    """
    parts: tuple[list[LatentClip], list[LatentClip]] = ([], [])
    known = {entry["file"] for entry in read_json(latents / "latents.json")["clips"]}
    for folder in drafts:
        for entry in read_json(folder / "latents.json")["clips"]:
            name = entry["file"]
            if name not in known:
                raise ValueError(f"{folder} holds {name}, which {latents} does not: draft it anew")
            clip = load_clip(latents / name, entry["caption"], folder / name)
            parts[entry["held_out"]].append(clip)
    if not parts[0] or not parts[1]:
        raise ValueError(
            f"{[str(folder) for folder in drafts]} have drafts of {len(parts[0])} training and "
            f"{len(parts[1])} held-out clips, expected at least one of each: draft more clips"
        )
    return parts


class PairPieces:
    """Random pieces of clips.

    Args:
        clips: Clips with their drafts.
        sink: Latent frames at a clip's beginning that are never refined.
        lead: Further frames of a piece that come before those that count, none in a young one.
        length: Frames of a piece that count.
    """

    def __init__(self, clips: Sequence[LatentClip], *, sink: int, lead: int, length: int) -> None:
        self._sink, self._frames, self._length = sink, lead + length, length
        self._clips = [c for c in clips if c.latents.shape[0] >= sink + self._frames]
        if not self._clips:
            longest = max(clip.latents.shape[0] for clip in clips)
            raise ValueError(
                f"no clip has {sink + self._frames} latent frames, the longest {longest}: draft "
                "longer clips, or take fewer blocks or a shorter lead"
            )

    def draw(self, generators: Sequence[torch.Generator], *, young: bool) -> PairPiece:
        """A piece a generator, of a random clip and place; young ones from behind the sink."""
        rows = []
        for generator in generators:
            clip = self._clips[int(torch.randint(len(self._clips), (), generator=generator))]
            last = clip.latents.shape[0] - self._frames
            begin = int(torch.randint(self._sink, last + 1, (), generator=generator))
            rows.append((clip, self._sink if young else begin))
        num_frames = self._length if young else self._frames
        return cut_pieces(rows, sink=self._sink, num_frames=num_frames)


def cut_pieces(rows: Sequence[tuple[LatentClip, int]], *, sink: int, num_frames: int) -> PairPiece:
    """One piece a row, from the clip's latent frame that stands beside it."""
    draft, truth, sinks = [], [], []
    for clip, begin in rows:
        assert clip.drawn is not None
        span = slice(begin, begin + num_frames)
        draft.append(clip.drawn[span].float().transpose(0, 1))
        truth.append(clip.latents[span].float().transpose(0, 1))
        sinks.append(clip.latents[:sink].float().transpose(0, 1))
    return PairPiece(
        draft=torch.stack(draft),
        truth=torch.stack(truth),
        sink=torch.stack(sinks),
        first=torch.tensor([begin for _, begin in rows]),
        captions=[clip.caption for clip, _ in rows],
    )
