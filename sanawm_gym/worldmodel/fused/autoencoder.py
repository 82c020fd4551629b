"""The autoencoder on one latent frame at a time, arranged for speed on a CPU.

The numbers are those of `VideoAutoencoder` up to rounding. Tensors stay in channels-last order
throughout, so that a norm over channels reads memory in a row; weights lie as oneDNN wants them;
shuffles of pixels and channels and the scale of the latents are done to the weights instead.

Axes: b rows, c channels, s raw frames of a latent frame, h and w of the picture or of a layer, y
and x of the latent grid, p and q of a patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..autoencoder import VideoAutoencoder
from ..autoencoder.layers import CausalConv, ChannelRMSNorm, ResidualBlock, ResidualStack
from .packed import PackedConv

NORM_EPS = 1e-6
"""Of `ChannelRMSNorm`."""


class FusedAutoencoder:
    """`VideoAutoencoder.encode_group` and `decode_step` for streams.

    Args:
        autoencoder: Where the weights come from; not changed.
        packed: See `PackedLinear`.
    """

    def __init__(self, autoencoder: VideoAutoencoder, *, packed: bool = True) -> None:
        self._plain = autoencoder
        self._encoder = _Encoder(autoencoder, packed)
        self._decoder = _Decoder(autoencoder, packed)

    def encode_group(self, frames: Float[Tensor, "b 3 s h w"]) -> Float[Tensor, "b c 1 y x"]:
        """As `VideoAutoencoder.encode_group`."""
        return self._encoder(frames)

    def decode_step(
        self, latents: Float[Tensor, "b c t y x"], memory: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], list[Tensor]]:
        """As `VideoAutoencoder.decode_step`."""
        if memory is None or latents.shape[2] != 1:
            return self._plain.decode_step(latents, memory)
        return self._decoder(latents, memory)


class _Norm:
    """`ChannelRMSNorm` and SiLU."""

    def __init__(self, norm: ChannelRMSNorm) -> None:
        self._gain = norm.gain.detach().float()

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = x.permute(0, 2, 3, 1).float()
        size = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        y = y * (size.square() / y.shape[-1] + NORM_EPS).rsqrt() * self._gain
        return F.silu(y, inplace=True).to(x.dtype).permute(0, 3, 1, 2)


class _Residual:
    """`ResidualBlock`.

    Args:
        block: Where the weights come from.
        alone: Let a causal layer take its own input as the past, as the first frame of a clip
            does: one convolution by the sum of both kernels.
        packed: See `PackedLinear`.
    """

    def __init__(self, block: ResidualBlock, *, alone: bool, packed: bool) -> None:
        self._norm_in, self._norm_out = _Norm(block.norm_in), _Norm(block.norm_out)
        self.reads_past = isinstance(block.conv_in, CausalConv) and not alone
        conv = block.conv_in.conv if isinstance(block.conv_in, CausalConv) else block.conv_in
        assert isinstance(conv, torch.nn.Conv2d)
        weight = conv.weight
        if isinstance(block.conv_in, CausalConv) and alone:
            past, now = weight.float().chunk(2, dim=1)
            weight = (past + now).to(weight.dtype)
        self._conv_in = PackedConv(weight, conv.bias, packed=packed)
        self._conv_out = PackedConv(block.conv_out.weight, block.conv_out.bias, packed=packed)

    def __call__(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply; also returns what the next frame needs to see."""
        first = self._norm_in(x)
        seen = first if past is None else torch.cat([past.to(first.dtype), first], dim=1)
        hidden = self._conv_in(seen.contiguous(memory_format=torch.channels_last))
        return self._conv_out.add_to(self._norm_out(hidden), x), first


