"""The networks of a PPO that begins as a driver: that driver, and a critic apart from it.

Axes: b cars, a action numbers, n observed numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from sanawm_gym.agents.exploration import LastingNoise
from sanawm_gym.agents.extractor import SB3Features
from sanawm_gym.agents.features import ALONE, DriveFeatures, entries_of, num_numbers
from sanawm_gym.agents.gauges import Gauges, mean_and_spread
from sanawm_gym.agents.learned import Actor, ActorConfig

ACTOR, CRITIC = 0, 1
"""Groups of the optimiser."""

Learning = Literal["head", "join", "all"]
"""How much of an actor learns: the last layer with its gauges; that and the layers before it up to
the convolutions; or everything."""


class WarmPolicy(ActorCriticPolicy):
    """An actor of the form of a saved driver, and a critic that reads numbers alone.

    Args:
        observation_space: Of the environment as SB3 sees it.
        action_space: A bounded Box.
        lr_schedule: Step size of the actor.
        source: How the driver is built.
        learn: How much of it learns.
        noise_decisions: How long exploration lasts, for every number of an action [decisions].
        arguments: Of SB3's policy, with `net_arch` a dictionary of `pi` and `vf`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        source: ActorConfig,
        learn: Learning,
        noise_decisions: Sequence[float],
        **arguments: Any,
    ) -> None:
        self.source, self.learn = source, learn
        self.noise = LastingNoise(noise_decisions)
        self.starts: Callable[[], np.ndarray] | None = None
        """Says which cars begin an episode; without it all do, and exploration does not last."""
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            share_features_extractor=False,
            **arguments,
        )

    @property
    def features(self) -> DriveFeatures:
        """The actor's features."""
        return cast(SB3Features, self.pi_features_extractor).network

    @property
    def trunk(self) -> nn.Sequential:
        """The actor's layers after its features."""
        return cast(Any, self.mlp_extractor.policy_net).layers  # type: ignore[no-any-return]

    @property
    def last(self) -> WarmHead:
        """The actor's last layer and what its gauges add to it."""
        return cast(WarmHead, self.action_net)

    @property
    def view(self) -> CriticView:
        """What the critic reads."""
        return cast(CriticView, self.vf_features_extractor)

    def begin_as(self, actor: Actor) -> None:
        """Take over the weights of a driver of this form."""
        self.features.load_state_dict(actor.features.state_dict())
        self.trunk.load_state_dict(actor.trunk.state_dict())
        self.last.head.load_state_dict(actor.head.state_dict())
        if actor.gauges is not None and self.last.gauges is not None:
            self.last.gauges.load_state_dict(actor.gauges.state_dict())

    def let_learn(self, group: int) -> None:
        """Let one group of the optimiser learn and hold the other."""
        self.optimizer.zero_grad(set_to_none=True)
        for index, one in enumerate(self.optimizer.param_groups):
            for parameter in one["params"]:
                parameter.requires_grad_(index == group)

    def values(self, seen: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
        """What the critic says of the numbers of :meth:`CriticView.numbers`."""
        latent = self.mlp_extractor.forward_critic(self.view.evened(seen))
        value: Tensor = self.value_net(latent)
        return value.flatten()

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """A decision of every car in a rollout: actions, values and log probabilities."""
        of_actor, of_critic = self.extract_features(obs)
        values = self.value_net(self.mlp_extractor.forward_critic(of_critic))
        drawn = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(of_actor))
        normal = cast(torch.distributions.Normal, drawn.distribution)
        actions = normal.mean
        if not deterministic:
            given = np.ones(len(actions)) if self.starts is None else self.starts()
            noise = self.noise.draw(torch.from_numpy(np.asarray(given, dtype=bool)))
            actions = actions + normal.stddev * noise.to(actions.device)
        shape = (-1, *cast(tuple[int, ...], self.action_space.shape))
        return actions.reshape(shape), values, drawn.log_prob(actions)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)
        self.vf_features_extractor = CriticView(self.observation_space)
        width = self.source.features.features
        own, critic = (
            MlpExtractor(size, {name: self.net_arch[name]}, self.activation_fn, self.device)
            for name, size in (("pi", width), ("vf", self.vf_features_extractor.features_dim))
        )
        self._width = own.latent_dim_pi
        own.policy_net = _Trunk(own.policy_net, width)  # type: ignore[assignment]
        own.latent_dim_pi += self.features_dim - width
        own.value_net, own.latent_dim_vf = critic.value_net, critic.latent_dim_vf
        self.mlp_extractor = own

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        space = self.action_space
        assert isinstance(space, spaces.Box), "check_actions was not called"
        self.action_net = WarmHead(self._width, space, self.source)
        held: list[nn.Module] = []
        if self.learn != "all":
            held.append(self.features.towers)
        if self.learn == "head":
            held += [self.features.join, self.features.norm, self.trunk]
        for module in held:
            module.requires_grad_(False)
        critic = [*self.mlp_extractor.value_net.parameters(), *self.value_net.parameters()]
        of_critic = {id(parameter) for parameter in critic}
        actor = [
            parameter
            for parameter in self.parameters()
            if parameter.requires_grad and id(parameter) not in of_critic
        ]
        groups: list[dict[str, Any]] = [{}, {}]
        groups[ACTOR]["params"], groups[CRITIC]["params"] = actor, critic
        self.optimizer = self.optimizer_class(
            groups,
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )


