"""PPO that begins as a driver that is there already, and learns on from it.

From nothing, PPO spends its first hundred thousand decisions on staying in the picture. Begun with
an imitated driver it spends them on driving better; that is the usual order of the two. What a few
thousand decisions can teach such a driver hangs on how clearly they speak:

* **The critic knows the road** (`road_view.py`) and reads a few numbers, never the actor's own
  features: what the critic needs would be pulled into those that the actor steers by, and a critic
  whose inputs the actor changes has to begin anew after every rollout. It learns apart from the
  actor, in passes of its own over the rollout, and alone in the first rollouts: the advice of a
  critic that knows nothing yet would spoil the actor.
* **What is tried lasts** (`exploration.py`), so that something comes of it that can be judged.
* **Little of the actor learns.** Its eyes see roads already. The last layer learns, and gauges
  (`gauges.py`) let it tell too fast from too slow; they are not heeded at first, so the beginning
  is exactly the driver that was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance
from torch.nn.functional import mse_loss

from sanawm_gym.agents.features import Entry
from sanawm_gym.agents.learned import Actor
from sanawm_gym.agents.warm_policy import ACTOR, CRITIC, WarmPolicy


class WarmPPO(PPO):
    """PPO whose critic learns first, apart from the actor and with a step size of its own."""

    critic_only_steps: int = 0
    """Decisions of all cars up to which the actor is held."""
    critic_share: float = 1.0
    """Step size of the critic, as a multiple of the actor's."""
    critic_epochs: int = 1
    """Passes of the critic over a rollout."""

    def collect_rollouts(self, *arguments: Any, **named: Any) -> bool:
        """Drive a rollout, with exploration that ends where an episode does."""
        # A checkpoint cuts all episodes, so it needs to keep nothing of the exploration.
        self._networks.starts = lambda: np.asarray(self._last_episode_starts)
        return super().collect_rollouts(*arguments, **named)

    def train(self) -> None:
        """Learn from a rollout: the actor by what the critic thought of it, then the critic."""
        networks, is_held = self._networks, self.num_timesteps <= self.critic_only_steps
        networks.set_training_mode(True)
        if not networks.view.is_measured:
            self._measure()
        if is_held:
            self._update_learning_rate(networks.optimizer)
        else:
            networks.let_learn(ACTOR)
            super().train()
        networks.let_learn(CRITIC)
        self._train_critic()

    def _measure(self) -> None:
        """Even out the numbers that are read by what the first rollout brought."""
        networks, buffer = self._networks, self.rollout_buffer
        observed = [cast(Any, data.observations) for data in buffer.get(self.batch_size)]
        networks.view.measure(torch.cat([networks.view.numbers(seen) for seen in observed]))
        if networks.last.gauges is not None:
            numbers = networks.features.numbers
            networks.last.gauges.measure(torch.cat([numbers(seen) for seen in observed]))
        torch.nn.init.constant_(networks.value_net.bias, float(buffer.returns.mean()))

    def _train_critic(self) -> None:
        networks, buffer = self._networks, self.rollout_buffer
        batches = [
            (networks.view.numbers(cast(Any, data.observations)), data.returns)
            for data in buffer.get(self.batch_size)
        ]
        seen, returns = (torch.cat(column) for column in zip(*batches, strict=True))
        losses = []
        for _ in range(self.critic_epochs):
            for rows in torch.randperm(len(seen)).split(self.batch_size):
                loss = mse_loss(networks.values(seen[rows]), returns[rows])
                networks.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                networks.optimizer.step()
                losses.append(loss.item())
        explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/value_loss", np.mean(losses))
        self.logger.record("train/explained_variance", explained)

    def _update_learning_rate(
        self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer
    ) -> None:
        super()._update_learning_rate(optimizers)
        self.policy.optimizer.param_groups[CRITIC]["lr"] *= self.critic_share

    @property
    def _networks(self) -> WarmPolicy:
        return cast(WarmPolicy, self.policy)


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
