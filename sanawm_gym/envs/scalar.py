"""The scalar form of the generated environments: the batched one with a single row."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, SupportsFloat

import gymnasium as gym
import numpy as np

from .batched import BatchedEnv
from .episode_rows import ConfigT, SnapshotT
from .generated_config import RENDER_MODES
from .spaces import FPS, Observation


class ScalarEnv(gym.Env[Any, Any], Generic[ConfigT, SnapshotT]):
    """One episode in a generated world; see the subclasses."""

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
    }

    def __init__(self, vector: BatchedEnv[ConfigT, SnapshotT]) -> None:
        """Show a batched environment as its only row.

        Args:
            vector: With one row, and autoreset disabled.
        """
        self._vector = vector
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self._show_rendering()

    @property
    def config(self) -> ConfigT:
        """Settings in force."""
        return self._vector.config

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Draws start and world; None goes on drawing.
            options: Fields of the config for this episode; see the class.

        Raises:
            ValueError: If an option is impossible; the episode in progress then goes on.
        """
        observations, infos = self._vector.reset_rows(seed=[seed], options=options)
        super().reset(seed=seed)
        self._show_rendering()
        return _first(observations), infos[0]

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action: one decision (0.25 s in the bundled world), or a chunk of them.

        Raises:
            ValueError: If the action does not fit its space.
            ResetNeeded: Before the first reset and after the end of an episode.
        """
        observations, rewards, terminated, truncated, infos = self._vector.step_rows(
            self._vector.read_one(action)
        )
        return (
            _first(observations),
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            infos[0],
        )

    def render(self) -> Any:
        """The newest picture, every raw frame since the last call, or None (see the class)."""
        rendered = self._vector.render()
        return None if rendered is None else rendered[0]

    def close(self) -> None:
        """Close the window; the weights stay loaded for other environments."""
        self._vector.close()

    def snapshot(self) -> SnapshotT:
        """The episode and the random numbers to come, as a value.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._vector.snapshot()

    def restore(self, snapshot: SnapshotT) -> tuple[Observation, dict[str, Any]]:
        """Go back to a snapshot; what follows equals byte for byte what followed it before.

        Returns:
            Observation and info at that moment, like `reset`.

        Raises:
            ValueError: If it is not a snapshot of one row of this world.
        """
        observations, infos = self._vector.restore_rows(snapshot)
        return _first(observations), infos[0]

    def fork(self, n: int) -> BatchedEnv[ConfigT, SnapshotT]:
        """A vector environment of n copies of this episode; see `BatchedEnv.fork`."""
        return self._vector.fork(n)

    def _show_rendering(self) -> None:
        """Show the render settings of the batched environment as Gymnasium wants to see them."""
        self.render_mode = self._vector.render_mode
        self.metadata = {  # type: ignore[misc]
            key: value for key, value in self._vector.metadata.items() if key != "autoreset_mode"
        }


def _first(observations: Observation) -> Observation:
    if isinstance(observations, np.ndarray):
        return np.asarray(observations[0])
    return {name: values[0] for name, values in observations.items()}
