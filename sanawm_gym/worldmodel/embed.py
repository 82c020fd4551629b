"""Ways into and out of the token stream: latents, timesteps, captions, and the final layer.

Axes: b clips, c channels, t latent frames, h rows, w columns, s = h w tokens of a frame.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NUM_FREQUENCIES = 128
LAYER_NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """One token per latent cell: a convolution of width 1, computed as a linear map."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, width, kernel_size=1)

    @property
    def matrix(self) -> Float[Tensor, "c i"]:
        """The convolution's weight without its unit axes."""
        return self.proj.weight.flatten(1)

    def forward(self, x: Float[Tensor, "b i t h w"]) -> Float[Tensor, "b t s c"]:
        """Embed."""
        return F.linear(tokens(x), self.matrix, self.proj.bias)


def tokens(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t s c"]:
    """Video to token-major layout."""
    return x.permute(0, 2, 3, 4, 1).flatten(2, 3)


class TimestepEmbed(nn.Module):
    """Sinusoids of the integer timestep (cosines first), then a two-layer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(2 * NUM_FREQUENCIES, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: Float[Tensor, "b t"]) -> Float[Tensor, "b t c"]:
        """Embed timesteps 0 ... 1000; fractions are cut off, as the model was trained."""
        index = torch.arange(NUM_FREQUENCIES, dtype=torch.float32, device=timestep.device)
        frequency = torch.exp(-math.log(10000.0) / NUM_FREQUENCIES * index)
        angle = timestep.trunc().to(torch.float32)[..., None] * frequency
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class _Perceptron(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, width)
        self.fc2 = nn.Linear(width, width)


class CaptionEmbed(nn.Module):
    """Text features to the width of the network.

    `y_embedding` is the null caption that training puts in place of a dropped prompt; only the
    original checkpoint layout carries it.
    """

    def __init__(self, in_channels: int, width: int, null_length: int | None) -> None:
        super().__init__()
        self.y_proj = _Perceptron(in_channels, width)
        if null_length is not None:
            self.register_buffer("y_embedding", torch.zeros(null_length, in_channels))

    def forward(self, text: Float[Tensor, "b l i"]) -> Float[Tensor, "b l c"]:
        """Embed."""
        hidden = F.gelu(self.y_proj.fc1(text), approximate="tanh")
        out: Tensor = self.y_proj.fc2(hidden)
        return out


def modulate(
    x: Float[Tensor, "b t s c"], shift: Float[Tensor, "b t c"], scale: Float[Tensor, "b t c"]
) -> Float[Tensor, "b t s c"]:
    """LayerNorm(x) (1 + scale) + shift, with one shift and scale per frame."""
    normed = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
    return torch.addcmul(shift[:, :, None], normed, (1 + scale)[:, :, None])


class FinalLayer(nn.Module):
    """Modulated norm and a linear map to latent channels."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out_channels)
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))

    def forward(
        self, x: Float[Tensor, "b t s c"], t: Float[Tensor, "b t c"], grid: tuple[int, int]
    ) -> Float[Tensor, "b o t h w"]:
        """Tokens to a latent video."""
        shift, scale = (self.scale_shift_table + t[:, :, None]).unbind(2)
        out: Tensor = self.linear(modulate(x, shift, scale))
        video: Tensor = out.unflatten(2, grid).permute(0, 4, 1, 2, 3)
        return video
