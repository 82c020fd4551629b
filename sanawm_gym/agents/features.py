"""What a trained driver sees by: pictures, latents and numbers become one vector of features.

A picture passes strided convolutions, a latent frame smaller ones, a vector of numbers is scaled by
the bounds of its space; all of it is joined by one layer. Pictures are freed of their mean and
contrast first: light and haze vary with the weather and between worlds, the shape of the road does
not. The same network stands inside SB3's policies (:mod:`sanawm_gym.agents.extractor`) and in the
files that `load_policy` drives with, so a saved driver needs no SB3.

Axes: b cars, c channels, h rows, w columns, n numbers, f features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor, nn

ALONE = "observation"
"""Name of an observation that is no dictionary."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Size of the network that reads observations."""

    channels: tuple[int, ...] = (16, 24, 32, 32)
    """Output channels of the convolutions over pictures; each halves the picture. Latent frames,
    which are small already, take the last two, the first of which keeps the size."""
    features: int = 128
    """Width of the joined features, >= 1."""
    is_normed: bool = True
    """Whether the joined features are freed of their mean and spread (layer norm)."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if len(self.channels) < 2 or min(*self.channels, self.features) < 1:
            raise ValueError(
                f"features: got channels {self.channels} and {self.features} features, expected at "
                "least two numbers of channels and all of them >= 1"
            )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One part of an observation."""

    kind: str
    """`picture` (bytes, h w 3 or 3 h w), `latent` (floats, c h w) or `numbers` (floats, n)."""
    shape: tuple[int, ...]
    """Its shape without the batch axis."""

    @property
    def is_channels_last(self) -> bool:
        """Whether a picture keeps its colours in the last axis, as environments give it."""
        return self.kind == "picture" and self.shape[-1] == 3


def entries_of(space: spaces.Space[object]) -> dict[str, Entry]:
    """Parts of an observation space by name, sorted.

    Raises:
        ValueError: If a part is neither a picture nor a latent frame nor a vector.
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {ALONE: space}
    return {name: _entry(name, parts[name]) for name in sorted(parts)}


def _entry(name: str, space: spaces.Space[object]) -> Entry:
    if isinstance(space, spaces.Box):
        shape = tuple(space.shape)
        if space.dtype == np.uint8 and len(shape) == 3 and 3 in (shape[0], shape[-1]):
            return Entry(kind="picture", shape=shape)
        if np.issubdtype(space.dtype, np.floating) and len(shape) in (1, 3):
            return Entry(kind="numbers" if len(shape) == 1 else "latent", shape=shape)
    raise ValueError(
        f"observation {name!r}: got {space}, expected an RGB picture of bytes, a latent frame "
        "(c, h, w) or a vector of floats; choose another `observation` for the environment"
    )


def scales_of(space: spaces.Space[object]) -> dict[str, list[float]]:
    """Largest magnitude of every number of every vector; 1 where it is unbounded."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {ALONE: space}
    scales: dict[str, list[float]] = {}
    for name, part in parts.items():
        if isinstance(part, spaces.Box) and len(part.shape) == 1:
            size = np.maximum(np.abs(part.low), np.abs(part.high)).astype(np.float64)
            scales[name] = np.where((size > 0) & (size < 1e6), size, 1.0).tolist()
    return scales


class DriveFeatures(nn.Module):
    """Reads one observation a row.

    Args:
        config: Sizes.
        entries: Parts of the observation; see :func:`entries_of`.
        scales: Divisors of the numbers; see :func:`scales_of`. They are saved with the weights.
    """

    def __init__(
        self,
        config: FeaturesConfig,
        entries: Mapping[str, Entry],
        scales: Mapping[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.entries = dict(entries)
        self.towers = nn.ModuleDict()
        width = 0
        for name, entry in self.entries.items():
            if entry.kind == "numbers":
                scale = (scales or {}).get(name, [1.0] * entry.shape[0])
                self.register_buffer(f"scale_{name}", torch.tensor(scale, dtype=torch.float32))
                width += entry.shape[0]
            else:
                self.towers[name], size = _tower(entry, config)
                width += size
        self.join = nn.Linear(width, config.features)
        self.norm = nn.LayerNorm(config.features) if config.is_normed else nn.Identity()

    def forward(self, observation: Mapping[str, Shaped[Tensor, "b ..."]]) -> Float[Tensor, "b f"]:
        """Features of every row.

        Args:
            observation: Parts by name; pictures as bytes or as floats of their values.
        """
        parts = []
        for name, entry in self.entries.items():
            x = observation[name].float()
            if entry.kind == "numbers":
                parts.append(x / self.get_buffer(f"scale_{name}"))
                continue
            if entry.kind == "picture":
                x = _evened(x.permute(0, 3, 1, 2) if entry.is_channels_last else x)
            parts.append(self.towers[name](x))
        joined: Tensor = F.silu(self.norm(self.join(torch.cat(parts, dim=1))))
        return joined

    def numbers(self, observation: Mapping[str, Shaped[Tensor, "b ..."]]) -> Float[Tensor, "b n"]:
        """All vectors of an observation in one, as they are."""
        names = [name for name, entry in self.entries.items() if entry.kind == "numbers"]
        return torch.cat([observation[name].float() for name in names], dim=1)


def num_numbers(entries: Mapping[str, Entry]) -> int:
    """Columns of :meth:`DriveFeatures.numbers`."""
    return sum(entry.shape[0] for entry in entries.values() if entry.kind == "numbers")


def _evened(picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Pictures with mean 0 and contrast 1 each; 5 of 255 is taken for a blank one's contrast."""
    x = picture / 127.5 - 1
    return (x - x.mean(dim=(1, 2, 3), keepdim=True)) / (x.std(dim=(1, 2, 3), keepdim=True) + 0.05)


def _tower(entry: Entry, config: FeaturesConfig) -> tuple[nn.Sequential, int]:
    """Convolutions for a part, ending flat, and how many numbers come out."""
    shape = entry.shape
    channels, h, w = (shape[2], *shape[:2]) if entry.is_channels_last else shape
    of_picture = entry.kind == "picture"
    strides = [2] * len(config.channels) if of_picture else [1, 2]
    widths = (channels, *config.channels) if of_picture else (channels, *config.channels[-2:])
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(itertools.pairwise(widths)):
        size = 5 if of_picture and index == 0 else 3
        convolution = nn.Conv2d(a, b, size, stride=strides[index], padding=size // 2)
        # torch's own beginning shrinks what is seen to a third at every layer: next to the numbers
        # nothing would be left of a picture.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.SiLU()]
        h, w = (-(-side // strides[index]) for side in (h, w))
    return nn.Sequential(*layers, nn.Flatten()), widths[-1] * h * w
