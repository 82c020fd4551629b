"""How the latent frames of a clip are cut into chunks, inside which attention looks both ways."""

from __future__ import annotations

from typing import Literal

from .config import SanaWMConfig

Mode = Literal["bidirectional", "chunk_causal"]


def chunk_sizes(num_frames: int, config: SanaWMConfig, mode: Mode) -> tuple[int, ...]:
    """Sizes of the chunks of a clip; the last one may be short.

    With "first_chunk_plus_one" and chunk_size 3, 121 latents are 4 + 39 * 3.

    Args:
        num_frames: Latent frames of the clip, at least 1.
        config: Gives chunk size and split.
        mode: "bidirectional" is one chunk.

    Raises:
        ValueError: If the clip is empty or the mode unknown.
    """
    if num_frames < 1:
        raise ValueError(f"got a clip of {num_frames} latent frames, expected at least 1.")
    if mode == "bidirectional":
        return (num_frames,)
    if mode != "chunk_causal":
        raise ValueError(f"got mode {mode!r}, expected 'bidirectional' or 'chunk_causal'.")
    sizes = [min(config.first_chunk_size, num_frames)]
    while (left := num_frames - sum(sizes)) > 0:
        sizes.append(min(config.chunk_size, left))
    return tuple(sizes)