class _Stack:
    """`ResidualStack`."""

    def __init__(self, stack: ResidualStack, *, alone: bool, packed: bool) -> None:
        blocks = [block for block in stack if isinstance(block, ResidualBlock)]
        self._blocks = [_Residual(block, alone=alone, packed=packed) for block in blocks]

    def __call__(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply; `past` is for the first block, and its input to the next frame is returned."""
        kept = x
        for index, block in enumerate(self._blocks):
            x, first = block(x, past if index == 0 else None)
            kept = first if index == 0 else kept
        return x, kept


class _Encoder:
    """Pictures of a group to its normalised latent."""

    def __init__(self, autoencoder: VideoAutoencoder, packed: bool) -> None:
        encoder, config = autoencoder.encoder, autoencoder.config
        self._patch_size = config.patch_size
        self._dtype = encoder.patch.weight.dtype
        self._patch = PackedConv(encoder.patch.weight, encoder.patch.bias, packed=packed)
        self._fine = _Stack(encoder.fine, alone=True, packed=packed)
        self._down = PackedConv(encoder.down.weight, encoder.down.bias, packed=packed)
        self._coarse = _Stack(encoder.coarse, alone=True, packed=packed)
        std = autoencoder.latents_std.float()
        mean = autoencoder.latents_mean.float()
        weight = encoder.head.weight[: len(std)].float() / std.view(-1, 1, 1, 1)
        assert encoder.head.bias is not None
        bias = (encoder.head.bias[: len(std)].float() - mean) / std
        self._head = PackedConv(weight.to(self._dtype), bias.to(self._dtype), packed=packed)

    def __call__(self, frames: Float[Tensor, "b 3 s h w"]) -> Float[Tensor, "b c 1 y x"]:
        patches = F.pixel_unshuffle(frames.to(self._dtype).transpose(1, 2), self._patch_size)
        x = self._patch(patches.flatten(1, 2).contiguous(memory_format=torch.channels_last))
        x, _ = self._fine(x, None)
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        x, _ = self._coarse(self._down(x), None)
        return self._head(x)[:, :, None]


class _Decoder:
    """The next latent of a stream to its pictures."""

    def __init__(self, autoencoder: VideoAutoencoder, packed: bool) -> None:
        decoder, config = autoencoder.decoder, autoencoder.config
        self._config = config
        self._dtype = decoder.stem.weight.dtype
        self._mean = autoencoder.latents_mean.float().view(1, -1, 1, 1)
        self._std = autoencoder.latents_std.float().view(1, -1, 1, 1)
        self._stem = PackedConv(decoder.stem.weight, decoder.stem.bias, packed=packed)
        self._coarse = _Stack(decoder.coarse, alone=False, packed=packed)
        self._up = PackedConv(*_last_first(decoder.up, config.fine_channels), packed=packed)
        self._fine = _Stack(decoder.fine, alone=False, packed=packed)
        patch = config.patch_size**2
        head = _last_first(decoder.head, 3, outer=config.temporal_stride, inner=patch)
        self._head = PackedConv(*head, packed=packed)

    def __call__(
        self, latents: Float[Tensor, "b c 1 y x"], memory: list[Tensor]
    ) -> tuple[Float[Tensor, "b 3 s h w"], list[Tensor]]:
        z = latents[:, :, 0].float() * self._std + self._mean
        x = self._stem(z.to(self._dtype).contiguous(memory_format=torch.channels_last))
        x, coarse = self._coarse(x, memory[0])
        # Channels come as (row, column, channel) of the fine grid.
        wide = self._up(x).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        x = wide.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        x, fine = self._fine(x, memory[1])
        patch, stride = self._config.patch_size, self._config.temporal_stride
        pixels = self._head(x).permute(0, 2, 3, 1).unflatten(-1, (stride, patch, patch, 3))
        # b h w s p q c to pictures with channels last, seen as b c s (h p) (w q).
        video = pixels.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
        return video.permute(0, 4, 1, 2, 3), [coarse, fine]


def _last_first(
    conv: torch.nn.Conv2d, channels: int, outer: int = 1, inner: int = 4
) -> tuple[Tensor, Tensor]:
    """Weights with output channels (outer, channel, place) in the order (outer, place, channel)."""
    assert conv.bias is not None
    shape = (outer, channels, inner)
    weight = conv.weight.unflatten(0, shape).transpose(1, 2).flatten(0, 2)
    return weight, conv.bias.unflatten(0, shape).transpose(1, 2).flatten()
