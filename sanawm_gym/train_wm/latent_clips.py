"""Clips of latents on disk: the files that every stage after ``latents`` reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sanawm_gym.worldmodel.folder import read_json

_MOST_EPISODES = 1_000_000
"""Of a recording: the names of clips count the episodes of the next one from here."""


def clip_name(number: int, episode: int, start: int) -> str:
    """File of the clip from raw frame ``start`` of an episode of the ``number``-th recording."""
    return f"clip-{number * _MOST_EPISODES + episode:06d}-{start:05d}.safetensors"


def clip_place(name: str) -> tuple[int, int, int]:
    """Number of a clip's recording, episode and first raw frame, from the name of its file."""
    _, episode, start = Path(name).stem.split("-")
    return *divmod(int(episode), _MOST_EPISODES), int(start)


def write_clip(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a clip's file whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
    os.replace(partial, path)


@dataclass(frozen=True)
class LatentClip:
    """One encoded clip: t latent frames and the s (t - 1) + 1 raw cameras they came from."""

    latents: torch.Tensor
    """(t, c, y, x), normalised; float16 in our own layout."""
    warped: torch.Tensor
    """(t, c, y, x), the picture before each latent frame carried over the ground to it,
    encoded (see `worldmodel.ground_warp`); the first is zero."""
    poses: torch.Tensor
    """float64 (f, 4, 4) world_from_camera of every raw frame [m]."""
    intrinsics: torch.Tensor
    """float64 (4,) fx, fy, cx, cy in pixels of the pictures."""
    caption: str
    """What the clip shows."""
    strays: bool = False
    """Whether the drive leaves the road: what its cameras see fits no other drive's pictures."""

    drawn: torch.Tensor | None = None
    """As `latents`, but drawn by a network (stage ``rollouts``)."""
    drawn_warped: torch.Tensor | None = None
    """As `warped`, of the pictures that were drawn."""


def _read_clip(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path} ({error}): delete it and make it again") from error


def load_clip(
    path: Path, caption: str, drawn: Path | None = None, *, strays: bool = False
) -> LatentClip:
    """Read one clip, and what a network drew in its place if there is such a file.

    Raises:
        ValueError: If a file is damaged or the drawn clip has another shape than the true one.
    """
    clip = LatentClip(caption=caption, strays=strays, **_read_clip(path))
    if drawn is None:
        return clip
    other = _read_clip(drawn)
    if other["latents"].shape != clip.latents.shape:
        raise ValueError(
            f"{drawn} holds {tuple(other['latents'].shape)}, expected {tuple(clip.latents.shape)} "
            f"as in {path}: draw the rollouts again from these latents"
        )
    return replace(clip, drawn=other["latents"], drawn_warped=other["warped"])


def load_latent_clips(
    folder: Path, rollouts: Sequence[Path] = (), *, picture: tuple[int, int] | None = None
) -> tuple[list[LatentClip], list[LatentClip]]:
    """Training clips and held-out clips of a folder written by the ``latents`` stage.

    Their files are mapped into memory, not read: what is never drawn is never loaded, and the
    system takes pages back when it needs room.

    Args:
        folder: The clips.
        rollouts: What networks drew in place of some of them, from the ``rollouts`` stage; of a
            clip that several have drawn the last one counts.
        picture: Height and width that the pictures must have had [px]; None takes any.

    Raises:
        ValueError: If one of the two parts is empty, a file is damaged, the rollouts do not belong
            to the clips or the pictures had another size.
    """
    index = read_json(folder / "latents.json")
    encoded = tuple(index.get("picture", picture or ()))  # not said by older versions
    if picture is not None and encoded != picture:
        raise ValueError(
            f"{folder} holds latents of pictures of {encoded[0]}x{encoded[1]}, got picture "
            f"{picture[0]}x{picture[1]}: give the size they were encoded at"
        )
    names = {entry["file"] for entry in index["clips"]}
    drawn: dict[str, Path] = {}
    for other in rollouts:
        files = [entry["file"] for entry in read_json(other / "latents.json")["clips"]]
        if not names.issuperset(files):
            raise ValueError(f"{other} holds clips that {folder} does not: draw them from it")
        drawn.update((name, other / name) for name in files)
    parts: tuple[list[LatentClip], list[LatentClip]] = ([], [])
    for entry in index["clips"]:
        name = entry["file"]
        strays = entry.get("strays", False)  # not said by older versions
        clip = load_clip(folder / name, entry["caption"], drawn.get(name), strays=strays)
        parts[entry["held_out"]].append(clip)
    if not parts[0] or not parts[1]:
        raise ValueError(
            f"{folder} has {len(parts[0])} training and {len(parts[1])} held-out clips, expected "
            "at least one of each"
        )
    return parts
