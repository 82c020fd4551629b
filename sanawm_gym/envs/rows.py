"""A fixed number of drives with their settings and random generators, under one world model.

The bookkeeping between the Gymnasium protocol (`vector.py`) and the task (`core.py`): which row
begins how, what a row observes and reports, and how all of it is kept and brought back.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from sanawm_gym.vehicle import KinematicBicycle

from .actions import action_kind
from .commands import Command
from .config import EPISODE_FIELDS, DriveConfig, split_options
from .core import DriveCore
from .decision import Decision
from .info import reset_info, step_info
from .reward import AUTO, reward_config
from .snapshot import DriveSnapshot
from .spaces import LATENT_BOUND, Observation, ego_observation, observation_space
from .state import DriveState, equal_rules
from .worlds import shared_world


class DriveRows:
    """Drives by row. Every method either works or leaves all as it was."""

    def __init__(self, config: DriveConfig, num_rows: int, max_steps: int | None) -> None:
        """Load the world; no drive begins yet.

        Args:
            config: Settings of all rows, until `begin` is told otherwise.
            num_rows: Number of drives.
            max_steps: Steps an episode, if fewer than the horizon holds.

        Raises:
            ValueError: If the world, device, dtype or observation mode is unknown, or the reward
                needs a world that reads its pictures.
        """
        self.config = config
        self.num_rows = num_rows
        self.max_steps = max_steps
        self.core = _core_of(config)
        reward_config(config.reward, self.core.can_read)
        if config.reward == AUTO and not self.core.can_read:
            _say_that_nobody_looks(os.fspath(config.world))
        self.space = _space_of(config, self.core)
        self.actions = action_kind(config.action)
        self.action_space = self.actions.space(config.vehicle, self.core.seconds_per_decision)
        self.done = np.zeros(num_rows, dtype=np.bool_)
        self._generators: list[np.random.Generator | None] = [None] * num_rows
        self._state: DriveState | None = None

    @property
    def state(self) -> DriveState:
        """Drives in progress.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._state is None:
            raise ResetNeeded("got no episode yet, expected a reset first; call reset()")
        return self._state

    def check_started(self) -> None:
        """Raise `ResetNeeded` before the first reset."""
        _ = self.state

    def begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Put new drives into some rows.

        Args:
            rows: Which ones.
            seeds: A seed for every row of the batch; None goes on drawing from the row's generator.
            options: Fields of `DriveConfig` for the new episodes; see `split_options`.

        Raises:
            ValueError: If an option is unknown or impossible.
        """
        if len(rows) < self.num_rows:
            self.check_started()
        options = options or {}
        shared = {name: value for name, value in options.items() if name not in EPISODE_FIELDS}
        own = split_options(
            {name: value for name, value in options.items() if name in EPISODE_FIELDS},
            self.num_rows,
        )
        base, core = self.config, self.core
        if shared:
            base = base.replace(shared)
            if len(rows) < self.num_rows:
                raise ValueError(
                    f"options: got {sorted(shared)} for {len(rows)} of {self.num_rows} rows, but "
                    f"all rows share them; expected only {sorted(EPISODE_FIELDS)} beside a reset "
                    "mask; reset all rows"
                )
            core = _core_of(base)
        configs = [self._limited(base.replace(own[row]), core) for row in rows]
        for config in configs:
            self._check_space(_space_of(config, core))
            self._check_actions(config)
        # Drawn from copies: a start that fails must not have used up random numbers.
        generators = [self._generator(row, seeds[row] if seeds else None) for row in rows]
        begun = core.start(configs, generators)
        self._state = self._merged(begun, rows)
        self.config, self.core = base, core
        self.done[list(rows)] = False
        for row, generator in zip(rows, generators, strict=True):
            self._generators[row] = generator

    def commands(self, actions: Any) -> list[Command]:
        """What the actions of all rows make their cars do, one command a decision.

        Raises:
            ValueError: If the actions do not fit their space.
        """
        checked: Any = self.actions.read(actions, self.num_rows)
        state = self.state
        vehicles = [episode.vehicle for episode in state.episodes]
        return self.actions.commands(
            checked, state.vehicle, vehicles, self.core.seconds_per_decision
        )

    def advance(self, rows: Sequence[int], command: Command) -> Decision:
        """Drive some rows for one decision; the others stand still.

        Args:
            rows: Which ones, ascending.
            command: How every row of the batch is driven.
        """
        everyone = len(rows) == self.num_rows
        before = self.state if everyone else self.state.select(rows)
        driven = command if everyone else command.select(rows)
        after, decision = self.core.advance(before, driven)
        self._state = self._merged(after, rows)
        return decision

    def observe(self) -> Observation:
        """Observations of all rows, as fresh arrays."""
        state = self.state
        if self.config.observation == "camera":
            return np.array(state.camera)
        ego = np.empty((self.num_rows, 4), dtype=np.float32)
        for rows in equal_rules(state.episodes):
            bicycle = KinematicBicycle(state.episodes[rows[0]].vehicle)
            ego[rows] = ego_observation(state.vehicle[rows], bicycle)
        if self.config.observation == "latent":
            latent = np.nan_to_num(state.latent(), posinf=LATENT_BOUND, neginf=-LATENT_BOUND)
            return {"ego": ego, "latent": np.clip(latent, -LATENT_BOUND, LATENT_BOUND)}
        return {"camera": state.camera.copy(), "ego": ego}

    def info(self, row: int, decision: Decision | None = None, index: int = 0) -> dict[str, Any]:
        """Info of a row.

        Args:
            row: Which one.
            decision: What the last decision brought; None after a reset.
            index: The row's place in the decision.
        """
        state = self.state.select_row(row)
        episode = state.episode
        common: dict[str, Any] = {
            "time": state.decisions * self.core.seconds_per_decision,
            "distance": state.distance,
            "vehicle_state": state.vehicle,
            "intrinsics": np.array(episode.intrinsics),
            "drift_score": state.drift,
            "perceived": state.perceived,
        }
        if decision is None:
            return step_info(
                **common,
                world_from_camera=state.world_from_camera,
                reward_terms=episode.reward.blank(),
            ) | reset_info(
                start=episode.start, prompt=episode.prompt, world_seed=episode.world_seed
            )
        wanted = self.config.frames_in_info
        return step_info(
            **common,
            world_from_camera=decision.poses[index, -1],
            reward_terms=decision.terms[index],
            termination_reason=decision.termination_reasons[index],
            truncation_reason=decision.truncation_reasons[index],
            frames=decision.frames[index] if wanted else None,
            frame_poses=decision.poses[index] if wanted else None,
        )

    def snapshot(self) -> DriveSnapshot:
        """All drives and the random numbers to come, as a value."""
        states = [dict(g.bit_generator.state) for g in self._generators if g is not None]
        return DriveSnapshot(
            state=self.state, generators=tuple(copy.deepcopy(states)), done=self.done.copy()
        )

    def restore(self, snapshot: DriveSnapshot) -> None:
        """Go back to a snapshot.

        Raises:
            ValueError: If it is none, or has another number of rows or another picture size.
        """
        if not isinstance(snapshot, DriveSnapshot):
            raise ValueError(
                f"snapshot: got a {type(snapshot).__name__}, expected what snapshot() returned"
            )
        height, width = self.core.world.height, self.core.world.width
        expected = (self.num_rows, height, width, 3)
        if snapshot.state.camera.shape != expected:
            raise ValueError(
                f"snapshot: got pictures {snapshot.state.camera.shape}, expected {expected}; fit "
                "the rows with snapshot.select([...]), and restore it in its own world"
            )
        for row, state in enumerate(snapshot.generators):
            generator, _ = seeding.np_random(0)
            generator.bit_generator.state = copy.deepcopy(state)
            self._generators[row] = generator
        self._state = snapshot.state
        self.done = snapshot.done.copy()

    def _merged(self, fresh: DriveState, rows: Sequence[int]) -> DriveState:
        """Current drives with some rows replaced."""
        if len(rows) == self.num_rows:
            return fresh
        kept = [row for row in range(self.num_rows) if row not in set(rows)]
        order = [*kept, *rows]
        joined = DriveState.concat([self.state.select(kept), fresh])
        return joined.select([order.index(row) for row in range(self.num_rows)])

    def _generator(self, row: int, seed: int | None) -> np.random.Generator:
        current = self._generators[row]
        if seed is None and current is not None:
            return copy.deepcopy(current)
        return seeding.np_random(seed)[0]

    def _limited(self, config: DriveConfig, core: DriveCore) -> DriveConfig:
        if self.max_steps is None:
            return config
        limit = self.max_steps * core.seconds_per_decision * self.actions.num_decisions
        return config.replace({"horizon": min(config.horizon, limit)})

    def _check_actions(self, config: DriveConfig) -> None:
        """Refuse options that would change the kind of action."""
        if action_kind(config.action) != self.actions:
            raise ValueError(
                f"options: got action={config.action!r}, expected {self.actions}, which was fixed "
                "when the environment was made; make another one"
            )

    def _check_space(self, space: spaces.Space[Any]) -> None:
        """Refuse options whose observations would leave the space this environment promised."""
        if not _within(space, self.space):
            raise ValueError(
                f"options: got observations in {space}, expected them to stay in {self.space}, "
                "which was fixed when the environment was made; make another one"
            )


@cache
def _say_that_nobody_looks(world: str) -> None:
    """Once a process and world: a log entry, since nothing that was asked for is missing."""
    logging.getLogger(__name__).warning(
        "world %r has no heads that read its pictures: the reward is 'kinematic', which is blind "
        "to the road, and no drive ends by leaving it. Train heads (sanawm-gym train-wm heads), "
        "give reward terms that look at the picture, or set reward='kinematic' to hear no more",
        world,
    )


def _within(inner: spaces.Space[Any], outer: spaces.Space[Any]) -> bool:
    if isinstance(inner, spaces.Dict) and isinstance(outer, spaces.Dict):
        return inner.keys() == outer.keys() and all(_within(inner[k], outer[k]) for k in inner)
    if not (isinstance(inner, spaces.Box) and isinstance(outer, spaces.Box)):
        return False
    return inner.shape == outer.shape and bool(
        (inner.low >= outer.low).all() and (inner.high <= outer.high).all()
    )


def _core_of(config: DriveConfig) -> DriveCore:
    return DriveCore(
        shared_world(
            config.world,
            device=config.device,
            dtype=config.dtype,
            sampler_steps=config.sampler_steps,
            refine=config.refine,
            backend=config.backend,
        )
    )


def _space_of(config: DriveConfig, core: DriveCore) -> spaces.Space[Any]:
    return observation_space(
        config.observation,
        height=core.world.height,
        width=core.world.width,
        vehicle=config.vehicle,
        latent_shape=core.latent_shape,
    )
