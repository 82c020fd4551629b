"""Small heads that read the state of the road off the features of the clean pass.

The clean pass runs anyway: it makes a finished latent frame part of the network's memory. What its
last block leaves of every token has seen the picture, the motion and the past. Beside it the heads
are told where every token lies on the ground; a few convolutions are then enough to say where the
lane is, and they cost next to nothing. They are trained apart (stage ``heads``) on the truth of
recorded drives, with the network frozen.

Every reading comes with its deviation. For a number both are those of a Gaussian; for a chance the
mean is a probability p and the deviation follows as sqrt(p (1 - p)). Two numbers a quantity, fitted
on held-out drives, make both true to what they promise: how far a reading may leave the usual
answer, and how sure it may be of itself. A reading that turned out to be worth nothing on new roads
thereby shrinks to the usual answer.

Axes: b rows, s tokens of a frame, e channels of a token, q quantities, of which n are numbers and m
are chances.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.worldmodel import token_ground
from sanawm_gym.worldmodel.folder import load_weights, read_config, save_module

_NAME = "heads"
"""Stem of both files in a world folder."""
_LOG_DEVIATIONS = (-5.0, 3.0)
"""Bounds of the logarithm of a deviation, over the spread of the quantity in training."""


class Quantity(NamedTuple):
    """One thing that heads read.

    Attributes:
        unit: SI unit; empty for a probability.
        kind: "number", or "chance" for the probability that something is so.
        meaning: In words.
    """

    unit: str
    kind: Literal["number", "chance"]
    meaning: str


QUANTITIES: dict[str, Quantity] = {
    "lane_offset": Quantity("m", "number", "rear axle to the middle of its lane, + left of it"),
    "heading_error": Quantity("rad", "number", "heading against that lane, + turned left"),
    "curvature_ahead": Quantity("1/m", "number", "mean over the next 20 m of road, + left"),
    "left_edge": Quantity("m", "number", "rear axle to the road's left edge, negative beyond it"),
    "right_edge": Quantity("m", "number", "rear axle to its right edge, negative beyond it"),
    "lead_distance": Quantity("m", "number", "bumper to bumper to the vehicle ahead, if any"),
    "lead_speed": Quantity("m/s", "number", "speed at which that gap shrinks, if any"),
    "has_lead": Quantity("", "chance", "there is a vehicle ahead within `HeadsConfig.lead_range`"),
    "on_road": Quantity("", "chance", "the middle of the car lies between the edges"),
    "crashed": Quantity("", "chance", "another vehicle has been touched"),
}
"""What heads read, in the order of the axis q: first the numbers, then the chances. All but
`has_lead` are columns of recordings and of the reference world's ``info["truth"]``."""

NUM_NUMBERS = sum(quantity.kind == "number" for quantity in QUANTITIES.values())
"""Quantities that are numbers."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Size of the heads, and the network whose features they read."""

    channels: int
    """Channels of a token, the network's ``hidden_size``."""
    grid: tuple[int, int]
    """Rows and columns of the latent grid."""
    width: int = 32
    """Channels after the first layer; twice as many after that, >= 1."""
    hidden: int = 96
    """Width of the last hidden layer, >= 1."""
    lead_range: float = 50.0
    """Vehicles farther ahead than this were counted as none [m], > 0."""
    network: str = ""
    """`fingerprint` of the network whose features they were trained on; empty if unknown."""

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        sizes = (self.channels, *self.grid, self.width, self.hidden)
        if min(sizes) < 1 or not self.lead_range > 0:
            raise ValueError(
                f"got channels, grid, width, hidden {sizes} and lead_range={self.lead_range}; "
                "expected sizes of at least 1 and a range above 0 m"
            )

    def check_fits(self, channels: int, grid: tuple[int, int]) -> None:
        """Refuse features of another size.

        Raises:
            ValueError: If the channels or the latent grid differ.
        """
        if (channels, grid) != (self.channels, self.grid):
            raise ValueError(
                f"the heads read {self.channels} channels on a {self.grid} grid, but the network "
                f"has {channels} on {grid}: train heads for this network"
            )


@dataclass(frozen=True)
class Perceived:
    """What heads read of b drives. The columns are `QUANTITIES`, in their units."""

    mean: Float[Tensor, "b q"]
    """Expected value, or probability."""
    deviation: Float[Tensor, "b q"]
    """Standard deviation."""

    def __getitem__(self, name: str) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Mean and deviation of one quantity."""
        column = list(QUANTITIES).index(name)
        return self.mean[:, column], self.deviation[:, column]

    def rows(self) -> list[dict[str, dict[str, float]]]:
        """A row's readings by name: ``{"lane_offset": {"mean": ..., "deviation": ...}, ...}``."""
        return [
            {
                name: {"mean": mean, "deviation": deviation}
                for name, mean, deviation in zip(QUANTITIES, means, deviations, strict=True)
            }
            for means, deviations in zip(self.mean.tolist(), self.deviation.tolist(), strict=True)
        ]


