"""LTX-2's video autoencoder behind the few calls a world makes of one.

The module is diffusers' `AutoencoderKLLTX2Video` (extra `full`). Here are only the scale of its
latents, the encoding of one picture (the mode of the posterior, as the network was trained) and two
ways of decoding in pieces:

* a causal decoder goes on where it stopped (`stream_decoder`): exact, and the same memory however
  long the clip;
* a decoder that looks ahead decodes the last latent once more in front of the new ones and drops
  its picture: small seams between the pieces, as the release does without its causal decoder.

Axes: b rows, c latent channels, t latent frames, y x latent grid, f h w pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .stream_decoder import StreamDecoder

TILE_FRAMES, TILE_STRIDE = 96, 64
"""Pictures of a tile in time and from one to the next, where a clip is not decoded in a stream."""
PIECE = 4
"""Latents that a stream decodes at once."""


class Ltx2Autoencoder:
    """Pictures to latents and back.

    Args:
        module: The autoencoder of diffusers, with its weights.

    Attributes:
        temporal_stride: Pictures of a latent frame, the first one apart.
        spatial_stride: Pixels of a latent cell's side.
        channels: Of the latents.
        causal: Whether it decodes in a stream exactly.
    """

    def __init__(self, module: Any) -> None:
        self.module = module.eval().requires_grad_(False)
        kinds = [
            kind
            for kind, used in zip(
                module.config.downsample_type, _scaling(module.config), strict=False
            )
            if used
        ]
        in_space = sum(kind in ("spatial", "spatiotemporal") for kind in kinds)
        in_time = sum(kind in ("temporal", "spatiotemporal") for kind in kinds)
        self.temporal_stride: int = module.config.patch_size_t * 2**in_time
        self.spatial_stride: int = module.config.patch_size * 2**in_space
        self.channels: int = module.config.latent_channels
        self.causal = bool(module.decoder.is_causal)
        self._stream = StreamDecoder(module.decoder) if self.causal else None
        module.use_framewise_decoding = not self.causal
        module.tile_sample_min_num_frames = TILE_FRAMES
        module.tile_sample_stride_num_frames = TILE_STRIDE

    @staticmethod
    def from_folder(
        folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Ltx2Autoencoder:
        """Load from a folder of `config.json` and safetensors.

        Raises:
            ValueError: If there is none.
            ModuleNotFoundError: Without diffusers (extra `full`).
        """
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder} holds no autoencoder: expected config.json and safetensors")
        from diffusers import AutoencoderKLLTX2Video

        autoencoder: Any = AutoencoderKLLTX2Video
        module = autoencoder.from_pretrained(folder, torch_dtype=dtype)
        return Ltx2Autoencoder(module.to(device))

    @torch.no_grad()
    def encode_picture(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 y x"]:
        """Latent of single pictures in [-1, 1], float32."""
        return self.encode(picture[:, :, None])

    @torch.no_grad()
    def encode(self, clip: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b c t y x"]:
        """Latents of clips of `temporal_stride` k + 1 pictures in [-1, 1], float32.

        Raises:
            ValueError: If there is another number of pictures.
        """
        if clip.shape[2] % self.temporal_stride != 1 % self.temporal_stride:
            raise ValueError(
                f"got a clip of {clip.shape[2]} pictures, expected a multiple of "
                f"{self.temporal_stride} plus one; cut it"
            )
        found = self.module.encode(clip.to(self._mean.device, self.module.dtype))
        z: Tensor = found.latent_dist.mode().float()
        factor: float = self.module.config.scaling_factor
        return (z - self._mean) * factor / self._std

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b 3 f h w"]:
        """Pictures of a whole clip, in [-1, 1]."""
        if self._stream is None:
            pictures: Tensor = self.module.decode(self._unscaled(latents), return_dict=False)[0]
            return pictures.float()
        parts, memory = [], None
        for piece in latents.split(PIECE, dim=2):
            part, memory = self.decode_step(piece, memory)
            parts.append(part)
        return torch.cat(parts, dim=2)

    @torch.no_grad()
    def decode_step(
        self, latents: Float[Tensor, "b c t y x"], memory: tuple[Tensor, ...] | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], tuple[Tensor, ...]]:
        """Pictures of the next latents of a stream.

        Args:
            latents: What follows the latents of the call before.
            memory: What that call returned; None begins, and the first latent gives one picture.

        Returns:
            Pictures in [-1, 1], and what the next call has to be given.
        """
        if self._stream is not None:
            pictures, left = self._stream(self._unscaled(latents), memory)
            return pictures.float(), left
        seen = latents if memory is None else torch.cat([memory[0].to(latents), latents], dim=2)
        decoded = self.module.decode(self._unscaled(seen), return_dict=False)[0].float()
        # The repeated latent stands first, where it gives one picture.
        fresh = decoded if memory is None else decoded[:, :, 1:]
        return fresh, (latents[:, :, -1:].clone(),)

    def to(self, device: torch.device | str) -> Ltx2Autoencoder:
        """Move the weights; returns itself."""
        self.module.to(device)
        return self

    def _unscaled(self, latents: Tensor) -> Tensor:
        x = latents.to(self._mean.device, torch.float32)
        x = x / self.module.config.scaling_factor * self._std + self._mean
        kept: Tensor = x.to(self.module.dtype)
        return kept

    @property
    def latents_std(self) -> Float[Tensor, " c"]:
        """Standard deviation of every channel before normalisation."""
        std: Tensor = self.module.latents_std.float()
        return std

    @property
    def _mean(self) -> Tensor:
        mean: Tensor = self.module.latents_mean.float().view(1, -1, 1, 1, 1)
        return mean

    @property
    def _std(self) -> Tensor:
        std: Tensor = self.module.latents_std.float().view(1, -1, 1, 1, 1)
        return std


def _scaling(config: Any) -> tuple[bool, ...]:
    """Which encoder blocks make the picture smaller."""
    scaling = config.spatio_temporal_scaling
    if isinstance(scaling, bool):
        return (scaling,) * len(config.downsample_type)
    return tuple(scaling)
