"""The causal video autoencoder.

Four raw frames become one latent frame. The first raw frame of a clip stands alone: it is put in
front of itself until it fills a group, and only the last picture of that group is kept on decoding
(this is the usual causal padding, which repeats the first frame). Space-time patches go into
channels first, because on a CPU a few wide convolutions at a quarter of the resolution cost far
less than many thin ones at full resolution.

No norm stands before the two heads, so an unbroken linear path leads from pixels to latents and
back, and the residual blocks only correct it. With norms there, 60 s of training on one core ended
at 22.4 dB; without them at 25.0 dB.

Latents are handed out normalised: ``z = (mean - latents_mean) / latents_std`` per channel, the two
buffers being measured on the training video (LTX-2 does the same).

Axes: b clips, f raw frames = s (t - 1) + 1, t latent frames, c latent channels, h and w of the
picture, y = h / stride and x = w / stride of the latent grid.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.worldmodel.autoencoder.config import VideoAutoencoderConfig
from sanawm_gym.worldmodel.autoencoder.layers import (
    FrameMemory,
    ResidualBlock,
    ResidualStack,
)


class Encoder(nn.Module):
    """Pixels to the posterior's mean and log variance, one pair a latent frame."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        self.patch = nn.Conv2d(config.patch_channels, config.fine_channels, 3, padding=1)
        self.fine = ResidualStack(config.fine_channels, config.fine_blocks)
        self.down = nn.Conv2d(4 * config.fine_channels, config.coarse_channels, 1)
        self.coarse = ResidualStack(config.coarse_channels, config.coarse_blocks)
        self.head = nn.Conv2d(config.coarse_channels, 2 * config.latent_channels, 1)

    def forward(
        self, patches: Float[Tensor, "bt p h w"], memory: FrameMemory
    ) -> Float[Tensor, "bt c2 y x"]:
        """Return mean and log variance stacked along channels."""
        x = self.fine(self.patch(patches), memory)
        x = self.coarse(self.down(nn.functional.pixel_unshuffle(x, 2)), memory)
        result: Tensor = self.head(x)
        return result


