"""Recurrent PPO: ``sanawm-gym train-agent recurrent-ppo --out runs/recurrent``.

One picture does not tell how fast the car in front comes nearer; a driver that remembers the last
ones can. The algorithm is sb3-contrib's, an extra: ``pip install "sanawm-gym[contrib]"``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.learner import ActorParts
from sanawm_gym.agents.ppo import PPOLearner, PPOSettings
from sanawm_gym.agents.training import resolved, train


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOConfig(PPOSettings):
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


class RecurrentPPOLearner(PPOLearner):
    """Recurrent PPO.

    Args:
        config: With every hyperparameter resolved.

    Raises:
        ModuleNotFoundError: If sb3-contrib is not installed.
    """

    name = "recurrent-ppo"

    def __init__(self, config: RecurrentPPOConfig) -> None:
        from sb3_contrib import RecurrentPPO

        super().__init__(config)
        self._memory, self._class = config.memory, RecurrentPPO

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3-contrib's class."""
        return self._class

    def policy_class(self, envs: VecEnv) -> Any:
        """SB3-contrib's policy for the observations."""
        is_dict = isinstance(envs.observation_space, spaces.Dict)
        return "MultiInputLstmPolicy" if is_dict else "CnnLstmPolicy"

    def policy_arguments(self) -> dict[str, Any]:
        """Sizes of the networks."""
        return {**super().policy_arguments(), "lstm_hidden_size": self._memory}

    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""
        return dataclasses.replace(super().parts(policy), memory=policy.lstm_actor)
