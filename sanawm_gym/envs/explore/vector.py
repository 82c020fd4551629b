"""Any number of free cameras: one forward of the world model for all of them.

This is the implementation; the scalar environment is this one with a single row.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from sanawm_gym.envs.arguments import check_count, read_mode, rows_to_reset, spread_seeds
from sanawm_gym.envs.config import RENDER_MODES, split_options
from sanawm_gym.envs.screen import Screen
from sanawm_gym.envs.spaces import FPS, Observation
from sanawm_gym.envs.worlds import shared_world

from .config import EPISODE_FIELDS, ExploreConfig
from .core import ExploreCore, Look
from .moves import action_space, read_actions
from .state import ExploreSnapshot, ExploreState
from .views import begun_info, looked_info, observation_space, observe

Infos = dict[int, dict[str, Any]]
"""Info dictionaries by row."""


class SanaWMExploreVectorEnv(VectorEnv[Any, Any, Any]):
    """Many free cameras, each in a generated world of its own.

    What a single camera sees and does stands in `SanaWMExploreEnv`; rows, autoreset modes, seeds
    and snapshots are those of `SanaWMDriveVectorEnv`. Options of `reset` are `start`, `prompt`,
    `intrinsics`, `rig`, `horizon` (a list of `num_envs` values gives one to each row) and
    `reset_mask`.

    Args:
        num_envs: Number of cameras, at least 1.
        config: Settings; single fields can be given by name on top.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value.
        max_episode_steps: Decisions an episode, if fewer than the horizon holds.
        kwargs: Fields of `ExploreConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        config: ExploreConfig | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the world; see the class."""
        self.num_envs = check_count("num_envs", num_envs)
        self.autoreset_mode = read_mode(autoreset_mode)
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps)
        self.max_episode_steps = max_episode_steps
        self.config = ExploreConfig.from_kwargs(config, kwargs)
        self.core = _core_of(self.config)
        self.single_observation_space = observation_space(self.config, self.core)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space = action_space(self.config.action)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.render_mode = self.config.render_mode
        world = self.core.world
        # Pictures a second of what `render` returns: of the last picture there is one a decision.
        per_step = 1 if self.render_mode == "rgb_array" else world.frames_per_step
        self.metadata = {  # type: ignore[misc]
            **type(self).metadata,
            "render_fps": round(world.fps * per_step / world.frames_per_step),
            "autoreset_mode": self.autoreset_mode,
        }
        self._screen = Screen(self.render_mode, self.num_envs, world.fps)
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._state: ExploreState | None = None

    @property
    def state(self) -> ExploreState:
        """Cameras under way.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._state is None:
            raise ResetNeeded("got no episode yet, expected a reset first; call reset()")
        return self._state

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: One for row 0, counted up for the others; one a row; or None to go on drawing.
            options: See the class.

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
        infos = self._begin(rows, spread_seeds(seed, self.num_envs), changes)
        self._screen.show()
        return self._observe(), infos

    def step(
        self, actions: Any
    ) -> tuple[
        Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Hold one action a row for one decision (0.25 s in the bundled world).

        Raises:
            ValueError: If the actions do not fit their space.
            ResetNeeded: Before the first reset, and for finished rows when autoreset is disabled.
        """
        observations, truncated, infos = self.step_rows(actions)
        nothing = np.zeros(self.num_envs)
        return observations, nothing, nothing.astype(np.bool_), truncated, self._joined(infos)

    def step_rows(self, actions: Any) -> tuple[Observation, NDArray[np.bool_], Infos]:
        """Like `step`, without what is always zero and with one info dictionary a row."""
        checked = read_actions(actions, self.config.action, self.num_envs)
        before = self.state
        finished = [int(row) for row in np.flatnonzero(self._done)]
        if finished and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise ResetNeeded(
                f"step: got finished episodes in rows {finished}, expected them to be reset first; "
                "call reset(), or in a vector environment reset(options={'reset_mask': ...})"
            )
        active = [row for row in range(self.num_envs) if row not in finished]
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        infos: Infos = {}
        if active:
            part = before if not finished else before.select(active)
            after, look = self.core.advance(part, checked[active], self.config)
            self._state = before.with_rows(after, active)
            truncated[active] = [reason != "" for reason in look.reasons]
            for index, row in enumerate(active):
                infos[row] = self._info(row, look, index)
                self._screen.extend(row, look.frames[index])
        if finished:
            infos.update(self._begin(finished))
        self._done = truncated.copy()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncated.any():
            infos.update(self._begin_with_finals(infos))
        self._screen.show()
        return self._observe(), truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """One result a row: the newest picture, or every raw frame since the last call."""
        _ = self.state
        rendered = self._screen.render()
        return None if rendered is None else tuple(rendered)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window."""
        self._screen.close()

    def snapshot(self) -> ExploreSnapshot:
        """All cameras and the random numbers to come, as a value.

        Raises:
            ResetNeeded: Before the first reset.
        """
        states = [dict(g.bit_generator.state) for g in self._generators if g is not None]
        return ExploreSnapshot(
            state=self.state, generators=tuple(copy.deepcopy(states)), done=self._done.copy()
        )

    def restore(self, snapshot: ExploreSnapshot) -> tuple[Observation, dict[str, Any]]:
        """Go back to a snapshot of this or of an equal environment.

        Raises:
            ValueError: If it is of other rows or another world; `snapshot.select` fits the rows.
        """
        observations, infos = self.restore_rows(snapshot)
        return observations, self._joined(infos)

    def restore_rows(self, snapshot: ExploreSnapshot) -> tuple[Observation, Infos]:
        """Like `restore`, with one info dictionary a row."""
        world = self.core.world
        expected = (self.num_envs, world.height, world.width, 3)
        if not isinstance(snapshot, ExploreSnapshot) or snapshot.state.camera.shape != expected:
            raise ValueError(
                f"snapshot: got a {type(snapshot).__name__}, expected what snapshot() returned in "
                f"this world, with pictures {expected}; fit the rows with snapshot.select([...])"
            )
        for row, state in enumerate(snapshot.generators):
            generator, _ = seeding.np_random(0)
            generator.bit_generator.state = copy.deepcopy(state)
            self._generators[row] = generator
        self._state, self._done = snapshot.state, snapshot.done.copy()
        rows = range(self.num_envs)
        for row in rows:
            self._screen.restart(row, snapshot.state.camera[row])
        return self._observe(), {row: self._info(row) for row in rows}

    def fork(self, n: int, row: int = 0) -> SanaWMExploreVectorEnv:
        """A new environment of n rows that all go on from one row of this one.

        Raises:
            ValueError: If n or the row is out of range.
        """
        snapshot = self.snapshot().select([row])
        forked = SanaWMExploreVectorEnv(
            n,
            self.config,
            autoreset_mode=self.autoreset_mode,
            max_episode_steps=self.max_episode_steps,
        )
        forked.restore(snapshot.select([0] * forked.num_envs))
        return forked

    def _begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Infos:
        """Put new episodes into some rows; either it works or all stays as it was."""
        options = options or {}
        fixed = sorted(set(options) - EPISODE_FIELDS)
        if fixed:
            raise ValueError(
                f"options: got {fixed}, expected some of {sorted(EPISODE_FIELDS)}; what else there "
                "is belongs to the environment, make another one"
            )
        partial = len(rows) < self.num_envs
        before = self.state if partial else None
        own = split_options(options, self.num_envs)
        configs = [self._limited(self.config.replace(own[row])) for row in rows]
        # Drawn from copies: a start that fails must not have used up random numbers.
        generators = [self._generator(row, seeds[row] if seeds else None) for row in rows]
        begun = self.core.start(configs, generators)
        self._state = begun if before is None else before.with_rows(begun, rows)
        self._done[list(rows)] = False
        for row, generator in zip(rows, generators, strict=True):
            self._generators[row] = generator
            self._screen.restart(row, self.state.camera[row])
        return {row: self._info(row) for row in rows}

    def _begin_with_finals(self, infos: Infos) -> Infos:
        """Begin new episodes in the rows that are done, keeping what was seen last."""
        rows = [int(row) for row in np.flatnonzero(self._done)]
        last = list(iterate(self.observation_space, self._observe()))
        begun = self._begin(rows)
        return {
            row: {"final_obs": last[row], "final_info": infos[row], **begun[row]} for row in rows
        }

    def _observe(self) -> Observation:
        return observe(self.state, self.config)

    def _info(self, row: int, look: Look | None = None, index: int = 0) -> dict[str, Any]:
        time = float(self.state.decisions[row] * self.core.seconds_per_decision)
        if look is None:
            return begun_info(self.state, row, time)
        return looked_info(self.state, row, time, look, index, self.config.frames_in_info)

    def _joined(self, infos: Infos) -> dict[str, Any]:
        vector: dict[str, Any] = {}
        for row in sorted(infos):
            vector = self._add_info(vector, infos[row], row)
        return vector

    def _generator(self, row: int, seed: int | None) -> np.random.Generator:
        current = self._generators[row]
        if seed is None and current is not None:
            return copy.deepcopy(current)
        return seeding.np_random(seed)[0]

    def _limited(self, config: ExploreConfig) -> ExploreConfig:
        if self.max_episode_steps is None:
            return config
        limit = self.max_episode_steps * self.core.seconds_per_decision
        return config.replace({"horizon": min(config.horizon, limit)})


def _core_of(config: ExploreConfig) -> ExploreCore:
    return ExploreCore(
        shared_world(
            config.world,
            device=config.device,
            dtype=config.dtype,
            sampler_steps=config.sampler_steps,
            refine=config.refine,
            backend=config.backend,
        )
    )
