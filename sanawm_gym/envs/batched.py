"""The batched form of the generated environments: Gymnasium's protocol over rows of episodes.

Autoreset, seeds, infos, rendering, snapshots and forks are the same whatever a row does; what it
does stands in the rows (`episode_rows.py`) that a subclass names. The scalar environments
(`scalar.py`) are these with a single row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from sanawm_gym.vector_arguments import check_count, read_mode, rows_to_reset, spread_seeds

from .decision import Decision, joined
from .episode_rows import ConfigT, EpisodeRows, SnapshotT
from .generated_config import RENDER_MODES
from .screen import Screen
from .spaces import FPS, Observation

EnvT = TypeVar("EnvT", bound="BatchedEnv[Any, Any]")
InfoType = TypeVar("InfoType")
Infos = dict[int, dict[str, Any]]
"""Info dictionaries by row."""
StepOf = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], InfoType]


class BatchedEnv(VectorEnv[Any, Any, Any], Generic[ConfigT, SnapshotT]):
    """Many episodes, each in a generated world of its own; see the subclasses."""

    rows_type: type[EpisodeRows[ConfigT, Any, SnapshotT]]
    """What a row does."""
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        config: ConfigT | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the world; see the subclasses."""
        self.num_envs = check_count("num_envs", num_envs)
        self.autoreset_mode = read_mode(autoreset_mode)
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps)
        self.max_episode_steps = max_episode_steps
        settings = self.rows_type.config_type.from_kwargs(config, kwargs)
        self._rows = self.rows_type(settings, self.num_envs, max_episode_steps)
        self.single_observation_space = self._rows.space
        self.observation_space = batch_space(self._rows.space, self.num_envs)
        self.single_action_space = self._rows.action_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._screen = self._new_screen()

    @property
    def config(self) -> ConfigT:
        """Settings in force."""
        return self._rows.config

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: One for row 0, counted up for the others; one a row; or None to go on drawing.
            options: Fields of the config for these episodes, and `reset_mask`; see the class.

        Raises:
            ValueError: If a seed or an option is impossible; nothing has changed then.
        """
        observations, infos = self.reset_rows(seed=seed, options=options)
        return observations, self._joined(infos)

    def reset_rows(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Infos]:
        """Like `reset`, with one info dictionary a row."""
        changes = dict(options or {})
        rows = rows_to_reset(changes.pop("reset_mask", None), self.num_envs)
        self._rows.begin(rows, spread_seeds(seed, self.num_envs), changes)
        if self._rows.render_mode != self.render_mode:
            self._screen.close()
            self._screen = self._new_screen()
        self._restart_screen(rows)
        self._screen.show()
        return self._rows.observe(), {row: self._rows.info(row) for row in rows}

    def step(self, actions: Any) -> StepOf[dict[str, Any]]:
        """Take one action a row: one decision (0.25 s in the bundled world), or a chunk of them.

        Raises:
            ValueError: If the actions do not fit their space.
            ResetNeeded: Before the first reset, and for finished rows when autoreset is disabled.
        """
        observations, rewards, terminated, truncated, infos = self.step_rows(actions)
        return observations, rewards, terminated, truncated, self._joined(infos)

    def step_rows(self, actions: Any) -> StepOf[Infos]:
        """Like `step`, with one info dictionary a row."""
        commands = self._rows.commands(actions)
        finished = [int(row) for row in np.flatnonzero(self._rows.done)]
        if finished and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise ResetNeeded(
                f"step: got finished episodes in rows {finished}, expected them to be reset first; "
                "call reset(), or in a vector environment reset(options={'reset_mask': ...})"
            )
        active = [row for row in range(self.num_envs) if row not in finished]
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=np.bool_)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        infos: Infos = {}
        if active:
            decision = self._follow(active, commands)
            rewards[active] = decision.rewards
            terminated[active] = [reason != "" for reason in decision.termination_reasons]
            truncated[active] = [reason != "" for reason in decision.truncation_reasons]
            for index, row in enumerate(active):
                infos[row] = self._rows.info(row, decision, index)
        infos.update(self._autoreset(finished))
        self._rows.done = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._rows.done.any():
            infos.update(self._autoreset_with_finals(infos))
        self._screen.show()
        return self._rows.observe(), rewards, terminated, truncated, infos

    def read_one(self, action: Any) -> Any:
        """The action of an environment with a single row, checked and with a batch axis.

        Raises:
            ValueError: If it does not fit its space.
        """
        return self._rows.read(action)

    def render(self) -> tuple[Any, ...] | None:
        """One result a row: the newest picture, or every raw frame since the last call."""
        self._rows.check_started()
        rendered = self._screen.render()
        return None if rendered is None else tuple(rendered)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window."""
        self._screen.close()

    def snapshot(self) -> SnapshotT:
        """All rows and the random numbers to come, as a value.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._rows.snapshot()

    def restore(self, snapshot: SnapshotT) -> tuple[Observation, dict[str, Any]]:
        """Go back to a snapshot of this or of an equal environment.

        Returns:
            Observations and infos at that moment, like `reset`.

        Raises:
            ValueError: If it is of other rows or another world; `snapshot.select` fits the rows.
        """
        observations, infos = self.restore_rows(snapshot)
        return observations, self._joined(infos)

    def restore_rows(self, snapshot: SnapshotT) -> tuple[Observation, Infos]:
        """Like `restore`, with one info dictionary a row."""
        self._rows.restore(snapshot)
        rows = range(self.num_envs)
        self._restart_screen(rows)
        return self._rows.observe(), {row: self._rows.info(row) for row in rows}

    def fork(self: EnvT, n: int, row: int = 0) -> EnvT:
        """A new environment of n rows that all go on from one row of this one.

        The weights are shared, and this environment stays as it is. The copies keep the row's world
        seed: under equal actions they stay equal, so what differs is what the actions did.

        Args:
            n: Number of copies, at least 1.
            row: Which row to copy.

        Raises:
            ValueError: If n or the row is out of range.
        """
        snapshot = self.snapshot().select([row])
        forked = type(self)(
            n,
            self.config,
            autoreset_mode=self.autoreset_mode,
            max_episode_steps=self.max_episode_steps,
        )
        forked.restore(snapshot.select([0] * forked.num_envs))
        return forked

    def _follow(self, rows: Sequence[int], commands: Sequence[Any]) -> Decision:
        """Follow the commands in some rows, each until its episode is over."""
        parts: list[tuple[Sequence[int], Decision]] = []
        going = list(rows)
        for command in commands:
            decision = self._rows.advance(going, command)
            for index, row in enumerate(going):
                self._screen.extend(row, decision.frames[index], len(parts) > 0)
            parts.append((going, decision))
            going = [row for row, over in zip(going, decision.ended, strict=True) if not over]
            if not going:
                break
        return joined(parts, rows)

    def _autoreset(self, rows: Sequence[int]) -> Infos:
        """Begin new episodes in some rows and return their infos."""
        if rows:
            self._rows.begin(rows)
            self._restart_screen(rows)
        return {row: self._rows.info(row) for row in rows}

    def _autoreset_with_finals(self, infos: Infos) -> Infos:
        """Begin new episodes in the rows that are done, keeping what was seen last."""
        rows = [int(row) for row in np.flatnonzero(self._rows.done)]
        last = list(iterate(self.observation_space, self._rows.observe()))
        reset = self._autoreset(rows)
        return {
            row: {"final_obs": last[row], "final_info": infos[row], **reset[row]} for row in rows
        }

    def _joined(self, infos: Infos) -> dict[str, Any]:
        vector: dict[str, Any] = {}
        for row in sorted(infos):
            vector = self._add_info(vector, infos[row], row)
        return vector

    def _new_screen(self) -> Screen:
        """A screen for the render mode in force, which is also declared to Gymnasium."""
        world, mode = self._rows.core.world, self._rows.render_mode
        self.render_mode = mode
        # Pictures a second of what `render` returns: of the last picture there is one a decision.
        per_step = 1 if mode == "rgb_array" else world.frames_per_step
        self.metadata = {  # type: ignore[misc]
            **type(self).metadata,
            "render_fps": round(world.fps * per_step / world.frames_per_step),
            "autoreset_mode": self.autoreset_mode,
        }
        return Screen(mode, self.num_envs, world.fps)

    def _restart_screen(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._screen.restart(row, self._rows.state.camera[row])
