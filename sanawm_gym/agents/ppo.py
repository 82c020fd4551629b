"""PPO: ``sanawm-gym train-agent ppo --out runs/ppo``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sanawm_gym.agents.extractor import SB3Features
from sanawm_gym.agents.features import Entry
from sanawm_gym.agents.learned import Actor, ActorConfig
from sanawm_gym.agents.training import AgentConfig, resolved, train


@dataclass(frozen=True, kw_only=True)
class PPOConfig(AgentConfig):
    """Train a driver by proximal policy optimisation (Schulman et al. 2017).

    A hyperparameter that is left out has the value of `hyperparameters.py`.
    """

    n_steps: int | None = None
    """Decisions of each car in a rollout, >= 2."""
    batch_size: int | None = None
    """Decisions in a minibatch, >= 2; best a divisor of `n_steps` x `task.num_envs`."""
    n_epochs: int | None = None
    """Passes over a rollout, >= 1."""
    learning_rate: float | None = None
    """Step size of Adam, > 0; falls evenly to a tenth of it over the training."""
    gamma: float | None = None
    """Discount a decision, 0 to 1."""
    gae_lambda: float | None = None
    """Trade of bias against variance in the advantages, 0 to 1."""
    clip_range: float | None = None
    """How far a probability may move from that of the rollout, as a share, > 0."""
    ent_coef: float | None = None
    """Weight of the entropy in the loss, >= 0."""
    vf_coef: float | None = None
    """Weight of the critic in the loss, >= 0."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient, > 0."""
    log_std_init: float | None = None
    """Logarithm of the deviation with which actions are explored at first."""


def train_ppo(config: PPOConfig) -> dict[str, Any]:
    """Train; see :func:`sanawm_gym.agents.training.train`."""
    config = resolved(config, PPOLearner.name)
    return train(config, PPOLearner(config))


class PPOLearner:
    """PPO as `training.Learner`.

    Args:
        config: With every hyperparameter resolved.
    """

    name = "ppo"

    def __init__(self, config: PPOConfig) -> None:
        self._config = config

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model."""
        check_actions(envs.action_space)
        return PPO(policy_name(envs.observation_space), envs, **ppo_arguments(self._config))

    def load(self, file: Path, envs: VecEnv) -> BaseAlgorithm:
        """The model of a checkpoint."""
        return PPO.load(file, envs, device=self._config.device)

    def actor(self, model: BaseAlgorithm, entries: Mapping[str, Entry]) -> Actor:
        """What drives: the mean of the actions, without critic and exploration."""
        parts: Any = model.policy
        return join_actor(
            self._config,
            self.name,
            model.action_space,
            entries,
            features=parts.features_extractor.network,
            trunk=parts.mlp_extractor.policy_net,
            head=parts.action_net,
            is_squashed=False,
        )


def ppo_arguments(config: PPOConfig) -> dict[str, Any]:
    """What SB3's constructors of PPO and of its recurrent form are given."""
    return {
        "learning_rate": Falling(required(config.learning_rate)),
        "n_steps": required(config.n_steps),
        "batch_size": required(config.batch_size),
        "n_epochs": required(config.n_epochs),
        "gamma": required(config.gamma),
        "gae_lambda": required(config.gae_lambda),
        "clip_range": required(config.clip_range),
        "ent_coef": required(config.ent_coef),
        "vf_coef": required(config.vf_coef),
        "max_grad_norm": required(config.max_grad_norm),
        "policy_kwargs": {
            **policy_arguments(config),
            "log_std_init": required(config.log_std_init),
        },
        "seed": config.seed,
        "device": config.device,
    }


@dataclass(frozen=True)
class Falling:
    """A step size that falls evenly to a tenth.

    Not to zero: SB3 asks for it after a rollout, and the last one would teach nothing.
    """

    first: float
    """At the beginning."""

    def __call__(self, remaining: float) -> float:
        """Step size where a share of the training, 1 to 0, remains."""
        return self.first * (0.1 + 0.9 * remaining)


ValueT = TypeVar("ValueT")


def required(value: ValueT | None) -> ValueT:
    """A resolved hyperparameter."""
    assert value is not None, "the config was not resolved"
    return value


def policy_name(space: spaces.Space[Any]) -> str:
    """SB3's name for the policy that takes a kind of observation."""
    return "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy"


def policy_arguments(config: AgentConfig) -> dict[str, Any]:
    """What all algorithms' networks have in common."""
    return {
        "features_extractor_class": SB3Features,
        "features_extractor_kwargs": {"config": config.features},
        "net_arch": list(config.hidden),
        "activation_fn": nn.SiLU,
        # The features even pictures out themselves.
        "normalize_images": False,
    }


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


def join_actor(
    config: AgentConfig,
    algorithm: str,
    space: spaces.Space[Any],
    entries: Mapping[str, Entry],
    *,
    features: nn.Module,
    trunk: nn.Module,
    head: nn.Module,
    is_squashed: bool,
    memory: nn.LSTM | None = None,
) -> Actor:
    """An actor with the weights of an SB3 policy.

    Args:
        config: Sizes.
        algorithm: What trained it.
        space: Of the actions.
        entries: Parts of the observation as the environment gives it.
        features: The policy's :class:`~sanawm_gym.agents.features.DriveFeatures`.
        trunk: Its layers after the features.
        head: Its last layer.
        is_squashed: Whether tanh bounds what the head says.
        memory: Its recurrent layer between features and trunk, if it has one.
    """
    assert isinstance(space, spaces.Box)
    actor = Actor(
        ActorConfig(
            algorithm=algorithm,
            features=config.features,
            entries=entries,
            hidden=config.hidden,
            action_shape=tuple(space.shape),
            is_squashed=is_squashed,
            memory=0 if memory is None else memory.hidden_size,
        )
    )
    if actor.memory is not None and memory is not None:
        actor.memory.load_state_dict(memory.state_dict())
    actor.features.load_state_dict(features.state_dict())
    actor.trunk.load_state_dict(trunk.state_dict())
    actor.head.load_state_dict(head.state_dict())
    actor.low.copy_(torch.from_numpy(np.asarray(space.low, np.float32).ravel()))
    actor.high.copy_(torch.from_numpy(np.asarray(space.high, np.float32).ravel()))
    return actor.eval()
