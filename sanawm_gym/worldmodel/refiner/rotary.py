"""Rotary positions of the refiner: seconds, rows and columns in pixels, "split" halves.

A cell's position is the middle of the stretch of raw frames and pixels it stands for, over the
largest position that each axis was scaled for, mapped to [-1, 1]. The frequencies, common to the
three axes, grow geometrically from pi/2 to theta pi/2; they are formed in double precision and then
rounded, as they were for the released weights. Angles alternate over the axes (time, row, column)
along the *whole* width, which is then cut into heads; what three axes leave over does not turn and
lies in front. A head's channel i turns with channel i + d/2: the halves are split, not interleaved.

The first latent frame of a video is a single picture, so latent frame i > 0 covers raw frames
s i - s + 1 ... s i, and frame 0 the picture 0 alone.

Axes: b rows, t latent frames, n tokens = frames times cells, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .config import RefinerConfig


@dataclass(frozen=True)
class Rotation:
    """Turns of some tokens; float32."""

    cos: Float[Tensor, "*b h n d2"]
    sin: Float[Tensor, "*b h n d2"]


def rotation(
    frame_index: Int[Tensor, "b t"], grid: tuple[int, int], config: RefinerConfig
) -> Rotation:
    """Turns of all cells of some latent frames, frame by frame.

    Args:
        frame_index: Positions of the latent frames in the video, >= 0.
        grid: Rows and columns of the latent grid.
        config: Clock, strides and scale of the axes.
    """
    device, (b, t) = frame_index.device, frame_index.shape
    stride, row_px, column_px = config.strides
    end = (frame_index.float() + 1) * stride + (1 - stride)
    begin = (end - stride).clamp_min(0.0)
    seconds = (begin / config.fps + end / config.fps) / 2
    rows = (torch.arange(grid[0], device=device, dtype=torch.float32) + 0.5) * row_px
    columns = (torch.arange(grid[1], device=device, dtype=torch.float32) + 0.5) * column_px
    axes = (
        seconds[:, :, None, None].expand(b, t, *grid),
        rows[None, None, :, None].expand(b, t, *grid),
        columns[None, None, None, :].expand(b, t, *grid),
    )
    place = torch.stack(
        [axis / scale for axis, scale in zip(axes, config.max_position, strict=True)], dim=-1
    ).flatten(1, 3)
    exponent = torch.linspace(0.0, 1.0, config.width // 6, dtype=torch.float64, device=device)
    frequencies = (torch.pow(config.rope_theta, exponent) * torch.pi / 2).float()
    angle = (place[..., None] * 2 - 1) * frequencies
    turning = angle.transpose(-1, -2).flatten(2)
    still = turning.new_zeros(b, turning.shape[1], config.width // 2 - turning.shape[-1])
    angles = torch.cat([still, turning], dim=-1)
    heads = angles.unflatten(-1, (config.num_attention_heads, -1)).transpose(1, 2)
    return Rotation(heads.cos(), heads.sin())


def rotate(x: Float[Tensor, "*b h n d"], turn: Rotation) -> Float[Tensor, "*b h n d"]:
    """Turn the channel pairs (i, i + d/2) in float32; the dtype of x is kept."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat(
        [first * turn.cos - second * turn.sin, second * turn.cos + first * turn.sin], dim=-1
    )
    return turned.to(x.dtype)
