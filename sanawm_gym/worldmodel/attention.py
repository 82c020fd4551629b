"""Self-attention of one block: what recurrent and softmax blocks share.

Two branches read the same tokens. The main one is placed by rotary codes, the camera one by rays
(`ucpe`). Their sum passes one output gate and one projection:

    out = proj( (main + out_proj_cam(camera)) * SiLU(output_gate(a)) )

Both kinds of block carry the same parameters under the names of the released checkpoint, so the
gates of the recurrence exist, unused, in softmax blocks too.

Axes: b clips, t frames, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .config import SanaWMConfig
from .ops.frame_gdn.fla_parts import gated
from .precision import RMSNorm
from .state import AttentionState

NORM_EPS = 1e-5


def only_rows(x: Float[Tensor, "b t s c"], rows: Bool[Tensor, " b"] | None) -> Tensor:
    """Zero what does not belong to the rows; None is all of them."""
    return x if rows is None else torch.where(rows[:, None, None, None], x, 0.0)


class AttentionOutput(NamedTuple):
    """Result of a self-attention and the memory it leaves.

    Attributes:
        out: For the residual stream.
        last: Memory after the last frame, if asked for.
        every: Memory before every frame with rows (b t), if asked for.
    """

    out: Float[Tensor, "b t s c"]
    last: AttentionState | None
    every: AttentionState | None


class SelfAttention(nn.Module):
    """Parameters and pieces common to both kinds of attention."""

    recall_gate: Tensor

    def __init__(self, config: SanaWMConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.config = config
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        # Never used by the model; it is part of the checkpoint.
        self.register_buffer("recall_gate", torch.zeros(1))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.q_norm = RMSNorm(width, eps=NORM_EPS)
        self.k_norm = RMSNorm(width, eps=NORM_EPS)
        self.beta_proj = nn.Linear(width, heads)
        self.gate_proj = nn.Linear(width, heads)
        self.output_gate = nn.Linear(width, width)
        self.q_proj_cam = nn.Linear(width, width)
        self.k_proj_cam = nn.Linear(width, width)
        self.v_proj_cam = nn.Linear(width, width)
        self.out_proj_cam = nn.Linear(width, width)
        self.q_norm_cam = RMSNorm(width, eps=NORM_EPS)
        self.k_norm_cam = RMSNorm(width, eps=NORM_EPS)

    def heads(self, x: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s h d"]:
        """Cut channels into heads."""
        heads: Tensor = x.unflatten(-1, (self.config.num_attention_heads, self.config.head_dim))
        return heads

    def key_scale(self, num_tokens: int) -> float:
        """Factor on the keys of a recurrent block; 1/sqrt(D*S) bounds the erasure by 1."""
        match self.config.key_scale_mode:
            case "dim_spatial":
                return 1.0 / math.sqrt(self.config.head_dim * num_tokens)
            case "dim":
                return 1.0 / math.sqrt(self.config.head_dim)
            case "none":
                return 1.0

    def combine(
        self,
        a: Float[Tensor, "b t s c"],
        main: Float[Tensor, "b t s h d"],
        camera: Float[Tensor, "b t s h d"] | None,
        known: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t s c"]:
        """Add the branches, gate and project them; the camera's only in the rows that know it."""
        mixed = main.flatten(-2)
        if camera is not None:
            mixed = mixed + only_rows(self.out_proj_cam(camera.flatten(-2).to(a.dtype)), known)
        out: Tensor = self.proj(gated(mixed, self.output_gate(a).to(mixed.dtype)).to(a.dtype))
        return out