class HeadsOutput(NamedTuple):
    """What the layers give, before units and temperatures."""

    mean: Float[Tensor, "b n"]
    """Of the numbers, over their spread in training."""
    log_deviation: Float[Tensor, "b n"]
    """The same of their deviation, as a logarithm."""
    logit: Float[Tensor, "b m"]
    """Of the chances."""


class Heads(nn.Module):
    """All readings by one small convolutional trunk, in float32 whatever the network runs in."""

    offset: Tensor
    scale: Tensor
    slope: Tensor
    temperature: Tensor
    bias: Tensor

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        width, rows, columns = config.width, *config.grid
        self.norm = nn.LayerNorm(config.channels)
        self.enter = nn.Linear(config.channels + token_ground.NUM_CHANNELS, width)
        self.layers = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(2 * width * -(-rows // 4) * -(-columns // 4), config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, NUM_NUMBERS + len(QUANTITIES)),
        )
        self.register_buffer("offset", torch.zeros(NUM_NUMBERS))
        self.register_buffer("scale", torch.ones(NUM_NUMBERS))
        self.register_buffer("slope", torch.ones(len(QUANTITIES)))
        self.register_buffer("temperature", torch.ones(NUM_NUMBERS))
        self.register_buffer("bias", torch.zeros(len(QUANTITIES) - NUM_NUMBERS))

    def forward(
        self, features: Float[Tensor, "b s e"], ground: Float[Tensor, "b s 3"]
    ) -> HeadsOutput:
        """Raw outputs, for training."""
        tokens = torch.cat([self.norm(features.float()), ground], dim=-1)
        picture = self.enter(tokens).transpose(1, 2)
        out: Tensor = self.layers(picture.unflatten(2, self.config.grid))
        log_deviation = out[:, NUM_NUMBERS : 2 * NUM_NUMBERS].clamp(*_LOG_DEVIATIONS)
        return HeadsOutput(out[:, :NUM_NUMBERS], log_deviation, out[:, 2 * NUM_NUMBERS :])

    def read(self, features: Float[Tensor, "b s e"], ground: Float[Tensor, "b s 3"]) -> Perceived:
        """Calibrated readings in units.

        A number is offset + slope * mean * scale with a deviation of temperature * deviation *
        scale, a chance sigmoid(slope * logit + bias).

        Args:
            features: Of the newest latent frame, as `SanaWM.remember` gives them.
            ground: Where its tokens lie, as `token_ground.token_ground` says.
        """
        out = self(features, ground)
        number = self.offset + self.slope[:NUM_NUMBERS] * out.mean * self.scale
        deviation = self.temperature * out.log_deviation.exp() * self.scale
        chance = torch.sigmoid(self.slope[NUM_NUMBERS:] * out.logit + self.bias)
        return Perceived(
            mean=torch.cat([number, chance], dim=1),
            deviation=torch.cat([deviation, (chance * (1 - chance)).sqrt()], dim=1),
        )


def fingerprint(network: nn.Module) -> str:
    """Hash of a network's weights, the same in whichever of the two precisions they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().bfloat16().contiguous().view(torch.int16).numpy())
    return digest.hexdigest()[:16]


def save_heads(folder: Path, heads: Heads | None) -> None:
    """Write the heads of a world; None takes away those that the folder may hold."""
    if heads is not None:
        save_module(folder, _NAME, heads, heads.config)
        return
    for suffix in (".json", ".safetensors"):
        (folder / f"{_NAME}{suffix}").unlink(missing_ok=True)


def load_heads(folder: Path, network: nn.Module) -> Heads | None:
    """Heads of a world folder or of an output folder of the stage ``heads``.

    Args:
        folder: Where to look.
        network: The network they are to read; if they were trained on other weights of it, a
            warning says so.

    Returns:
        None where the folder has none.
    """
    if not (folder / f"{_NAME}.json").is_file():
        return None
    heads = Heads(read_config(folder / f"{_NAME}.json", HeadsConfig))
    load_weights(folder, _NAME, heads)
    if heads.config.network not in ("", fingerprint(network)):
        warnings.warn(
            f"the heads in {folder} were trained on the features of other weights than this "
            "network has: train them again, their readings cannot be relied on",
            stacklevel=3,
        )
    return heads
