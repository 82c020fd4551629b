"""What the self-attention of both kinds of fused block has in common.

All maps of the same tokens are one product; the formulas are those of `worldmodel.attention`.
Between products everything is float32.

Axes: b rows, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..attention import NORM_EPS, SelfAttention
from .geometry import Geometry, carry
from .packed import PackedLinear


class FusedAttention:
    """The maps into and out of attention.

    The columns of the one product are, each of the block's width: q, camera q, k, camera k,
    camera v, v, output gate, and then those of `others`.

    Args:
        attention: Where the weights come from.
        others: Further maps of the same tokens.
        packed: See `PackedLinear`.
    """

    def __init__(
        self, attention: SelfAttention, others: Sequence[nn.Linear], *, packed: bool
    ) -> None:
        config = attention.config
        self.heads = (config.num_attention_heads, config.head_dim)
        self.width = config.hidden_size
        q, k, v = attention.qkv.weight.chunk(3)
        q_camera, k_camera, v_camera = (
            attention.q_proj_cam, attention.k_proj_cam, attention.v_proj_cam
        )  # fmt: skip
        none = q.new_zeros(self.width)
        last = (attention.output_gate, *others)
        weights = [q, q_camera.weight, k, k_camera.weight, v_camera.weight, v]
        biases = [none, q_camera.bias, none, k_camera.bias, v_camera.bias, none]
        self.project = PackedLinear(
            torch.cat([*weights, *(layer.weight for layer in last)]),
            torch.cat([*biases, *(layer.bias for layer in last)]),
            packed=packed,
        )
        out_camera, proj = attention.out_proj_cam, attention.proj
        self._out_camera = PackedLinear(out_camera.weight, out_camera.bias, packed=packed)
        self._proj = PackedLinear(proj.weight, proj.bias, packed=packed)
        norms = (attention.q_norm, attention.q_norm_cam, attention.k_norm, attention.k_norm_cam)
        self.norms = torch.stack([norm.weight.detach().float() for norm in norms])

    def normed(
        self, x: Float[Tensor, "b s c4"], weight: Float[Tensor, "4 c"]
    ) -> Float[Tensor, "b s 4 c"]:
        """RMSNorm of queries, camera queries, keys and camera keys."""
        groups = x.unflatten(-1, (4, self.width))
        size = torch.linalg.vector_norm(groups, dim=-1, keepdim=True)
        scaled: Tensor = groups * (size.square() / self.width + NORM_EPS).rsqrt() * weight
        return scaled

    def combine(
        self,
        main: Float[Tensor, "b h s d"],
        camera: Float[Tensor, "b h s d"],
        projected: Float[Tensor, "b s n"],
        geometry: Geometry,
    ) -> Float[Tensor, "b s c"]:
        """Add the branches, gate and project them; see `SelfAttention.combine`."""
        seen = carry(camera.transpose(1, 2), geometry.output).flatten(-2)
        mixed = self._out_camera(seen.to(projected.dtype)).float()
        mixed = main.transpose(1, 2).flatten(-2) + mixed
        gate = F.silu(projected[..., 6 * self.width : 7 * self.width].float())
        return self._proj((mixed * gate).to(projected.dtype))


def stack_branches(
    main: Float[Tensor, "b s h d"], camera: Float[Tensor, "b s h d"]
) -> Float[Tensor, "b h2 s d"]:
    """Both branches as twice as many heads, heads before tokens."""
    return torch.cat([main.transpose(1, 2), camera.transpose(1, 2)], dim=1)
