"""PPO: ``sanawm-gym train-agent ppo --out runs/ppo``, from nothing or from a driver (`--init`)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sanawm_gym.agents.features import entries_of
from sanawm_gym.agents.hyperparameters import WARM_PPO
from sanawm_gym.agents.learned import Actor, with_gauges
from sanawm_gym.agents.learner import ActorParts, Learner, check_actions, required
from sanawm_gym.agents.loading import load_actor, weights_file
from sanawm_gym.agents.road_view import ROAD, RoadVecEnv
from sanawm_gym.agents.training import AgentConfig, resolved, train
from sanawm_gym.agents.warm_policy import Learning, WarmPolicy
from sanawm_gym.agents.warm_start import WarmPPO, check_source

_OF_INIT = (
    "learn",
    "gauges",
    "noise_decisions",
    "critic_only_rollouts",
    "critic_epochs",
    "critic_learning_rate",
)  # settings that belong to a driver to begin as


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
    learn: Learning | None = None
    """How much of that driver learns: `head`, its last layer and the gauges; `join`, all layers
    after the convolutions; or `all`. Only with `init`, as all that follows."""
    gauges: int | None = None
    """Marks on the scale of every observed number (speed above all) by which the last layer tells
    too much from too little, 2 or more; 0 adds none. A driver that has gauges keeps its own."""
    noise_decisions: tuple[float, ...] | None = None
    """How long exploration lasts [decisions], each >= 0: the time in which its correlation falls to
    1/e; one number, or one for every number of an action. 0 draws it anew at every decision."""
    critic_road: bool = True
    """Whether the critic, which does not drive later, reads where the car is on the road: off
    `info["truth"]` of the reference world, or off `info["perceived"]` of a world with heads."""
    critic_only_rollouts: int | None = None
    """Rollouts at the beginning in which the critic alone learns, >= 0."""
    critic_epochs: int | None = None
    """Passes of the critic over a rollout, >= 1; the actor makes `n_epochs`."""
    critic_learning_rate: float | None = None
    """Step size of the critic, > 0; falls like `learning_rate`. `vf_coef` is without effect."""

    def __post_init__(self) -> None:
        """Check what belongs to a driver that is given."""
        super().__post_init__()
        given = [name for name in _OF_INIT if getattr(self, name) is not None]
        if given and self.init is None:
            raise ValueError(
                f"{', '.join(given)}: got a value without init, expected one only together with a "
                "driver to begin as; give for example init=cloned, or leave it out"
            )
        least = {"critic_only_rollouts": 0, "critic_epochs": 1, "gauges": 0}
        counts = {name: getattr(self, name) for name in least}
        wrong = {k: n for k, n in counts.items() if n is not None and n < least[k]}
        rate, times = self.critic_learning_rate, self.noise_decisions
        if self.gauges == 1:
            wrong["gauges"] = 1
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            wrong["critic_learning_rate"] = rate
        if times is not None and not all(math.isfinite(time) and time >= 0 for time in times):
            wrong["noise_decisions"] = times
        if wrong:
            raise ValueError(
                f"init: got {wrong}, expected critic_only_rollouts >= 0, critic_epochs >= 1, 0 or "
                "at least 2 gauges, critic_learning_rate above 0 and noise_decisions of 0 or more; "
                "leave out what is not to differ from hyperparameters.py"
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
                "log_std_init": torch.tensor(
                    _each("log_std_init", required(config.log_std_init), envs.action_space)
                ),
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
        given = load_actor(required(config.init))
        self._source: Actor = with_gauges(given, required(config.gauges))

    @property
    def algorithm(self) -> type[BaseAlgorithm]:
        """SB3's class, with a critic that learns apart."""
        return WarmPPO

    def wrapped(self, envs: VecEnv) -> VecEnv:
        """The environments with the road beside what is observed, if the critic reads it.

        Raises:
            ValueError: If the environments do not tell of the road.
        """
        if not self.config.critic_road:
            return envs
        view = RoadVecEnv(envs)
        # Whether they tell of it shows at their first reset: best before anything is written.
        view.reset()
        return view

    def policy_class(self, envs: VecEnv) -> Any:
        """The policy of that driver's form."""
        return WarmPolicy

    def build(self, envs: VecEnv) -> BaseAlgorithm:
        """A model that acts as the driver does."""
        config, entries = self.config, entries_of(envs.observation_space)
        if config.critic_road:
            entries.pop(ROAD)
        check_source(self._source, required(config.init), entries, envs.action_space)
        model = super().build(envs)
        assert isinstance(model, WarmPPO) and isinstance(model.policy, WarmPolicy)
        model.policy.begin_as(self._source)
        rollout = required(config.n_steps) * envs.num_envs
        model.critic_only_steps = required(config.critic_only_rollouts) * rollout
        model.critic_epochs = required(config.critic_epochs)
        model.critic_share = required(config.critic_learning_rate) / required(config.learning_rate)
        return model

    def parts(self, policy: Any) -> ActorParts:
        """The actor in a policy of a model that was made here."""
        config = self._source.config
        return ActorParts(
            features=policy.features,
            trunk=policy.trunk,
            head=policy.last.head,
            marks=config.gauges,
            gauges=policy.last.gauges,
            is_squashed=config.is_squashed,
            sizes=config.features,
            hidden=config.hidden,
        )

    def policy_arguments(self) -> dict[str, Any]:
        """Sizes of that driver, and of the critic beside it."""
        config = self._source.config
        return {
            **super().policy_arguments(),
            "features_extractor_kwargs": {
                "config": config.features,
                "names": tuple(config.entries),
                "with_numbers": config.gauges > 0,
            },
            "net_arch": {"pi": list(config.hidden), "vf": list(self.config.hidden)},
            "source": config,
            "learn": required(self.config.learn),
        }

    def arguments(self, envs: VecEnv) -> dict[str, Any]:
        """What the constructor is given."""
        found = super().arguments(envs)
        times = _each("noise_decisions", required(self.config.noise_decisions), envs.action_space)
        found["policy_kwargs"] |= {"noise_decisions": times}
        return found


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


def _each(name: str, given: tuple[float, ...], space: spaces.Space[Any]) -> tuple[float, ...]:
    """One number for every number of an action.

    Raises:
        ValueError: If there is neither one nor one for every number.
    """
    numbers = spaces.flatdim(space)
    if len(given) not in (1, numbers):
        raise ValueError(
            f"{name}: got {len(given)} numbers, expected 1 or {numbers}, one for every number of "
            "an action"
        )
    return given * numbers if len(given) == 1 else given
