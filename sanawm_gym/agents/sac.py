"""SAC: ``sanawm-gym train-agent sac --out runs/sac``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.learner import ActorParts, Learner, check_actions, required
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


class SACLearner(Learner):
    """SAC.

    Args:
        config: With every hyperparameter resolved.
    """

    name = "sac"
    config: SACConfig

    def __init__(self, config: SACConfig) -> None:
        super().__init__(config)

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3's class."""
        return SAC

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model.

        Raises:
            ValueError: If observations are no dictionaries or actions no bounded numbers.
        """
        config = self.config
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
            policy_kwargs=self.policy_arguments(),
            seed=config.seed,
            device=config.device,
        )

    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""
        return ActorParts(
            features=policy.actor.features_extractor.network,
            trunk=policy.actor.latent_pi,
            head=policy.actor.mu,
            is_squashed=True,
            sizes=self.config.features,
            hidden=self.config.hidden,
        )
