"""Short depthwise convolution over frames, applied to keys before they are normalised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .ops.frame_gdn import chosen_form


class ShortConv(nn.Module):
    """Temporal filter y_t = sum_j w_j x_{t-n+1+j}, mirrored into the future within a chunk.

    The two-sided form adds the causal filter of the reversed chunk and takes off the tap on the
    current frame once, so every frame within reach counts once. [SANA-WM, section 1.4 of the spec:
    c(x) + flip(c(flip x)) - w_last x.]
    """

    def __init__(self, num_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.zeros(num_channels, 1, kernel_size))

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        chunks: Sequence[int],
        past: Float[Tensor, "b p s c"] | None,
    ) -> Float[Tensor, "b t s c"]:
        """Filter x.

        Args:
            x: Keys of all frames.
            chunks: Chunk sizes; the future half of the filter stops at chunk ends.
            past: The kernel_size - 1 frames before x; None is zero.
        """
        if chosen_form(x) == "triton":
            from .ops.frame_gdn.kernels.conv import short_conv

            return short_conv(x, self.weight, chunks, past)
        num_frames = x.shape[1]
        reach = self.kernel_size - 1
        taps = self.weight[:, 0].t().contiguous()
        y = x * taps[reach]
        if num_frames == 1:
            if past is not None and reach:
                y = y + (past * taps[:reach, None]).sum(dim=1, keepdim=True)
            return y
        if past is None:
            past = x.new_zeros(x.shape[0], reach, *x.shape[2:])
        extended = torch.cat([past.to(x.dtype), x], dim=1)
        for lag in range(1, reach + 1):
            tap = taps[reach - lag]
            y = torch.addcmul(y, extended[:, reach - lag : reach - lag + num_frames], tap)
            inside = _has_successor(chunks, lag)
            if any(inside):
                future = F.pad(x[:, lag:], (0, 0, 0, 0, 0, lag))
                if not all(inside[: num_frames - lag]):
                    future = future * x.new_tensor(inside)[:, None, None]
                y = torch.addcmul(y, future, tap)
        return y


def _has_successor(chunks: Sequence[int], lag: int) -> list[float]:
    """Per frame, 1 if the frame `lag` later lies in the same chunk, else 0."""
    return [float(i + lag < size) for size in chunks for i in range(size)]
