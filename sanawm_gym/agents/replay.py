"""Experience of pictures within a fixed amount of memory.

SB3's buffer for dictionaries keeps every observation twice, as what was seen before a step and as
what was seen after it. Here each car has a ring of moments, and what was seen after a moment is the
next moment of the ring: an episode takes one more than it has steps. So the same memory holds about
twice the experience, and how much that is follows from the memory, not the other way round.

Axes: n moments of a ring, e cars.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

_ARRAYS = ("actions", "rewards", "ends", "follows")
_SMALLEST = 4  # moments a car


class ImageReplay(DictReplayBuffer):
    """A replay buffer for dictionaries with pictures, as SB3 wants one.

    Args:
        buffer_size: Ignored: the memory decides. SB3 always gives it.
        observation_space: Of one car.
        action_space: Of one car.
        device: Where samples go.
        n_envs: Cars.
        memory_gb: Memory for everything kept [GB], > 0.
        kwargs: Further arguments that SB3 gives.

    Raises:
        ValueError: If the memory holds next to nothing.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        *,
        memory_gb: float = 1.0,
        **kwargs: Any,
    ) -> None:
        assert isinstance(observation_space, spaces.Dict)
        each = _bytes_of_moment(observation_space.spaces, action_space)
        moments = int(memory_gb * 1e9) // (each * n_envs)
        if moments < _SMALLEST:
            raise ValueError(
                f"replay: got {memory_gb} GB for {n_envs} cars, expected room for at least "
                f"{_SMALLEST} moments of {each} bytes each; give more memory_gb or fewer cars"
            )
        # The parent's own arrays are made for a single moment, and replaced.
        super().__init__(n_envs, observation_space, action_space, device, n_envs)
        self.buffer_size = moments
        self.kept = {
            key: np.zeros((moments, n_envs, *shape), dtype=observation_space[key].dtype)
            for key, shape in self.obs_shape.items()
        }
        self.actions = np.zeros((moments, n_envs, self.action_dim), dtype=np.float32)
        self.rewards = np.zeros((moments, n_envs), dtype=np.float32)
        self.ends = np.zeros((moments, n_envs), dtype=np.bool_)
        """Whether the step from a moment ended its episode as a task, not by time."""
        self.follows = np.zeros((moments, n_envs), dtype=np.bool_)
        """Whether a step goes out from a moment, so that it can be drawn with the next one."""
        self.cursor = np.zeros(n_envs, dtype=np.int64)
        """Moment of every car that is written next."""
        self.observations = self.next_observations = {}

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, np.ndarray],
        next_obs: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Keep one step of every car; `next_obs` is the last observation where it is done."""
        cars = np.arange(self.n_envs)
        here, there = self.cursor, (self.cursor + 1) % self.buffer_size
        for key, kept in self.kept.items():
            kept[here, cars] = obs[key]
            kept[there, cars] = next_obs[key]
        self.actions[here, cars] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[here, cars] = reward
        late = np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=np.bool_)
        self.ends[here, cars] = done.astype(np.bool_) & ~late
        self.follows[here, cars] = True
        self.follows[there, cars] = False
        self.cursor = (there + done.astype(np.int64)) % self.buffer_size
        # An end leaves its last moment behind; the one written next has nothing to go out from yet.
        self.follows[self.cursor, cars] = False

    def cut(self) -> None:
        """All cars are set elsewhere: what is added next does not follow from what was last."""
        begun = self.follows[self.cursor - 1, np.arange(self.n_envs)]
        self.cursor = (self.cursor + begun) % self.buffer_size
        self.follows[self.cursor, np.arange(self.n_envs)] = False

    def size(self) -> int:
        """Steps that can be drawn, of all cars together."""
        return int(self.follows.sum())

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> DictReplayBufferSamples:  # type: ignore[override]
        """Draw steps, each as likely as any other.

        Args:
            batch_size: How many.
            env: Normaliser of SB3, if one is in use.

        Raises:
            ValueError: If nothing has been kept yet.
        """
        known = np.flatnonzero(self.follows)
        if not len(known):
            raise ValueError("replay: got no step yet, expected some to draw from; add them first")
        drawn = known[np.random.randint(0, len(known), size=batch_size)]  # noqa: NPY002 as SB3
        here, cars = np.divmod(drawn, self.n_envs)
        there = (here + 1) % self.buffer_size
        seen, after = (
            self._normalize_obs({key: kept[moments, cars] for key, kept in self.kept.items()}, env)
            for moments in (here, there)
        )
        assert isinstance(seen, dict) and isinstance(after, dict)
        return DictReplayBufferSamples(
            observations={key: self.to_torch(value) for key, value in seen.items()},
            actions=self.to_torch(self.actions[here, cars]),
            next_observations={key: self.to_torch(value) for key, value in after.items()},
            dones=self.to_torch(self.ends[here, cars].astype(np.float32)[:, None]),
            rewards=self.to_torch(self._normalize_reward(self.rewards[here, cars][:, None], env)),
        )

    def save(self, path: Path) -> None:
        """Write everything kept, replaced whole."""
        partial = path.with_suffix(".partial")
        arrays: dict[str, Any] = {name: getattr(self, name) for name in (*_ARRAYS, "cursor")}
        arrays |= {f"seen_{key}": kept for key, kept in self.kept.items()}
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If it cannot be read or was kept with other sizes.
        """
        try:
            with np.load(path) as stored:
                for name in (*_ARRAYS, "cursor"):
                    getattr(self, name)[:] = stored[name]
                for key, kept in self.kept.items():
                    kept[:] = stored[f"seen_{key}"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold this experience ({error}): go on with the memory and the "
                "number of cars that it was made with, or begin anew"
            ) from error


def _bytes_of_moment(
    observation: Mapping[str, spaces.Space[Any]], action: spaces.Space[Any]
) -> int:
    seen = sum(
        int(np.prod(space.shape or ())) * np.dtype(space.dtype).itemsize
        for space in observation.values()
    )
    # Action and reward in float32 and two marks.
    return seen + 4 * int(np.prod(action.shape or (1,))) + 4 + 2
