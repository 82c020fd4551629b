"""Drivers that do not look: the floor that any trained driver must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sanawm_gym.agents.policy import Action, Infos, Observation


class ConstantPolicy:
    """The same action at every decision.

    Args:
        steer: In [-1, 1], +1 is full left.
        throttle: In [-1, 1], negative brakes.
    """

    def __init__(self, steer: float = 0.0, throttle: float = 0.1) -> None:
        self._action = np.array([steer, throttle], dtype=np.float32)

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Repeat the action once a row."""
        return np.tile(self._action, (len(observation["ego"]), 1))


class RandomPolicy:
    """Uniform actions; a row's sequence depends on its seed alone."""

    def __init__(self) -> None:
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: Sequence[int]) -> None:
        """Seed one generator a row."""
        self._generators = [np.random.default_rng(seed) for seed in seeds]

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """Draw one action a row.

        Raises:
            ValueError: If :meth:`reset` was called with another number of seeds.
        """
        num_rows = len(observation["ego"])
        if num_rows != len(self._generators):
            raise ValueError(
                f"got {num_rows} rows, expected {len(self._generators)}: call reset with one seed "
                "a row first"
            )
        return np.stack([g.uniform(-1, 1, 2) for g in self._generators]).astype(np.float32)
