"""Clips out of a cache in the published layout, as the stages that train the network read them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from sanawm_gym.geometry import check_poses
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.official_cache import OfficialCache, OfficialCacheConfig, OfficialClip

_HELD_OUT = 0.05
"""Share of the clips, the last ones, that are held out where a cache does not say which."""


def is_official(folder: Path) -> bool:
    """Whether a folder has the two parts of the published layout."""
    return (folder / "raw").is_dir() and (folder / "latents").is_dir()


def load_official_clips(
    folder: Path, *, picture: tuple[int, int], temporal_stride: int
) -> tuple[list[LatentClip], list[LatentClip]]:
    """Training clips and held-out clips of a cache.

    Latents are mapped into memory, as those of our own layout are, unless they are compressed;
    their cameras are kept. Clips that cannot be used are named in a warning and left out.

    Args:
        folder: Holds ``raw`` and ``latents``; see `official_cache`.
        picture: Height and width of the pictures for which the intrinsics are wanted [px].
        temporal_stride: Raw frames a latent frame.

    Raises:
        ValueError: If fewer than two clips can be used.
    """
    # Worlds made here are small, and so are their entries; a damaged one fails when it is read.
    config = OfficialCacheConfig(raw=folder / "raw", cache=folder / "latents", smallest_entry=0)
    cache = OfficialCache(config)
    refused = dict(cache.refused)
    found: list[tuple[bool, LatentClip]] = []
    for key in cache.keys:
        try:
            official = cache.clip(key)
            clip = to_latent_clip(official, picture, temporal_stride)
        except ValueError as error:
            refused[key] = str(error)
        else:
            found.append((official.held_out, clip))
    if refused:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in refused.items())
        warnings.warn(f"left out {len(refused)} clips of {folder}: {reasons}", stacklevel=2)
    if not any(held_out for held_out, _ in found):
        first = len(found) - max(1, round(_HELD_OUT * len(found)))
        found = [(place >= first, clip) for place, (_, clip) in enumerate(found)]
    train = [clip for held_out, clip in found if not held_out]
    kept = [clip for held_out, clip in found if held_out]
    if not train or not kept:
        raise ValueError(
            f"{folder} has {len(train)} training and {len(kept)} held-out clips, expected at least "
            "one of each"
        )
    return train, kept


def to_latent_clip(
    clip: OfficialClip, picture: tuple[int, int], temporal_stride: int
) -> LatentClip:
    """One clip as the stages want it.

    Other readers repeat the last pose where poses are too few; a camera that stops while the
    picture goes on teaches that it need not be obeyed, so such clips are refused.

    Args:
        clip: As read. Without a camera it stands still, with focal lengths of one picture.
        picture: Height and width for which the intrinsics are wanted [px].
        temporal_stride: Raw frames a latent frame.

    Raises:
        ValueError: If there are too few poses, if they are no poses, or if the lens changes.
    """
    num_latents = clip.z.shape[1]
    num_raw = temporal_stride * (num_latents - 1) + 1
    width, height = float(clip.width), float(clip.height)
    poses = np.eye(4)[None].repeat(num_raw, axis=0)
    lens = np.array([width, height, width / 2, height / 2])
    if clip.poses is not None and clip.intrinsics is not None:
        poses, lenses = clip.poses[:num_raw], clip.intrinsics[:num_raw]
        if min(len(poses), len(lenses)) < num_raw:
            raise ValueError(
                f"got {len(poses)} poses for {num_latents} latent frames, expected {num_raw}"
            )
        check_poses(poses, clip.key)
        lens = lenses[0]
        if np.abs(lenses - lens).max() > 1e-3 * width:
            raise ValueError("the intrinsics change within the clip, expected one lens")
    rows, columns = picture
    scale = np.array([columns / width, rows / height] * 2)
    z = torch.from_numpy(clip.z).transpose(0, 1)
    warped = z[:0] if clip.warped is None else torch.from_numpy(clip.warped).transpose(0, 1)
    return LatentClip(
        latents=z,
        warped=warped,
        poses=torch.from_numpy(poses.copy()).double(),
        intrinsics=torch.from_numpy(lens * scale).double(),
        caption=clip.prompt,
    )
