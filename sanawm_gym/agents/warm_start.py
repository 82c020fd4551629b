"""PPO that begins as a driver that is there already, and learns on from it.

From nothing, PPO spends its first hundred thousand decisions on staying in the picture. Begun with
an imitated driver it spends them on driving better; that is the usual order of the two.

Two things would spoil such a beginning, and are kept from doing so. A critic that knows nothing yet
gives advice at random: so the actor is held for the first rollouts, in which the critic alone
learns. And features that both learn serve neither: what the critic needs would be pulled into those
that the actor steers by, and a critic whose inputs the actor changes has to begin anew after every
rollout. So the critic reads a few numbers that nobody changes: those that are observed, speed above
all, and what the driver that it began as would do. A rollout of eight drives teaches no more.

Axes: b cars, a action numbers, f features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from sanawm_gym.agents.extractor import SB3Features
from sanawm_gym.agents.features import ALONE, Entry, entries_of
from sanawm_gym.agents.learned import Actor, ActorConfig

_ACTOR, _CRITIC = 0, 1  # groups of the optimiser


class WarmPolicy(ActorCriticPolicy):
    """An actor of the form of a saved driver, and a critic that reads that driver's opinion.

    Args:
        observation_space: Of the environment as SB3 sees it.
        action_space: A bounded Box.
        lr_schedule: Step size of the actor.
        source: How the driver is built.
        arguments: Of SB3's policy, with `net_arch` a dictionary of `pi` and `vf`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        source: ActorConfig,
        **arguments: Any,
    ) -> None:
        self.source = source
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            share_features_extractor=False,
            **arguments,
        )

    @property
    def head(self) -> nn.Linear:
        """The actor's last layer."""
        return cast(nn.Linear, cast(nn.Sequential, self.action_net)[0])

    def begin_as(self, actor: Actor) -> None:
        """Take over the weights of a driver of this form."""
        own = cast(SB3Features, self.pi_features_extractor)
        own.network.load_state_dict(actor.features.state_dict())
        cast(Opinion, self.vf_features_extractor).actor.load_state_dict(actor.state_dict())
        self.mlp_extractor.policy_net.load_state_dict(actor.trunk.state_dict())
        self.head.load_state_dict(actor.head.state_dict())

    def hold_actor(self, is_held: bool) -> None:
        """Keep the actor, and how much it explores, from learning; or let it learn again."""
        for parameter in self.optimizer.param_groups[_ACTOR]["params"]:
            parameter.requires_grad_(not is_held)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        self.vf_features_extractor = Opinion(self.observation_space, self.source)
        own, critic = (
            MlpExtractor(width, {name: self.net_arch[name]}, self.activation_fn, self.device)
            for name, width in (
                ("pi", self.features_dim),
                ("vf", self.vf_features_extractor.features_dim),
            )
        )
        self.mlp_extractor = own
        own.value_net, own.latent_dim_vf = critic.value_net, critic.latent_dim_vf

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        space = self.action_space
        assert isinstance(space, spaces.Box), "check_actions was not called"
        bound: nn.Module = _Squash(space) if self.source.is_squashed else nn.Identity()
        self.action_net = nn.Sequential(self.action_net, bound)
        self.vf_features_extractor.requires_grad_(False)
        critic = [*self.mlp_extractor.value_net.parameters(), *self.value_net.parameters()]
        fixed = self.vf_features_extractor.parameters()
        known = {id(parameter) for parameter in (*critic, *fixed)}
        actor = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [{}, {}]
        groups[_ACTOR]["params"], groups[_CRITIC]["params"] = actor, critic
        self.optimizer = self.optimizer_class(
            groups,
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )


class Opinion(BaseFeaturesExtractor):
    """What the critic reads: the observed numbers, and what a driver that stays as it is would do.

    Args:
        observation_space: Of the environment as SB3 sees it.
        source: How the driver is built.
    """

    def __init__(self, observation_space: spaces.Space[Any], source: ActorConfig) -> None:
        entries = entries_of(observation_space)
        names = [name for name, entry in entries.items() if entry.kind == "numbers"]
        numbers = sum(entries[name].shape[0] for name in names)
        super().__init__(observation_space, numbers + int(np.prod(source.action_shape)))
        self._names = names
        # As SB3 turns pictures.
        self.actor = Actor(dataclasses.replace(source, entries=entries))

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Float[Tensor, "b f"]:
        """Numbers within about one, and actions."""
        seen = {ALONE: observations} if isinstance(observations, Tensor) else observations
        scales = self.actor.features.get_buffer
        numbers = [seen[name].float() / scales(f"scale_{name}") for name in self._names]
        return torch.cat([*numbers, self.actor(seen)[0]], dim=1)


class WarmPPO(PPO):
    """PPO whose actor is held at first, and whose critic has a step size of its own."""

    critic_only_steps: int = 0
    """Decisions of all cars up to which the actor is held."""
    critic_share: float = 1.0
    """Step size of the critic, as a multiple of the actor's."""

    def train(self) -> None:
        """Learn from a rollout."""
        cast(WarmPolicy, self.policy).hold_actor(self.num_timesteps <= self.critic_only_steps)
        super().train()

    def _update_learning_rate(
        self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer
    ) -> None:
        super()._update_learning_rate(optimizers)
        self.policy.optimizer.param_groups[_CRITIC]["lr"] *= self.critic_share


class _Squash(nn.Module):
    """Numbers to actions within their bounds, by tanh.

    Args:
        space: Of the actions.
    """

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        for name in ("low", "high"):
            bound = np.asarray(getattr(space, name), np.float32).ravel()
            self.register_buffer(name, torch.from_numpy(bound.copy()), persistent=False)

    def forward(self, drawn: Float[Tensor, "b a"]) -> Float[Tensor, "b a"]:
        return self.low + (torch.tanh(drawn) + 1) / 2 * (self.high - self.low)


def check_source(
    actor: Actor, source: str, entries: Mapping[str, Entry], space: spaces.Space[Any]
) -> None:
    """Refuse a driver that does not fit the task.

    Args:
        actor: Of the driver.
        source: What it was called.
        entries: Parts of the observation as the environment gives it.
        space: Of the actions.

    Raises:
        ValueError: If it remembers, or sees or does other things.
    """
    config = actor.config
    if config.memory:
        raise ValueError(
            f"init: got {source}, which remembers ({config.algorithm}), expected a driver without "
            "memory; train one with ppo, sac or bc"
        )
    if dict(config.entries) != dict(entries):
        raise ValueError(
            f"init: got {source}, which sees {_shapes(config.entries)}, expected "
            f"{_shapes(entries)}, what the task shows; take a world of that picture size or "
            "another driver"
        )
    if config.action_shape != tuple(space.shape or ()):
        raise ValueError(
            f"init: got {source}, whose actions have the shape {config.action_shape}, expected "
            f"{space.shape}, those of the task; choose the same kind of action"
        )


def _shapes(entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    return {name: entry.shape for name, entry in entries.items()}
