"""What a driver is: observations in, actions out, one row a car."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Observation = Mapping[str, NDArray[np.generic]]
"""Batched observation: ``camera`` uint8 (b, h, w, 3) and ``ego`` float32 (b, 4)."""

Infos = Sequence[Mapping[str, Any]]
"""Info of the last reset or step, one dictionary a row; of a vector environment `split_infos`."""

Action = NDArray[np.float32]
"""Batched action (b, 2): steer (+1 is full left) and throttle or brake, each in [-1, 1]."""


@runtime_checkable
class Policy(Protocol):
    """A driver of one or many cars."""

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin one drive a seed, forgetting the past."""

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Choose the actions of the next decision.

        Args:
            observation: What the cars see and feel, all that a trained driver may use.
            infos: What else is known; scripted drivers read the road off it.
        """
