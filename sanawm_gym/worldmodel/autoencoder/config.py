"""Size of the causal video autoencoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoAutoencoderConfig:
    """Shape of a :class:`~sanawm_gym.worldmodel.autoencoder.model.VideoAutoencoder`.

    The spatial stride is ``2 * patch_size``: a pixel-to-channel patch, then one learnt halving.
    """

    latent_channels: int = 16
    """Channels of a latent cell."""
    temporal_stride: int = 4
    """Raw frames packed into one latent frame; the first latent holds the first frame alone."""
    patch_size: int = 4
    """Side of the square pixel patch folded into channels before the first convolution [px]."""
    fine_channels: int = 96
    """Width of the blocks at ``1 / patch_size`` of the picture's resolution."""
    coarse_channels: int = 192
    """Width of the blocks at latent resolution."""
    fine_blocks: int = 3
    """Residual blocks at the fine resolution; the first of them also reads the previous frame."""
    coarse_blocks: int = 2
    """Residual blocks at latent resolution; the first of them also reads the previous frame."""
    min_log_variance: float = -4.6
    """Floor of the posterior's log variance (-4.6 is a standard deviation of 0.1). The decoder
    therefore always trains on slightly wrong latents, as a world model will hand it."""

    def __post_init__(self) -> None:
        """Refuse sizes that no network can be built with."""
        sizes = {
            "latent_channels": self.latent_channels,
            "temporal_stride": self.temporal_stride,
            "patch_size": self.patch_size,
            "fine_channels": self.fine_channels,
            "coarse_channels": self.coarse_channels,
            "fine_blocks": self.fine_blocks,
            "coarse_blocks": self.coarse_blocks,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def spatial_stride(self) -> int:
        """Pixels along a side of one latent cell."""
        return 2 * self.patch_size

    @property
    def patch_channels(self) -> int:
        """Channels of one space-time patch of RGB pixels."""
        return 3 * self.temporal_stride * self.patch_size**2


DRIVE_AUTOENCODER = VideoAutoencoderConfig()
"""The bundled autoencoder: 128x72 pixels to 16x9 latent cells, four frames to one."""
