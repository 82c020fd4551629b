"""Noise levels of whole clips: one for all, or one a chunk in the chunk-causal mixture.

A chunk-causal network must denoise a chunk while earlier chunks are cleaner, equally noisy or done.
Its training levels are therefore a mixture: the same for all chunks (share 0.1), rising from chunk
to chunk (0.4), rising up to an anchor on the last chunk that is drawn as in ordinary training
(0.4), and a clean past before one noisy last chunk (0.1). [source: the released recipe of SANA-WM]

Axes: b clips, k chunks, t latent frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, sample_sigma, shift_sigma

_MIXTURE = torch.tensor([0.1, 0.4, 0.4, 0.1])
_CPU = torch.device("cpu")


def rising_levels(
    num_chunks: int, num_levels: int, generator: torch.Generator
) -> Float[Tensor, " k"]:
    """A non-decreasing sequence over 1 ... ``num_levels``, uniform among all such sequences.

    A sorted draw of k distinct numbers below n + k - 1, less its own ranks, is such a sequence, and
    every sequence comes from exactly one draw.
    """
    draw = torch.randperm(num_levels + num_chunks - 1, generator=generator)[:num_chunks]
    return draw.sort().values - torch.arange(num_chunks) + 1.0


def chunk_sigmas(
    chunks: Sequence[int], *, shift: float, generator: torch.Generator
) -> Float[Tensor, " t"]:
    """Noise levels of one clip's latent frames from the chunk-causal mixture.

    Args:
        chunks: Latent frames of every chunk.
        shift: Shift of the levels.
        generator: CPU generator.
    """
    num_chunks = len(chunks)
    kind = int(torch.multinomial(_MIXTURE, 1, generator=generator))
    anchor = sample_sigma((1,), shift=shift, generator=generator, device=_CPU)
    if kind == 0:
        levels = anchor.expand(num_chunks)
    elif kind == 1:
        rising = rising_levels(num_chunks, NUM_TIMESTEPS, generator) / NUM_TIMESTEPS
        levels = shift_sigma(rising, shift)
    elif kind == 2:
        top = max(1, round(float(anchor) * NUM_TIMESTEPS))
        levels = rising_levels(num_chunks, top, generator) / NUM_TIMESTEPS
        levels[-1] = anchor[0]
    else:
        levels = torch.zeros(num_chunks)
        levels[-1] = anchor[0]
    return levels.repeat_interleave(torch.tensor(list(chunks)))
