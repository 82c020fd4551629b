"""Rotary position codes over (frame, row, column), and what renumbering frames does to them.

Channels (2i, 2i+1) of a head are one complex number and are turned by angle position * frequency.
The D/2 complex channels are shared out over the axes as in Wan: D//6 to rows, D//6 to columns, the
rest to frames. The camera branch turns only half a head, with the first frequencies of each axis.
Renumbering frames by n turns every stored key by the same angles n * frequency: a matrix on the key
axis, exact whatever was done with the keys since.

Axes: b clips, t frames, s tokens of a frame (row-major), d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

THETA = 10000.0


class RotaryTables(NamedTuple):
    """Unit complex numbers for every token, with an axis of 1 for the heads.

    Attributes:
        main: For whole heads.
        camera: For the rotary half of a camera head.
    """

    main: Complex[Tensor, "b t s 1 d2"]
    camera: Complex[Tensor, "b t s 1 d4"]


def axis_pairs(num_channels: int) -> tuple[int, int, int]:
    """Complex channels of the frame, row and column axis for `num_channels` real ones."""
    side = num_channels // 6
    return num_channels // 2 - 2 * side, side, side


def _frequencies(num_pairs: int, device: torch.device | None) -> Tensor:
    exponent = torch.arange(num_pairs, dtype=torch.float64, device=device) / max(num_pairs, 1)
    return THETA**-exponent


def rotary_tables(
    frame_index: Int[Tensor, "b t"], grid: tuple[int, int], head_dim: int, dtype: torch.dtype
) -> RotaryTables:
    """Tables of both branches for the given frames.

    Angles are formed in float64, so a large frame index costs no precision.

    Args:
        frame_index: Position of each frame; any integer, negative ones included.
        grid: Rows and columns of the token grid.
        head_dim: Channels of a head.
        dtype: Real dtype of the products, float32 or float64.
    """
    rows, columns = grid
    device = frame_index.device
    num_clips, num_frames = frame_index.shape
    by_frame, by_row, by_column = (_frequencies(n, device) for n in axis_pairs(head_dim))
    shape = (num_clips, num_frames, rows, columns, -1)
    frame_angle = (frame_index[..., None] * by_frame)[:, :, None, None].expand(shape)
    row = torch.arange(rows, device=device)[:, None] * by_row
    column = torch.arange(columns, device=device)[:, None] * by_column
    row_angle = row[None, None, :, None].expand(shape)
    column_angle = column[None, None, None].expand(shape)

    def table(counts: tuple[int, int, int]) -> Tensor:
        parts = zip((frame_angle, row_angle, column_angle), counts, strict=True)
        angle = torch.cat([part[..., :count] for part, count in parts], dim=-1)
        angle = angle.flatten(2, 3)[..., None, :]
        return torch.complex(angle.cos().to(dtype), angle.sin().to(dtype))

    return RotaryTables(table(axis_pairs(head_dim)), table(axis_pairs(head_dim // 2)))


def rotate(
    x: Float[Tensor, "*b h d"], table: Complex[Tensor, "*c 1 d2"]
) -> Float[Tensor, "*b h d"]:
    """Turn the channel pairs of x; the result has at least the precision of float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    pairs = torch.view_as_complex(x.to(table.real.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(dtype)


def frame_shift_matrix(
    shift: Int[Tensor, "*n"], head_dim: int, num_channels: int
) -> Float[Tensor, "*n c c"]:
    """Matrix that moves rotated keys from frame index i to i + shift (keys as columns).

    Args:
        shift: Frames to add to the index.
        head_dim: Channels of a whole head, which fixes the frequencies.
        num_channels: Channels of the rotated part: head_dim, or half of it in the camera branch.

    Returns:
        float64 rotation matrices.
    """
    num_turning = axis_pairs(num_channels)[0]
    frequencies = _frequencies(axis_pairs(head_dim)[0], shift.device)[:num_turning]
    angle = shift[..., None] * frequencies
    matrix = torch.eye(num_channels, dtype=torch.float64, device=shift.device)
    matrix = matrix.expand(*shift.shape, -1, -1).clone()
    even = torch.arange(num_turning, device=shift.device) * 2
    matrix[..., even, even] = angle.cos()
    matrix[..., even + 1, even + 1] = angle.cos()
    matrix[..., even, even + 1] = -angle.sin()
    matrix[..., even + 1, even] = angle.sin()
    return matrix
