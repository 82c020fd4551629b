"""Multiplications and additions of the released networks, from their sizes alone.

What is counted are matrix products, convolutions and both products of softmax attention, two
operations for a multiplication with its addition; what elementwise operations add does not show.
The counts are those of the operators as this project computes them, so that they can be compared
with torch's own counter, operation by operation.

Letters: f latent frames, s tokens of a frame, n = f s, C width, H heads, D channels of a head.
"""

from __future__ import annotations

from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.refiner.config import RefinerConfig
from sanawm_gym.worldmodel.ucpe import MAX_DENSE_HEAD

TIME_WAVES = 256
"""Sinusoids of a noise level."""


def linear(inputs: int, outputs: int, rows: int) -> int:
    """A linear map of so many rows."""
    return 2 * inputs * outputs * rows


def network_pass(
    config: SanaWMConfig, tokens: int, frames: int, *, window: int = 0, text: int = 300
) -> dict[str, int]:
    """One call of the stage-1 network on one row, as a single chunk of several frames.

    Args:
        config: Of the network.
        tokens: Of a frame, s.
        frames: Latent frames of the call, at least 2.
        window: Latent frames that softmax blocks see beside them.
        text: Tokens of the prompt.

    Returns:
        Operations by part.
    """
    width, n = config.hidden_size, frames * tokens
    softmax = sum(config.is_softmax_block(i) for i in range(config.num_layers))
    recurrent = config.num_layers - softmax
    square = linear(width, width, n)
    mlp = (
        linear(width, 2 * config.mlp_width, n)
        + linear(3 * 3, 2 * config.mlp_width, n)
        + linear(config.mlp_width, width, n)
        + config.t_kernel_size * square
    )
    rays = linear(width // 2, 4, n) if config.head_dim > MAX_DENSE_HEAD else 0
    rays = rays or linear(width, config.head_dim, n)
    plucker = linear(width, width, config.plucker_channels)
    plucker += linear(config.plucker_channels, width, n)
    time = linear(TIME_WAVES, width, frames) + 7 * linear(width, width, frames)
    geometry = 2 * linear(3, 3, n)
    ends = 2 * linear(config.in_channels, width, n)
    return {
        "projections": config.num_layers * 9 * square,
        "MLP": config.num_layers * mlp,
        "prompt": config.num_layers * (2 * square + 2 * linear(width, text, n)),
        "softmax attention": softmax * 2 * 2 * linear(width, (window + frames) * tokens, n),
        "delta rule": recurrent * _delta_rule(config, tokens, frames),
        "camera and ends": config.num_layers * (4 * rays + plucker) + time + geometry + ends,
    }


def _delta_rule(config: SanaWMConfig, tokens: int, frames: int) -> int:
    """Three recurrences of one block: numerator, mass and camera; gates included."""
    dim, heads, width = config.head_dim, config.num_attention_heads, config.hidden_size
    links = 2 * frames - 1
    total = linear(width, heads, frames * tokens) + linear(width, heads, frames)
    for values in (dim, 1, dim):
        # The map of every frame; what it writes and what its queries read; the two scans.
        of_tokens = linear(dim, dim, tokens) + 2 * linear(dim, values, tokens)
        total += heads * (frames * of_tokens + links * linear(dim, dim, values))
    return total


def refiner_pass(
    config: RefinerConfig, tokens: int, frames: int, *, past: int, text: int, keys_only: bool
) -> int:
    """One call of the refiner on one row.

    Args:
        config: Of the refiner.
        tokens: Of a frame.
        frames: Latent frames of the block.
        past: Latent frames it sees beside them.
        text: Tokens of the prompt.
        keys_only: A pass that ends with the last block's keys and values.
    """
    width, n = config.width, frames * tokens
    square, seen = linear(width, width, n), (past + frames) * tokens
    keys = 2 * square
    rest = 2 * square + 2 * linear(width, seen, n)
    rest += 2 * square + 2 * linear(width, text, n)
    rest += 2 * linear(width, config.mlp_ratio * width, n)
    time = linear(TIME_WAVES, width, frames) + 7 * linear(width, width, frames)
    total = config.num_layers * keys + (config.num_layers - keys_only) * rest + time
    return total + (2 - keys_only) * linear(config.in_channels, width, n)
