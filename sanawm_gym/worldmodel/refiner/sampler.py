"""From a draft to refined latents, block after block or a whole clip at once.

Refinement begins between draft and noise, x = (1 - sigma_s) x_l + sigma_s eps, and follows the
velocity v to sigma = 0 in Euler steps: x_h = x - sigma v, x <- (sigma'/sigma) x + (1 -
sigma'/sigma) x_h. One eps serves all steps; there is no guidance.

* `refine_block`, `refine_clip`: chunk-causal with a shifted sink (`rf_shifted_sink` in the released
  sampler). A finished block goes through the network once more at sigma = 0, under the same window,
  and its keys and values become history.
* `refine_at_once`: the offline mode. The sink sees itself alone, everything else sees all. What the
  sink makes of itself at sigma = 0 depends on nothing else, so this is one block with all frames
  behind the sink, and the two attention calls of the released code become a window and its block.

Axes: b rows, c latent channels, t latent frames, y x latent grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .block import Window
from .model import Refiner
from .state import RefinerState

OnBlock = Callable[[int, int], None]
"""Told after every block of a clip: blocks done, blocks in all."""


def begin_at(
    draft: Float[Tensor, "b c t y x"], noise: Float[Tensor, "b c t y x"], sigma: float
) -> Float[Tensor, "b c t y x"]:
    """Where refinement begins: x_1 = (1 - sigma_s) x_l + sigma_s eps."""
    return (1 - sigma) * draft + sigma * noise


def refine_block(
    refiner: Refiner,
    draft: Float[Tensor, "b c t y x"],
    noise: Float[Tensor, "b c t y x"],
    state: RefinerState,
    sigmas: Sequence[float] | None = None,
) -> tuple[Float[Tensor, "b c t y x"], RefinerState]:
    """Refine the next block of a stream; the state is read, not written.

    Args:
        refiner: Network.
        draft: Latents of the first stage.
        noise: Unit Gaussian noise.
        state: What the stream remembers.
        sigmas: Noise levels, falling, without the final 0; None takes those of the configuration.

    Returns:
        Refined latents in float32, and the state that has them as history.
    """
    grid = (draft.shape[-2], draft.shape[-1])
    window = refiner.window(state, grid, draft.shape[2])
    refined = _denoise(refiner, draft, noise, window, sigmas)
    return refined, refiner.remember(refined, window)


def refine_clip(
    refiner: Refiner,
    draft: Float[Tensor, "b c t y x"],
    noise: Float[Tensor, "b c t y x"],
    features: Float[Tensor, "b m f"],
    mask: Bool[Tensor, "b m"],
    sigmas: Sequence[float] | None = None,
    on_block: OnBlock | None = None,
) -> Float[Tensor, "b c t y x"]:
    """Refine a clip block by block; its first latent frames are the sink and stay as they are.

    Args:
        refiner: Network.
        draft: Latents of the first stage, more than the sink.
        noise: Unit Gaussian noise; that of the sink is not used.
        features: Text features.
        mask: True where a text token counts.
        sigmas: As in :func:`refine_block`.
        on_block: Called after every block.
    """
    config = refiner.config
    state = refiner.start(draft[:, :, : config.sink_frames], features, mask)
    parts = [draft[:, :, : config.sink_frames].float()]
    begins = range(config.sink_frames, draft.shape[2], config.block_frames)
    for number, begin in enumerate(begins, start=1):
        span = slice(begin, begin + config.block_frames)
        refined, state = refine_block(refiner, draft[:, :, span], noise[:, :, span], state, sigmas)
        parts.append(refined)
        if on_block is not None:
            on_block(number, len(begins))
    return torch.cat(parts, dim=2)


def refine_at_once(
    refiner: Refiner,
    draft: Float[Tensor, "b c t y x"],
    noise: Float[Tensor, "b c t y x"],
    features: Float[Tensor, "b m f"],
    mask: Bool[Tensor, "b m"],
    sigmas: Sequence[float] | None = None,
) -> Float[Tensor, "b c t y x"]:
    """Refine a clip in one shot, all frames seeing each other; arguments as `refine_clip`."""
    sink = refiner.config.sink_frames
    state = refiner.start(draft[:, :, :sink], features, mask)
    window = refiner.window(state, (draft.shape[-2], draft.shape[-1]), draft.shape[2] - sink)
    refined = _denoise(refiner, draft[:, :, sink:], noise[:, :, sink:], window, sigmas)
    return torch.cat([draft[:, :, :sink].float(), refined], dim=2)


def _denoise(
    refiner: Refiner, draft: Tensor, noise: Tensor, window: Window, sigmas: Sequence[float] | None
) -> Tensor:
    levels = [*(refiner.config.sigmas if sigmas is None else sigmas), 0.0]
    x = begin_at(draft.float(), noise.float(), levels[0])
    for sigma, following in itertools.pairwise(levels):
        level = torch.full((x.shape[0], x.shape[2]), sigma, device=x.device)
        clean = x - sigma * refiner(x, level, window).float()
        x = (following / sigma) * x + (1 - following / sigma) * clean
    return x
