"""Gated convolutional MLP: mixes channels, 3 x 3 neighbours, and three frames.

1x1 conv (SiLU) -> depthwise 3x3 -> value * SiLU(gate) -> 1x1 conv = h, then h + t_conv(h) over
(t-1, t, t+1). The right neighbour at the end of a chunk is zero, the left one comes from the chunk
before. Convolutions of width 1 are computed as linear maps of tokens; parameters keep the shapes of
the released checkpoint.

Axes: b clips, t frames, s tokens of a frame, c width, h rows and w columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import SanaWMConfig
from .ops.frame_gdn import ClipSlices, exchange_halo

MAX_CONV_ELEMENTS = 1 << 30
"""Convolutions index with 32 bits; larger activations (minute clips) are cut along the frames."""


class _Conv(nn.Module):
    """A convolution one level down, as the checkpoint names it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias
        )


class GatedConvMLP(nn.Module):
    """GLU MBConv with a residual temporal convolution."""

    def __init__(self, config: SanaWMConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.mlp_width
        self.inner = inner
        self.inverted_conv = _Conv(width, 2 * inner, 1, 1, True)
        self.depth_conv = _Conv(2 * inner, 2 * inner, 3, 2 * inner, True)
        self.point_conv = _Conv(inner, width, 1, 1, False)
        self.t_conv = nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False)

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        grid: tuple[int, int],
        chunks: Sequence[int],
        left: Float[Tensor, "b s c"] | None,
        slices: ClipSlices | None = None,
    ) -> tuple[Float[Tensor, "b t s c"], Float[Tensor, "b t s c"]]:
        """Apply.

        Args:
            x: Modulated tokens.
            grid: Rows and columns.
            chunks: Chunk sizes over t.
            left: h of the frame before the first; None is zero.
            slices: Which rank holds which frames, if the clip is spread over several; the chunks
                are then those of the whole clip, and there is no `left`.

        Returns:
            The output, and h, whose last frame is the next chunk's `left`.
        """
        frames = x.flatten(0, 1)
        per_call = max(1, MAX_CONV_ELEMENTS // (2 * self.inner * x.shape[2]))
        parts = [self._mix_space(part, grid) for part in frames.split(per_call)]
        h = (parts[0] if len(parts) == 1 else torch.cat(parts)).view_as(x)
        if slices is None:
            return h + self._mix_time(h, chunks, left), h
        wide = exchange_halo(h, slices, before=1, after=1)
        mixed = self._mix_time(wide[:, 1:], slices.local_chunks(chunks, after=1), wide[:, 0])
        return h + mixed[:, : h.shape[1]], h

    def _mix_space(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Both 1x1 convolutions and the depthwise one on (n, s, c) tokens."""
        first, depth, point = (
            self.inverted_conv.conv, self.depth_conv.conv, self.point_conv.conv
        )  # fmt: skip
        y = F.linear(x, first.weight.flatten(1), first.bias)
        y = F.silu(y, inplace=not torch.is_grad_enabled())
        # A channels-last view of token-major data: no copy on the way in or out.
        image = y.unflatten(1, grid).permute(0, 3, 1, 2)
        image = F.conv2d(image, depth.weight, depth.bias, padding=1, groups=depth.groups)
        y = image.permute(0, 2, 3, 1).flatten(1, 2)
        value, gate = y.chunk(2, dim=-1)
        return F.linear(value * F.silu(gate), point.weight.flatten(1))

    def _mix_time(self, h: Tensor, chunks: Sequence[int], left: Tensor | None) -> Tensor:
        before, now, after = self.t_conv.weight[..., 0].unbind(-1)
        if h.shape[1] == 1:
            out = F.linear(h, now.contiguous())
            if left is not None:
                out = out + F.linear(left.to(h.dtype), before.contiguous())[:, None]
            return out
        start = torch.zeros_like(h[:, :1]) if left is None else left.to(h.dtype)[:, None]
        previous = torch.cat([start, h[:, :-1]], dim=1)
        out = F.linear(previous, before) + F.linear(h, now)
        if all(size == 1 for size in chunks):
            return out
        following = F.pad(h[:, 1:], (0, 0, 0, 0, 0, 1))
        if len(chunks) > 1:
            inside = [float(i + 1 < size) for size in chunks for i in range(size)]
            following = following * h.new_tensor(inside)[:, None, None]
        return out + F.linear(following, after)
