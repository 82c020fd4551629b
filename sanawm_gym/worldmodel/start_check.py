"""What a world refuses to start from, and what it warns of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from sanawm_gym.geometry import check_poses
from sanawm_gym.worldmodel.text import CaptionEncoder


def check_start(
    images: np.ndarray,
    prompts: Sequence[str],
    intrinsics: Float[np.ndarray, "b 4"],
    seeds: Sequence[int],
    poses: Float[np.ndarray, "b f 4 4"] | None,
    picture: tuple[int, int],
) -> UInt8[np.ndarray, "b f h w 3"]:
    """Clips to start from, a single picture being a clip of one frame.

    Args:
        images: As given to `WorldModel.start`.
        prompts: The same.
        intrinsics: The same.
        seeds: The same.
        poses: The same.
        picture: Height and width of the world's pictures [px].

    Raises:
        ValueError: If shapes disagree, pictures have another size or poses are not rigid.
    """
    if images.dtype != np.uint8 or images.ndim not in (4, 5):
        raise ValueError(
            f"images are {images.dtype} {images.shape}, expected uint8 (b, h, w, 3) or "
            "(b, f, h, w, 3)"
        )
    clips = images[:, None] if images.ndim == 4 else images
    b, f, h, w, _ = clips.shape
    if (h, w) != picture:
        raise ValueError(
            f"pictures are {w}x{h}, expected {picture[1]}x{picture[0]}: use "
            "sanawm_gym.camera.fit_image, which keeps the intrinsics right"
        )
    if not len(prompts) == len(seeds) == len(intrinsics) == b:
        raise ValueError(
            f"got {b} images, {len(prompts)} prompts, {len(seeds)} seeds and "
            f"{len(intrinsics)} intrinsics, expected one of each a row"
        )
    if poses is None and f > 1:
        raise ValueError(f"got a clip of {f} frames without poses: pass one pose a frame")
    if poses is not None:
        if np.shape(poses) != (b, f, 4, 4):
            raise ValueError(f"poses have shape {np.shape(poses)}, expected {(b, f, 4, 4)}")
        check_poses(poses)
    return clips


def warn_of_unknown_words(text_encoder: CaptionEncoder, prompts: Sequence[str]) -> None:
    """Name the words of prompts that a world never learnt, to whoever starts it with them."""
    for prompt in dict.fromkeys(prompts):
        unknown = text_encoder.unknown_words(prompt)
        if unknown:
            warnings.warn(
                f"this world never learnt the words {unknown}: they change nothing "
                "that can be relied on",
                stacklevel=3,
            )
