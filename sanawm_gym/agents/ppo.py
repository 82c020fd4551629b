"""PPO: ``sanawm-gym train-agent ppo --out runs/ppo``, from nothing or from a driver (`--init`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.features import entries_of
from sanawm_gym.agents.hyperparameters import WARM_PPO
from sanawm_gym.agents.learned import Actor
from sanawm_gym.agents.learner import ActorParts, Learner, check_actions, required
from sanawm_gym.agents.loading import load_actor, weights_file
from sanawm_gym.agents.training import AgentConfig, resolved, train
from sanawm_gym.agents.warm_start import WarmPolicy, WarmPPO, check_source


@dataclass(frozen=True, kw_only=True)
class PPOSettings(AgentConfig):
    """What plain and recurrent PPO are told."""

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
    log_std_init: tuple[float, ...] | None = None
    """Logarithm of the deviation with which actions are explored at first: one number, or one for
    every number of an action (steering, pedals)."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PPOSettings):
    """Train a driver by proximal policy optimisation (Schulman et al. 2017).

    A hyperparameter that is left out has the value of `hyperparameters.py`.
    """

    init: str | None = None
    """Driver to begin as: `cloned`, or a file written by `train-agent`. Its actor has the sizes of
    that driver then, and `hidden` is the critic's. None begins with weights drawn at random."""
    critic_only_rollouts: int | None = None
    """Rollouts at the beginning in which the critic alone learns, >= 0; only with `init`."""
    critic_learning_rate: float | None = None
    """Step size of the critic, > 0; falls like `learning_rate`; only with `init`."""

    def __post_init__(self) -> None:
        """Check what belongs to a driver that is given."""
        super().__post_init__()
        needless = {"critic_only_rollouts", "critic_learning_rate"} if self.init is None else set()
        given = sorted(name for name in needless if getattr(self, name) is not None)
        if given:
            raise ValueError(
                f"{', '.join(given)}: got a value without init, expected one only together with a "
                "driver to begin as; give for example init=cloned, or leave it out"
            )
        rollouts, rate = self.critic_only_rollouts, self.critic_learning_rate
        if (rollouts is not None and rollouts < 0) or (rate is not None and not rate > 0):
            raise ValueError(
                f"init: got critic_only_rollouts={rollouts} and critic_learning_rate={rate}, "
                "expected at least 0 and above 0"
            )

    def inputs(self) -> dict[str, str]:
        """Hash of everything that the training reads."""
        if self.init is None:
            return super().inputs()
        # By its bytes: drivers of equal sizes have files of equal sizes.
        source = hashlib.sha256(weights_file(self.init).read_bytes()).hexdigest()
        return super().inputs() | {"init": source}


def train_ppo(config: PPOConfig) -> dict[str, Any]:
    """Train; see :func:`sanawm_gym.agents.training.train`."""
    if config.init is None:
        config = resolved(config, PPOLearner.name)
        return train(config, PPOLearner(config))
    config = resolved(config, WARM_PPO)
    return train(config, WarmPPOLearner(config))


class PPOLearner(Learner):
    """PPO from nothing.

    Args:
        config: With every hyperparameter resolved.
    """

    name = "ppo"
    config: PPOSettings

    def __init__(self, config: PPOSettings) -> None:
        super().__init__(config)

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3's class."""
        return PPO

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A fresh model."""
        check_actions(envs.action_space)
        return self.algorithm(self.policy_class(envs), envs, **self.arguments(envs))

    def policy_class(self, envs: VecEnv) -> Any:
        """SB3's policy for the observations."""
        is_dict = isinstance(envs.observation_space, spaces.Dict)
        return "MultiInputPolicy" if is_dict else "CnnPolicy"

    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""
        return ActorParts(
            features=policy.features_extractor.network,
            trunk=policy.mlp_extractor.policy_net,
            head=policy.action_net,
            is_squashed=False,
            sizes=self.config.features,
            hidden=self.config.hidden,
        )

    def arguments(self, envs: VecEnv) -> dict[str, Any]:
        """What SB3's constructors of PPO in all its forms are given."""
        config = self.config
        names = (
            *("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range"),
            *("ent_coef", "vf_coef", "max_grad_norm"),
        )
        return {
            **{name: required(getattr(config, name)) for name in names},
            "learning_rate": Falling(required(config.learning_rate)),
            "policy_kwargs": {
                **self.policy_arguments(),
                "log_std_init": _exploration(required(config.log_std_init), envs.action_space),
            },
            "seed": config.seed,
            "device": config.device,
        }


class WarmPPOLearner(PPOLearner):
    """PPO that begins as a driver.

    Args:
        config: With every hyperparameter resolved, and `init`.

    Raises:
        ValueError: If the driver is unknown or its file holds none.
    """

    config: PPOConfig

    def __init__(self, config: PPOConfig) -> None:
        super().__init__(config)
        self._source: Actor = load_actor(required(config.init))

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3's class, with a held actor."""
        return WarmPPO

    def policy_class(self, envs: VecEnv) -> Any:
        """The policy of that driver's form."""
        return WarmPolicy

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A model that acts as the driver does."""
        config, entries = self.config, entries_of(envs.observation_space)
        check_source(self._source, required(config.init), entries, envs.action_space)
        model = super().build(envs)
        assert isinstance(model, WarmPPO) and isinstance(model.policy, WarmPolicy)
        model.policy.begin_as(self._source)
        rollout = required(config.n_steps) * envs.num_envs
        model.critic_only_steps = required(config.critic_only_rollouts) * rollout
        model.critic_share = required(config.critic_learning_rate) / required(config.learning_rate)
        return model

    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""
        config = self._source.config
        return ActorParts(
            features=policy.features_extractor.network,
            trunk=policy.mlp_extractor.policy_net,
            head=policy.head,
            is_squashed=config.is_squashed,
            sizes=config.features,
            hidden=config.hidden,
        )

    def policy_arguments(self) -> dict[str, Any]:
        """Sizes of that driver, and of the critic beside it."""
        config = self._source.config
        return {
            **super().policy_arguments(),
            "features_extractor_kwargs": {"config": config.features},
            "net_arch": {"pi": list(config.hidden), "vf": list(self.config.hidden)},
            "source": config,
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


def _exploration(log_std: tuple[float, ...], space: spaces.Space[Any]) -> float | torch.Tensor:
    """Deviations of the first actions as SB3 takes them.

    Raises:
        ValueError: If there is neither one nor one for every number of an action.
    """
    numbers = spaces.flatdim(space)
    if len(log_std) not in (1, numbers):
        raise ValueError(
            f"log_std_init: got {len(log_std)} numbers, expected 1 or {numbers}, one for every "
            "number of an action"
        )
    return log_std[0] if len(log_std) == 1 else torch.tensor(log_std)
