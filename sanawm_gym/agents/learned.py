"""A driver that was trained by reinforcement: the actor alone, in a file of its own.

SB3's checkpoints are pickles with optimiser, critics and schedules in them. What drives is small:
the features, a few layers and a head. It is kept as safetensors whose metadata say how it is built,
so that reading it runs no foreign code.

Axes: b cars, a action numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sanawm_gym.agents.features import ALONE, DriveFeatures, Entry, FeaturesConfig, num_numbers
from sanawm_gym.agents.gauges import Gauges
from sanawm_gym.agents.policy import Action, Infos, Observation

METADATA_KEY = "sanawm_gym_driver"
"""Key of a safetensors file's metadata under which a :class:`ActorConfig` stands as json."""


State = tuple[Tensor, Tensor]
"""Hidden and cell state of a recurrent layer, (1, b, memory) each."""


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """How an :class:`Actor` is built."""

    algorithm: str
    """What trained it, by its name for `train-agent`."""
    features: FeaturesConfig
    """Sizes of the part that reads observations."""
    entries: Mapping[str, Entry]
    """Parts of the observation."""
    hidden: tuple[int, ...]
    """Widths of the layers between features and head."""
    action_shape: tuple[int, ...]
    """Shape of an action without the batch axis."""
    is_squashed: bool
    """Whether tanh keeps actions within their bounds; otherwise they are clipped to them."""
    memory: int = 0
    """Width of a recurrent layer (LSTM) after the features; 0 has none."""
    gauges: int = 0
    """Marks on the scale of every observed number that act on actions past all other layers
    (:mod:`sanawm_gym.agents.gauges`), 2 or more; 0 has none."""

    def to_json(self) -> str:
        """As text for the file's metadata."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ActorConfig:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: If fields are missing or unknown.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            sizes = fields["features"] | {"channels": tuple(fields["features"]["channels"])}
            entries = {
                name: Entry(kind=entry["kind"], shape=tuple(entry["shape"]))
                for name, entry in fields["entries"].items()
            }
            lists = {key: tuple(fields[key]) for key in ("hidden", "action_shape")}
            return cls(**fields | lists | {"features": FeaturesConfig(**sizes), "entries": entries})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"a description of another version ({error}); train it again"
            ) from error


class Actor(nn.Module):
    """From an observation to the most likely action.

    Args:
        config: How it is built.
    """

    def __init__(self, config: ActorConfig) -> None:
        super().__init__()
        self.config = config
        self.features = DriveFeatures(config.features, config.entries)
        width = config.memory or config.features.features
        self.memory = nn.LSTM(config.features.features, width) if config.memory else None
        widths = (width, *config.hidden)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        num_actions = int(np.prod(config.action_shape))
        self.head = nn.Linear(widths[-1], num_actions)
        numbers = num_numbers(config.entries) if config.gauges else 0
        self.gauges = Gauges(numbers, config.gauges, num_actions) if numbers else None
        # Bounds of every number of an action; steering and pedals end at -1 and 1.
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", -torch.ones(num_actions))
        self.register_buffer("high", torch.ones(num_actions))

    def forward(
        self, observation: Mapping[str, Shaped[Tensor, "b ..."]], state: State | None = None
    ) -> tuple[Float[Tensor, "b a"], State | None]:
        """One decision.

        Args:
            observation: Parts by name.
            state: What a recurrent actor remembers; None at the beginning of a drive.

        Returns:
            Actions within their bounds, flat, and what is remembered now.
        """
        x: Tensor = self.features(observation)
        if self.memory is not None:
            x, state = self.memory(x[None], state)
            x = x[0]
        drawn: Tensor = self.head(self.trunk(x))
        if self.gauges is not None:
            drawn = drawn + self.gauges(self.features.numbers(observation))
        if self.config.is_squashed:
            return self.low + (torch.tanh(drawn) + 1) / 2 * (self.high - self.low), state
        return drawn.clamp(self.low, self.high), state


def with_gauges(actor: Actor, marks: int) -> Actor:
    """The same driver with gauges that it does not heed yet; one that has some keeps its own.

    Args:
        actor: Network with its weights.
        marks: On the scale of every number, 0 or >= 2.
    """
    if actor.config.gauges or not (marks and num_numbers(actor.config.entries)):
        return actor
    wider = Actor(dataclasses.replace(actor.config, gauges=marks))
    wider.load_state_dict(wider.state_dict() | actor.state_dict())
    return wider.eval()


def save_actor(actor: Actor, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write an actor, replaced whole.

    Args:
        actor: Network with its weights.
        path: Safetensors file.
        dtype: Of the stored weights; an actor that is read computes in float32 in any case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    tensors = {name: value.to(dtype).contiguous() for name, value in actor.state_dict().items()}
    save_file(tensors, partial, metadata={METADATA_KEY: actor.config.to_json()})
    os.replace(partial, path)


def read_actor(path: Path) -> Actor:
    """Load what :func:`save_actor` wrote.

    Raises:
        ValueError: If the file cannot be read or its weights do not fit its description.
    """
    try:
        with safe_open(path, framework="pt") as file:
            actor = Actor(ActorConfig.from_json(file.metadata()[METADATA_KEY]))
            actor.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} does not hold a trained driver: {error}") from error
    return actor.eval()


def is_learned(path: Path) -> bool:
    """Whether a file was written by :func:`save_actor`."""
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


class LearnedPolicy:
    """An :class:`Actor` behind the :class:`~sanawm_gym.agents.policy.Policy` face.

    Args:
        actor: Network with its weights.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor.eval()
        self._state: State | None = None

    @classmethod
    def from_file(cls, path: Path) -> LearnedPolicy:
        """Load what :func:`save_actor` wrote.

        Raises:
            ValueError: If the file cannot be read or its weights do not fit its description.
        """
        return cls(read_actor(path))

    def reset(self, seeds: Sequence[int]) -> None:
        """Forget the drives before."""
        self._state = None

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """The most likely action of every row.

        Raises:
            ValueError: If the observation is not of the kind it was trained on.
        """
        given = observation if isinstance(observation, Mapping) else {ALONE: observation}
        parts: dict[str, Tensor] = {}
        for name, entry in self._actor.config.entries.items():
            shape = given[name].shape[1:] if name in given else None
            if shape != entry.shape:
                raise ValueError(
                    f"observation {name!r}: got the shape {shape}, expected {entry.shape}, on "
                    "which this driver was trained; drive it in a world of that picture size and "
                    "with that `observation`"
                )
            parts[name] = torch.from_numpy(np.ascontiguousarray(given[name]))
        num_cars = len(next(iter(parts.values())))
        if self._state is not None and self._state[0].shape[1] != num_cars:
            raise ValueError(
                f"driver: got {num_cars} cars, expected {self._state[0].shape[1]}, whose past it "
                "remembers; call reset with one seed a car first"
            )
        with torch.no_grad():
            drawn, self._state = self._actor(parts, self._state)
        flat = drawn.numpy()
        return np.asarray(flat.reshape(-1, *self._actor.config.action_shape), dtype=np.float32)
