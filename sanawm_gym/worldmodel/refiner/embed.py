"""How noise levels and text enter the refiner.

Axes: b rows, t latent frames, m text tokens, f text channels, w width, k modulations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import RefinerConfig

NUM_TIMESTEPS = 1000
"""Timestep of pure noise."""
NUM_MODULATIONS = 6
"""Shift, scale and gate of attention, then of the feed-forward layer."""
_NUM_WAVES = 128


class TimestepEmbedder(nn.Module):
    """Sinusoids of 1000 sigma (cosines first), then a two-layer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(2 * _NUM_WAVES, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, sigma: Float[Tensor, "b t"]) -> Float[Tensor, "b t w"]:
        """Embed noise levels; fractions of a timestep count."""
        index = torch.arange(_NUM_WAVES, dtype=torch.float32, device=sigma.device)
        frequency = torch.exp(-math.log(10000.0) / _NUM_WAVES * index)
        angle = (NUM_TIMESTEPS * sigma.float())[..., None] * frequency
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class TimeEmbed(nn.Module):
    """Timestep to its embedding and to the six modulations all blocks share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TimestepEmbedder(width)})
        self.linear = nn.Linear(width, NUM_MODULATIONS * width)

    def forward(
        self, sigma: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t k w"], Float[Tensor, "b t w"]]:
        """Return the modulations and the embedding itself."""
        embedded = self.emb["timestep_embedder"](sigma)
        return self.linear(F.silu(embedded)).unflatten(-1, (NUM_MODULATIONS, -1)), embedded


class CaptionProjection(nn.Module):
    """Text features to the width of the stream."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(config.caption_channels, config.width)
        self.linear_2 = nn.Linear(config.width, config.width)

    def forward(self, features: Float[Tensor, "b m f"]) -> Float[Tensor, "b m w"]:
        """Project."""
        out: Tensor = self.linear_2(F.gelu(self.linear_1(features), approximate="tanh"))
        return out
