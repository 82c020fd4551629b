"""An algorithm of SB3 as a training wants it: a model to learn with, an actor to drive with.

What differs from one algorithm to the next is how its model is made and where in SB3's policy the
parts of the actor stand; the rest is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sanawm_gym.agents.extractor import SB3Features
from sanawm_gym.agents.features import Entry, FeaturesConfig
from sanawm_gym.agents.learned import Actor, ActorConfig

if TYPE_CHECKING:
    from sanawm_gym.agents.training import AgentConfig

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, kw_only=True)
class ActorParts:
    """Where the parts of the actor stand in an SB3 policy, and their sizes."""

    features: nn.Module
    """The :class:`~sanawm_gym.agents.features.DriveFeatures`."""
    trunk: nn.Module
    """The layers after the features."""
    head: nn.Module
    """The last layer."""
    is_squashed: bool
    """Whether tanh bounds what the head says."""
    marks: int = 0
    """On the scale of every number, of the gauges."""
    gauges: nn.Module | None = None
    """What acts past all other layers, if there is something."""
    memory: nn.LSTM | None = None
    """The recurrent layer between features and trunk, if there is one."""
    sizes: FeaturesConfig
    """Of the features."""
    hidden: tuple[int, ...]
    """Widths of the trunk."""


class Learner(ABC):
    """An algorithm: how SB3's model is made, read back, and reduced to what drives.

    Args:
        config: With every hyperparameter resolved.
    """

    name: ClassVar[str]
    """Its name for `train-agent`."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3's class."""

    def wrapped(self, envs: VecEnv) -> VecEnv:
        """The environments as the model is to see them.

        Raises:
            ValueError: If they lack what it needs.
        """
        return envs

    @abstractmethod
    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model.

        Raises:
            ValueError: If it cannot learn from such observations or with such actions.
        """

    @abstractmethod
    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""

    def load(self, file: Path, envs: VecEnv) -> BaseAlgorithm:
        """The model of a checkpoint."""
        return self.algorithm.load(file, envs, device=self.config.device)

    def actor(self, model: BaseAlgorithm, entries: Mapping[str, Entry]) -> Actor:
        """What drives: the middle of the actions, without critics and exploration.

        Args:
            model: In the middle of its training or after it.
            entries: Parts of the observation as the environment gives it.
        """
        space, parts = model.action_space, self.parts(model.policy)
        assert isinstance(space, spaces.Box), "check_actions was not called"
        memory = parts.memory
        actor = Actor(
            ActorConfig(
                algorithm=self.name,
                features=parts.sizes,
                entries=entries,
                hidden=parts.hidden,
                action_shape=tuple(space.shape),
                is_squashed=parts.is_squashed,
                memory=0 if memory is None else memory.hidden_size,
                gauges=parts.marks,
            )
        )
        if actor.memory is not None and memory is not None:
            actor.memory.load_state_dict(memory.state_dict())
        if actor.gauges is not None and parts.gauges is not None:
            actor.gauges.load_state_dict(parts.gauges.state_dict())
        for own, learnt in (
            (actor.features, parts.features),
            (actor.trunk, parts.trunk),
            (actor.head, parts.head),
        ):
            own.load_state_dict(learnt.state_dict())
        actor.low.copy_(torch.from_numpy(np.asarray(space.low, np.float32).ravel()))
        actor.high.copy_(torch.from_numpy(np.asarray(space.high, np.float32).ravel()))
        return actor.eval()

    def policy_arguments(self) -> dict[str, Any]:
        """What the networks of all algorithms have in common, for SB3's policies."""
        return {
            "features_extractor_class": SB3Features,
            "features_extractor_kwargs": {"config": self.config.features},
            "net_arch": list(self.config.hidden),
            "activation_fn": nn.SiLU,
            # The features even pictures out themselves.
            "normalize_images": False,
        }


def required(value: ValueT | None) -> ValueT:
    """A resolved hyperparameter."""
    assert value is not None, "the config was not resolved"
    return value


def check_actions(space: spaces.Space[Any]) -> None:
    """Refuse actions that are no numbers within bounds.

    Raises:
        ValueError: If they are not.
    """
    if not (isinstance(space, spaces.Box) and space.is_bounded()):
        raise ValueError(
            f"task: got the actions {space}, expected a Box with bounds; choose continuous actions "
            "in task.settings"
        )
