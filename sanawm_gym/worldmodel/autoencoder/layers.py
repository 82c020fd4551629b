"""Layers of the video autoencoder, all working on frames stacked in the batch axis.

A latent frame sees itself and, through :class:`CausalConv`, the frame before it; nothing later.
What a causal layer must remember between two calls is the last frame of its own input. A
:class:`FrameMemory` collects those frames in the order in which the layers run, so that decoding
frame by frame gives the same numbers as decoding a whole clip.

Axes: b clips, t latent frames, c channels, h rows, w columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class FrameMemory:
    """Last input frame of every causal layer, in the order of execution.

    Args:
        num_clips: Clips b in the batch; frames arrive as (b t).
        previous: Frames left by an earlier call, or None at the start of a clip, where a layer
            takes its own first frame as the past.
    """

    def __init__(self, num_clips: int, previous: list[Tensor] | None = None) -> None:
        self.num_clips = num_clips
        self.frames: list[Tensor] = []
        self._previous = previous

    def with_past(self, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c2 h w"]:
        """Stack every frame's predecessor above it along channels and remember the last frame."""
        clip = rearrange(x, "(b t) c h w -> b t c h w", b=self.num_clips)
        past = clip[:, :1] if self._previous is None else self._previous[len(self.frames)][:, None]
        self.frames.append(clip[:, -1])
        shifted = torch.cat([past, clip[:, :-1]], dim=1)
        return rearrange(torch.cat([shifted, clip], dim=2), "b t c h w -> (b t) c h w")


class ChannelRMSNorm(nn.Module):
    """Root-mean-square normalisation over channels at every pixel, with a learnt gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x scaled to unit root mean square over c."""
        scale = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + 1e-6).to(x.dtype)
        return x * scale * self.gain.view(1, -1, 1, 1)


class CausalConv(nn.Module):
    """3x3 convolution that reads a frame and the frame before it (a 2x3x3 causal kernel)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels_in, channels_out, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "bt c h w"], memory: FrameMemory
    ) -> Float[Tensor, "bt d h w"]:
        """Convolve, taking predecessors of the first frames from ``memory``."""
        result: Tensor = self.conv(memory.with_past(x))
        return result


class ResidualBlock(nn.Module):
    """Twice norm, SiLU, convolution around a skip; the first convolution may be causal."""

    def __init__(self, channels: int, *, causal: bool) -> None:
        super().__init__()
        self.norm_in = ChannelRMSNorm(channels)
        self.conv_in: nn.Module = (
            CausalConv(channels, channels)
            if causal
            else nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm_out = ChannelRMSNorm(channels)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "bt c h w"], memory: FrameMemory
    ) -> Float[Tensor, "bt c h w"]:
        """Return x plus its refinement."""
        hidden = F.silu(self.norm_in(x))
        if isinstance(self.conv_in, CausalConv):
            hidden = self.conv_in(hidden, memory)
        else:
            hidden = self.conv_in(hidden)
        result: Tensor = x + self.conv_out(F.silu(self.norm_out(hidden)))
        return result


class ResidualStack(nn.ModuleList):
    """Residual blocks in a row; only the first one looks back in time."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__(ResidualBlock(channels, causal=index == 0) for index in range(num_blocks))

    def forward(
        self, x: Float[Tensor, "bt c h w"], memory: FrameMemory
    ) -> Float[Tensor, "bt c h w"]:
        """Apply the blocks in order."""
        for block in self:
            x = block(x, memory)
        return x
