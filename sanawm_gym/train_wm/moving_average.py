"""A moving average of weights, which is what gets exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sanawm_gym.train_wm.sharding import gather, local, shard


class MovingAverage:
    """Exponential moving average of a module's parameters, sharded where they are.

    The first update takes the weights as they are, so that initial ones do not linger.

    Args:
        module: Gives the parameters.
        decay: Share of the average kept each update.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        self._values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's present parameters."""
        present = dict(module.named_parameters())
        averages = [local(value) for value in self._values.values()]
        news = [local(present[name].detach()) for name in self._values]
        weight = 1 - self._decay if self._num_updates else 1.0
        torch._foreach_lerp_(averages, news, weight)
        self._num_updates += 1

    def gathered(self, keep: bool) -> dict[str, Tensor]:
        """Whole averages by name where ``keep``; all processes have to ask together."""
        values: dict[str, Tensor] = gather(self._values, keep)
        return values

    def state(self, keep: bool) -> dict[str, Any]:
        """What a checkpoint keeps; all processes have to ask together."""
        return {"num_updates": self._num_updates, "values": self.gathered(keep)}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` returned."""
        self._num_updates = state["num_updates"]
        for name, value in self._values.items():
            value.copy_(shard(state["values"][name], value))
