"""A fixed number of drives under one world model: how a row begins, observes and reports."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces

from sanawm_gym.vehicle import KinematicBicycle

from .actions import action_kind
from .commands import Command
from .config import EPISODE_FIELDS, DriveConfig, split_options
from .core import DriveCore
from .decision import Decision
from .episode_rows import EpisodeRows
from .generated_config import GeneratedConfig
from .info import reset_info, step_info
from .known_motion import known_motion, say_that_it_left
from .reward import AUTO, reward_config
from .snapshot import DriveSnapshot
from .spaces import LATENT_BOUND, Observation, ego_observation, observation_space
from .state import DriveState, equal_rules
from .worlds import world_to_drive


class DriveRows(EpisodeRows[DriveConfig, DriveState, DriveSnapshot]):
    """Drives by row; see `EpisodeRows`."""

    config_type = DriveConfig
    snapshot_type = DriveSnapshot

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
        super().__init__(config, num_rows, max_steps)
        self.core: DriveCore = core_of(config)
        reward_config(config.reward, self.core.can_read)
        if config.reward == AUTO and not self.core.can_read:
            _say_that_nobody_looks(os.fspath(config.world))
        self.space = _space_of(config, self.core)
        self.actions = action_kind(config.action)
        self.action_space = self.actions.space(config.vehicle, self.core.seconds_per_decision)
        self.num_decisions = self.actions.num_decisions

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
            core = core_of(base)
        configs = [self._limited(base.replace(own[row]), core) for row in rows]
        for config in configs:
            self._check_space(_space_of(config, core))
            self._check_actions(config)
        generators = self._drawn_from(rows, seeds)
        self._put(core.start(configs, generators), rows, generators)
        self.config, self.core = base, core

    def read(self, action: Any) -> Any:
        """Check the action of a single car, and give it a batch axis.

        Raises:
            ValueError: If it does not fit its space.
        """
        return self.actions.read(action, None)

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
            "raw_frame": state.decisions * self.core.world.frames_per_step,
            "decision_seconds": self.core.seconds_per_decision,
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
                departures=None if self.core.envelope is None else "",
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
            departures=None if decision.departures is None else decision.departures[index],
            latency_ms=decision.latency_ms if self.config.latency_in_info else None,
        )

    def _follow(
        self, state: DriveState, command: Command, rows: Sequence[int]
    ) -> tuple[DriveState, Decision]:
        everyone = len(rows) == self.num_rows
        after, decision = self.core.advance(state, command if everyone else command.select(rows))
        say_that_it_left(os.fspath(self.config.world), self.core.envelope, decision.departures)
        return after, decision

    def _limited(self, config: DriveConfig, core: DriveCore) -> DriveConfig:
        limited = self._limit(config.horizon, core.seconds_per_decision)
        return config.replace({"horizon": limited})

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


def core_of(config: GeneratedConfig) -> DriveCore:
    """The world of a config, loaded, and what motion it is known to draw well.

    Raises:
        ValueError: If the world, device or dtype is unknown, or it cannot be run so.
    """
    world = world_to_drive(
        config.world,
        release=config.release,
        device=config.device,
        dtype=config.dtype,
        sampler_steps=config.sampler_steps,
        guidance=config.guidance,
        refine=config.refine,
        backend=config.backend,
    )
    return DriveCore(world, known_motion(config.envelope, world))


def _space_of(config: DriveConfig, core: DriveCore) -> spaces.Space[Any]:
    return observation_space(
        config.observation,
        height=core.world.height,
        width=core.world.width,
        vehicle=config.vehicle,
        latent_shape=core.latent_shape,
    )
