"""A small driver cloned from recordings: picture and speed in, controls out.

It sees nothing but the current picture and the speed. Steering angle and acceleration are left out
on purpose: a cloned driver that may read its last action learns to repeat it.

Axes: b cars, h rows, w columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sanawm_gym.agents.features import Entry, FeaturesConfig
from sanawm_gym.agents.learned import Actor, ActorConfig
from sanawm_gym.agents.policy import Action, Infos, Observation
from sanawm_gym.vehicle import VehicleConfig

_SPEED_SCALE = 20.0
AT_REST = 0.3
"""Speed below which a car counts as standing [m/s]."""
PATIENCE = 12
"""Decisions (3 s) that the driver waits at rest."""
ROLLING_PEDAL = 0.3
"""Throttle with which it rolls on."""
ROLLING_SPEED = 4.0
"""Speed until which it does [m/s]."""


@dataclass(frozen=True, kw_only=True)
class ClonedDriverConfig:
    """Size of a :class:`ClonedDriver`."""

    height: int = 72
    """Height of the pictures [px]."""
    width: int = 128
    """Width of the pictures [px]."""
    channels: tuple[int, ...] = (16, 32, 48, 64)
    """Output channels of the strided convolutions; each halves the picture."""
    hidden: int = 96
    """Width of the layer that joins picture and speed."""


class ClonedDriver(nn.Module):
    """Strided convolutions over the picture, then a perceptron that also reads the speed.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ClonedDriverConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5 if a == 3 else 3, stride=2, padding=2 if a == 3 else 1)
            for a, b in itertools.pairwise(widths)
        )
        h, w = config.height, config.width
        for _ in config.channels:
            h, w = (h + 1) // 2, (w + 1) // 2
        self.join = nn.Linear(config.channels[-1] * h * w + 1, config.hidden)
        self.head = nn.Linear(config.hidden, 2)

    def forward(
        self, camera: UInt8[Tensor, "b h w 3"], speed: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 2"]:
        """Controls in [-1, 1].

        Args:
            camera: RGB bytes.
            speed: [m/s].
        """
        x = camera.permute(0, 3, 1, 2).float() / 127.5 - 1
        # Light and contrast vary with weather and with the autoencoder; the road's shape does not.
        x = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / (x.std(dim=(1, 2, 3), keepdim=True) + 0.05)
        for convolution in self.convolutions:
            x = F.silu(convolution(x))
        joined = torch.cat([x.flatten(1), speed[:, None] / _SPEED_SCALE], dim=1)
        return torch.tanh(self.head(F.silu(self.join(joined))))


def load_driver(path: Path | None) -> ClonedDriver:
    """A driver with the weights of a file, or with fresh ones.

    Raises:
        ValueError: If the file cannot be read or does not fit the network.
    """
    driver = ClonedDriver(ClonedDriverConfig())
    if path is None:
        return driver
    try:
        driver.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold a cloned driver: {error}") from error
    return driver


def actor_of(driver: ClonedDriver) -> Actor:
    """The same driver in the form that `train-agent` writes and goes on from.

    It sees all of the ego vector, of which it uses the speed; the weights of the rest are zero and
    may be learnt. The rule of :class:`ClonedPolicy` for cars at rest is not part of it.

    Args:
        driver: Network with its weights.
    """
    config, vehicle = driver.config, VehicleConfig()
    # Of speed, what the driver divides by; the largest wheel angle, acceleration and yaw rate.
    scale = [
        _SPEED_SCALE,
        vehicle.max_steer,
        max(vehicle.max_accel, vehicle.max_brake),
        vehicle.max_yaw_rate,
    ]
    actor = Actor(
        ActorConfig(
            algorithm="bc",
            features=FeaturesConfig(
                channels=config.channels, features=config.hidden, is_normed=False
            ),
            entries={
                "camera": Entry(kind="picture", shape=(config.height, config.width, 3)),
                "ego": Entry(kind="numbers", shape=(len(scale),)),
            },
            hidden=(),
            action_shape=(2,),
            is_squashed=True,
        )
    )
    weights = driver.join.weight.detach()
    join = torch.cat([weights, weights.new_zeros(len(weights), len(scale) - 1)], dim=1)
    tower = actor.features.towers["camera"]
    assert isinstance(tower, nn.Sequential)
    convolutions = [layer for layer in tower if isinstance(layer, nn.Conv2d)]
    for own, learnt in zip(convolutions, driver.convolutions, strict=True):
        own.load_state_dict(learnt.state_dict())
    actor.features.get_buffer("scale_ego").copy_(torch.tensor(scale))
    actor.features.join.load_state_dict({"weight": join, "bias": driver.join.bias.detach()})
    actor.head.load_state_dict(driver.head.state_dict())
    return actor.eval()


class ClonedPolicy:
    """A trained :class:`ClonedDriver` behind the :class:`~sanawm_gym.agents.policy.Policy` face.

    A driver without memory that brakes to a halt for something that is not there would look at it
    for ever. So after `PATIENCE` decisions at rest it rolls on until it has `ROLLING_SPEED`.

    Args:
        driver: Network with its weights.
    """

    def __init__(self, driver: ClonedDriver) -> None:
        self._driver = driver.eval()
        self._rests = np.zeros(0, dtype=np.int64)

    @classmethod
    def from_file(cls, path: Path) -> ClonedPolicy:
        """Load weights written by :func:`sanawm_gym.agents.cloning.clone`.

        Raises:
            ValueError: If the file cannot be read or does not fit the network.
        """
        return cls(load_driver(path))

    def reset(self, seeds: Sequence[int]) -> None:
        """Forget how long every car has been at rest."""
        self._rests = np.zeros(len(seeds), dtype=np.int64)

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Steer by the current pictures."""
        camera = torch.from_numpy(np.ascontiguousarray(observation["camera"]))
        speed = torch.from_numpy(np.asarray(observation["ego"])[:, 0].astype(np.float32))
        with torch.no_grad():
            actions: Action = self._driver(camera, speed).numpy()
        if len(self._rests) != len(actions):
            self._rests = np.zeros(len(actions), dtype=np.int64)
        at_rest = speed.numpy() < AT_REST
        rolling = (self._rests >= PATIENCE) & (speed.numpy() < ROLLING_SPEED)
        self._rests = np.where(at_rest, self._rests + 1, np.where(rolling, self._rests, 0))
        pedal = np.where(rolling, np.maximum(actions[:, 1], ROLLING_PEDAL), actions[:, 1])
        return np.stack([actions[:, 0], pedal], axis=1).astype(np.float32)