class CriticView(BaseFeaturesExtractor):
    """What the critic reads: the numbers of an observation, freed of their mean and spread.

    Both are measured once, and saved with the weights: a critic whose inputs change has to begin
    anew after every rollout.

    Args:
        observation_space: Of the environment as SB3 sees it.

    Raises:
        ValueError: If there are no numbers in it.
    """

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        entries = entries_of(observation_space)
        self.names = [name for name, entry in entries.items() if entry.kind == "numbers"]
        count = sum(entries[name].shape[0] for name in self.names)
        if not count:
            raise ValueError(
                f"init: got an observation of {sorted(entries)} alone, expected numbers for the "
                "critic to read; take observation=dict in task.settings, or give it the road "
                "(--critic-road)"
            )
        super().__init__(observation_space, count)
        self.is_measured: Tensor
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("is_measured", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))

    def numbers(self, observations: Tensor | Mapping[str, Tensor]) -> Float[Tensor, "b n"]:
        """The numbers of an observation as they are."""
        seen = {ALONE: observations} if isinstance(observations, Tensor) else observations
        return torch.cat([seen[name].float() for name in self.names], dim=1)

    def measure(self, seen: Float[Tensor, "b n"]) -> None:
        """Take mean and spread from examples."""
        mean, spread = mean_and_spread(seen)
        self.mean.copy_(mean)
        self.spread.copy_(spread)
        self.is_measured.fill_(True)

    def evened(self, seen: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Numbers within about one."""
        return (seen - self.mean) / self.spread

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Float[Tensor, "b n"]:
        """What the layers of the critic are given."""
        return self.evened(self.numbers(observations))


class WarmHead(nn.Module):
    """The last layer of a saved driver, with what its gauges add and the bounds of its actions.

    Args:
        width: Of the features after the trunk; numbers follow them if there are gauges.
        space: Of the actions.
        source: How the driver is built.
    """

    def __init__(self, width: int, space: spaces.Box, source: ActorConfig) -> None:
        super().__init__()
        actions = int(np.prod(space.shape))
        self.head = nn.Linear(width, actions)
        numbers = num_numbers(source.entries) if source.gauges else 0
        self.gauges = Gauges(numbers, source.gauges, actions) if numbers else None
        self._width, self._is_squashed = width, source.is_squashed
        self.low: Tensor
        self.high: Tensor
        for name in ("low", "high"):
            bound = np.asarray(getattr(space, name), np.float32).ravel()
            self.register_buffer(name, torch.from_numpy(bound.copy()), persistent=False)

    def forward(self, latent: Float[Tensor, "b columns"]) -> Float[Tensor, "b a"]:
        """The middle of the actions that are tried."""
        drawn: Tensor = self.head(latent[:, : self._width])
        if self.gauges is not None:
            drawn = drawn + self.gauges(latent[:, self._width :])
        if not self._is_squashed:
            return drawn
        return self.low + (torch.tanh(drawn) + 1) / 2 * (self.high - self.low)


class _Trunk(nn.Module):
    """Layers over the features; the numbers that follow pass by.

    Args:
        layers: Over the features.
        width: Of the features.
    """

    def __init__(self, layers: nn.Sequential, width: int) -> None:
        super().__init__()
        self.layers, self._width = layers, width

    def forward(self, seen: Float[Tensor, "b columns"]) -> Float[Tensor, "b passed"]:
        trunk: Tensor = self.layers(seen[:, : self._width])
        return torch.cat([trunk, seen[:, self._width :]], dim=1)
