"""What both passes of a decision share about the camera, as plain tensors.

Axes: b rows, s tokens of a frame, n = b s, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor


class Geometry(NamedTuple):
    """Codes of the tokens of one frame.

    Attributes:
        rotary: Main rotary codes; complex, or cosines and sines in the last axis for export.
        query: Ray operators on rows, see `RayOperators`.
        key_value: The same for keys and values.
        output: The same for what was read.
        hidden: Added to the logits of softmax windows: 0, or -inf where a slot is empty; None if
            all slots are filled.
    """

    rotary: Complex[Tensor, "b s 1 1 d2"] | Float[Tensor, "b s 1 1 d2 2"]
    query: Float[Tensor, "n d d"]
    key_value: Float[Tensor, "n d d"]
    output: Float[Tensor, "n d d"]
    hidden: Float[Tensor, "b 1 1 k"] | None


def turn(x: Float[Tensor, "b s m h d"], rotary: Tensor) -> Float[Tensor, "b s m h d"]:
    """Turn the channel pairs of x; see `rope.rotate`.

    Args:
        x: m stacks of heads.
        rotary: As in `Geometry`, with its unit axes in the place of m and h.
    """
    pairs = x.unflatten(-1, (-1, 2))
    if rotary.is_complex():
        return torch.view_as_real(torch.view_as_complex(pairs) * rotary).flatten(-2)
    (even, odd), (cos, sin) = pairs.unbind(-1), rotary.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def carry(x: Float[Tensor, "b s h d"], operator: Float[Tensor, "n d d"]) -> Tensor:
    """Multiply the channels of every token's heads by the token's own matrix."""
    rows = x.reshape(-1, x.shape[-2], x.shape[-1])
    return torch.bmm(rows, operator).view(x.shape)