class Decoder(nn.Module):
    """Latents to space-time patches of pixels."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(config.latent_channels, config.coarse_channels, 3, padding=1)
        self.coarse = ResidualStack(config.coarse_channels, config.coarse_blocks)
        self.up = nn.Conv2d(config.coarse_channels, 4 * config.fine_channels, 1)
        self.fine = ResidualStack(config.fine_channels, config.fine_blocks)
        self.head = nn.Conv2d(config.fine_channels, config.patch_channels, 3, padding=1)

    def forward(
        self, latents: Float[Tensor, "bt c y x"], memory: FrameMemory
    ) -> Float[Tensor, "bt p h w"]:
        """Return the pixel patches of every latent frame."""
        x = self.coarse(self.stem(latents), memory)
        x = self.fine(nn.functional.pixel_shuffle(self.up(x), 2), memory)
        result: Tensor = self.head(x)
        return result


class VideoAutoencoder(nn.Module):
    """Causal variational autoencoder for short strides: s frames and a square of pixels a latent.

    Args:
        config: Sizes.
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))
        initialise(self)
        for parameter in self.parameters():
            if parameter.ndim == 4:  # convolutions are fastest on a CPU with channels last
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def posterior(
        self, frames: Float[Tensor, "b 3 f h w"]
    ) -> tuple[Float[Tensor, "b c t y x"], Float[Tensor, "b c t y x"]]:
        """Mean and log variance of the latents before normalisation.

        Args:
            frames: RGB in [-1, 1]; f = s k + 1 frames, sides divisible by the spatial stride.

        Raises:
            ValueError: If the number of frames or a side does not fit the strides.
        """
        _, _, f, h, w = frames.shape
        s, stride = self.config.temporal_stride, self.config.spatial_stride
        if (f - 1) % s:
            raise ValueError(
                f"got {f} frames, expected a multiple of {s} plus 1: drop the last {(f - 1) % s}"
            )
        if h % stride or w % stride:
            raise ValueError(
                f"got pictures of {w}x{h}, expected sides divisible by {stride}: resize or crop"
            )
        padded = torch.cat([frames[:, :, :1].expand(-1, -1, s - 1, -1, -1), frames], dim=2)
        mean, log_variance = self._moments(padded)
        return mean, log_variance.clamp(self.config.min_log_variance, 10.0)

    def _moments(self, groups: Float[Tensor, "b 3 f h w"]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of whole groups of s frames."""
        s, patch = self.config.temporal_stride, self.config.patch_size
        patches = rearrange(
            groups, "b c (t s) (h p) (w q) -> (b t) (s c p q) h w", s=s, p=patch, q=patch
        )
        moments = self.encoder(patches, FrameMemory(groups.shape[0]))
        mean, log_variance = rearrange(
            moments, "(b t) c y x -> b c t y x", b=groups.shape[0]
        ).chunk(2, dim=1)
        return mean, log_variance

    def encode_group(self, frames: Float[Tensor, "b 3 s h w"]) -> Float[Tensor, "b c 1 y x"]:
        """Normalised latent of one full group of frames without its past.

        :meth:`encode` gives the same group a slightly different latent, because there the encoder
        sees the group before it.
        """
        return self.normalize(self._moments(frames.to(self.encoder.patch.weight.dtype))[0])

    def encode(self, frames: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b c t y x"]:
        """Normalised posterior mode of a clip; same arguments and errors as :meth:`posterior`."""
        return self.normalize(self.posterior(frames)[0])

    def normalize(self, z: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b c t y x"]:
        """Raw latents to zero mean and unit deviation per channel."""
        return (z - _per_channel(self.latents_mean)) / _per_channel(self.latents_std)

    def denormalize(self, z: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b c t y x"]:
        """Inverse of :meth:`normalize`."""
        return z * _per_channel(self.latents_std) + _per_channel(self.latents_mean)

    def decode(self, latents: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b 3 f h w"]:
        """Pictures of a whole clip, f = s (t - 1) + 1, RGB around [-1, 1] (not clipped)."""
        frames, _ = self.decode_step(latents, None)
        return frames

    def decode_step(
        self, latents: Float[Tensor, "b c t y x"], memory: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], list[Tensor]]:
        """Decode the next latent frames of a stream.

        Args:
            latents: Normalised latents that follow those already decoded.
            memory: What the previous call returned, None for the first call of a clip.

        Returns:
            The pictures (s t of them, or s (t - 1) + 1 at the start of a clip) and the memory for
            the next call. Concatenated over calls they equal :meth:`decode` of the whole clip.
        """
        b, _, t = latents.shape[:3]
        s, patch = self.config.temporal_stride, self.config.patch_size
        flat = rearrange(self.denormalize(latents), "b c t y x -> (b t) c y x")
        frame_memory = FrameMemory(b, memory)
        patches = self.decoder(
            flat.to(memory_format=torch.channels_last).to(self.decoder.stem.weight.dtype),
            frame_memory,
        )
        frames = rearrange(
            patches,
            "(b t) (s c p q) h w -> b c (t s) (h p) (w q)",
            t=t,
            s=s,
            p=patch,
            q=patch,
            c=3,
        )
        return (frames if memory is not None else frames[:, :, s - 1 :]), frame_memory.frames


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)


def initialise(model: VideoAutoencoder) -> None:
    """Start near a linear autoencoder: variance-keeping convolutions, silent residual branches."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            nn.init.normal_(module.conv_out.weight, std=1e-2)
    bias = model.encoder.head.bias
    assert bias is not None
    # Begin with little noise in the latents: an untrained decoder learns nothing from noise.
    nn.init.constant_(bias[model.config.latent_channels :], -3.5)
