"""The generated world from shared starts, all drives of a batch together.

Drives that are over are taken out of the batch (a snapshot of the others goes on in a smaller
environment), so that none begins anew by itself and none is drawn in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from sanawm_gym.agents.vec_infos import split_infos
from sanawm_gym.validate.starts import SharedStart


class GeneratedDrives:
    """A batch of drives.

    Args:
        starts: Where they begin.
        seeds: Of the world's noise, one a drive.
        settings: Arguments of the environment, for all drives.
    """

    def __init__(
        self, starts: Sequence[SharedStart], seeds: Sequence[int], settings: dict[str, Any]
    ) -> None:
        self._settings = settings
        self._envs = self._make(len(starts))
        observation, joined = self._envs.reset(
            seed=list(seeds),
            options={
                "start": [start.context for start in starts],
                "rig": [start.rig for start in starts],
            },
        )
        self.observation: dict[str, np.ndarray] = {k: v.copy() for k, v in observation.items()}
        self.infos = split_infos(joined, len(starts))
        self.living = list(range(len(starts)))
        self.ends = [""] * len(starts)

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Take an action a drive; those of drives that are over are not looked at.

        Returns:
            Reward of every drive, 0 of those that were over before.
        """
        rewards = np.zeros(len(self.ends))
        if not self.living:
            return rewards
        observation, reward, terminated, truncated, joined = self._envs.step(actions[self.living])
        infos = split_infos(joined, len(self.living))
        rewards[self.living] = reward
        for key, values in observation.items():
            self.observation[key][self.living] = values
        for row, info in zip(self.living, infos, strict=True):
            self.infos[row] = info
            reasons = (info["termination_reason"], info["truncation_reason"])
            self.ends[row] = next((reason for reason in reasons if reason), "")
        self._drop(terminated | truncated)
        return rewards

    def close(self) -> None:
        """Close the environment."""
        self._envs.close()

    def _drop(self, over: np.ndarray) -> None:
        """Go on without the drives that are over."""
        if not over.any():
            return
        kept = np.flatnonzero(~over)
        self.living = [self.living[index] for index in kept]
        if self.living:
            snapshot = self._envs.snapshot().select(kept.tolist())
            self._envs.close()
            self._envs = self._make(len(kept))
            self._envs.restore(snapshot)

    def _make(self, num_envs: int) -> Any:
        return gym.make_vec(
            "SanaWM-Drive-v0", num_envs, autoreset_mode=AutoresetMode.DISABLED, **self._settings
        )
