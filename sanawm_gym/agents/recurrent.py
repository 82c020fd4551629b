"""Recurrent PPO: ``sanawm-gym train-agent recurrent-ppo --out runs/recurrent``.

One picture does not tell how fast the car in front comes nearer; a driver that remembers the last
ones can. The algorithm is sb3-contrib's, an extra: ``pip install "sanawm-gym[contrib]"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.features import Entry
from sanawm_gym.agents.learned import Actor
from sanawm_gym.agents.ppo import PPOConfig, check_actions, join_actor, ppo_arguments
from sanawm_gym.agents.training import resolved, train


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOConfig(PPOConfig):
    """Train a driver that remembers, by PPO with a recurrent layer (extra `contrib`).

    A hyperparameter that is left out has the value of `hyperparameters.py`.
    """

    memory: int = 64
    """Width of the recurrent layers, one of the actor and one of the critic, >= 1."""

    def __post_init__(self) -> None:
        """Check the width."""
        super().__post_init__()
        if self.memory < 1:
            raise ValueError(f"memory: got {self.memory}, expected 1 or more; try 64")


def train_recurrent_ppo(config: RecurrentPPOConfig) -> dict[str, Any]:
    """Train; see :func:`sanawm_gym.agents.training.train`."""
    config = resolved(config, RecurrentPPOLearner.name)
    return train(config, RecurrentPPOLearner(config))


class RecurrentPPOLearner:
    """Recurrent PPO as `training.Learner`.

    Args:
        config: With every hyperparameter resolved.

    Raises:
        ModuleNotFoundError: If sb3-contrib is not installed.
    """

    name = "recurrent-ppo"

    def __init__(self, config: RecurrentPPOConfig) -> None:
        from sb3_contrib import RecurrentPPO

        self._config, self._class = config, RecurrentPPO

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model."""
        check_actions(envs.action_space)
        arguments = ppo_arguments(self._config)
        arguments["policy_kwargs"]["lstm_hidden_size"] = self._config.memory
        seen = envs.observation_space
        policy = "MultiInputLstmPolicy" if isinstance(seen, spaces.Dict) else "CnnLstmPolicy"
        return self._class(policy, envs, **arguments)

    def load(self, file: Path, envs: VecEnv) -> BaseAlgorithm:
        """The model of a checkpoint."""
        return self._class.load(file, envs, device=self._config.device)

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
            memory=parts.lstm_actor,
        )
