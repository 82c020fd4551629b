"""SAC: ``sanawm-gym train-agent sac --out runs/sac``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.features import Entry
from sanawm_gym.agents.learned import Actor
from sanawm_gym.agents.ppo import check_actions, join_actor, policy_arguments, required
from sanawm_gym.agents.replay import ImageReplay
from sanawm_gym.agents.training import AgentConfig, resolved, train


@dataclass(frozen=True, kw_only=True)
class SACConfig(AgentConfig):
    """Train a driver by soft actor-critic (Haarnoja et al. 2018), from a memory of what was seen.

    A hyperparameter that is left out has the value of `hyperparameters.py`.
    """

    memory_gb: float = 1.0
    """Memory for the experience [GB], > 0; 1 holds about 36,000 decisions of the bundled world. It
    is written into every checkpoint."""
    learning_rate: float | None = None
    """Step size of Adam, > 0."""
    batch_size: int | None = None
    """Decisions in a minibatch, >= 2."""
    gamma: float | None = None
    """Discount a decision, 0 to 1."""
    tau: float | None = None
    """Share by which the slow critics follow, above 0 to 1."""
    train_freq: int | None = None
    """Decisions of each car between two updates, >= 1."""
    gradient_steps: int | None = None
    """Minibatches an update, >= 1; several a decision of all cars make better use of it."""
    learning_starts: int | None = None
    """Decisions of all cars, drawn at random, before learning begins, >= 0."""

    def __post_init__(self) -> None:
        """Check the memory."""
        super().__post_init__()
        if not (math.isfinite(self.memory_gb) and self.memory_gb > 0):
            raise ValueError(f"memory_gb: got {self.memory_gb}, expected above 0; try 1")


def train_sac(config: SACConfig) -> dict[str, Any]:
    """Train; see :func:`sanawm_gym.agents.training.train`."""
    config = resolved(config, SACLearner.name)
    return train(config, SACLearner(config))


class SACLearner:
    """SAC as `training.Learner`.

    Args:
        config: With every hyperparameter resolved.
    """

    name = "sac"

    def __init__(self, config: SACConfig) -> None:
        self._config = config

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model.

        Raises:
            ValueError: If observations are no dictionaries or actions no bounded numbers.
        """
        config = self._config
        check_actions(envs.action_space)
        if not isinstance(envs.observation_space, spaces.Dict):
            raise ValueError(
                f"task: got the observation {envs.observation_space}, expected a dictionary; take "
                "observation=dict or observation=latent in task.settings"
            )
        return SAC(
            "MultiInputPolicy",
            envs,
            learning_rate=required(config.learning_rate),
            batch_size=required(config.batch_size),
            gamma=required(config.gamma),
            tau=required(config.tau),
            train_freq=required(config.train_freq),
            gradient_steps=required(config.gradient_steps),
            learning_starts=required(config.learning_starts),
            replay_buffer_class=ImageReplay,
            replay_buffer_kwargs={"memory_gb": config.memory_gb},
            policy_kwargs=policy_arguments(config),
            seed=config.seed,
            device=config.device,
        )

    def load(self, file: Path, envs: VecEnv) -> BaseAlgorithm:
        """The model of a checkpoint."""
        return SAC.load(file, envs, device=self._config.device)

    def actor(self, model: BaseAlgorithm, entries: Mapping[str, Entry]) -> Actor:
        """What drives: the middle of the actions, without critics and exploration."""
        parts: Any = model.policy
        return join_actor(
            self._config,
            self.name,
            model.action_space,
            entries,
            features=parts.actor.features_extractor.network,
            trunk=parts.actor.latent_pi,
            head=parts.actor.mu,
            is_squashed=True,
        )
