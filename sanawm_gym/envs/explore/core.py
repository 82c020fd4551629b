"""Exploring itself: cameras, the world model and clocks, row by row.

Where an episode begins is the driving environment's business: a start there is a car at rest under
a camera, and the camera is taken over.

Axes: b rows, f raw frames of a decision, h and w of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sanawm_gym.envs.core import DriveCore
from sanawm_gym.envs.decision import Decision
from sanawm_gym.envs.info import HORIZON, WORLD_FAILURE
from sanawm_gym.envs.known_motion import departures_of
from sanawm_gym.geometry import invert_pose
from sanawm_gym.paths.keys import Walker
from sanawm_gym.worldmodel import WorldModel

from .config import ExploreConfig
from .moves import fly, motion_of, walk
from .state import Episode, ExploreState


class ExploreCore:
    """Starts and advances cameras in one world; holds none itself."""

    def __init__(self, drives: DriveCore) -> None:
        """Keep what starts drives in the world, and draws."""
        self.world, self.envelope = drives.world, drives.envelope
        self._drives = drives
        self.seconds_per_decision = drives.seconds_per_decision
        self.latent_shape = drives.latent_shape

    def start(
        self, configs: Sequence[ExploreConfig], generators: Sequence[np.random.Generator]
    ) -> ExploreState:
        """Begin one episode a row.

        Args:
            configs: What every row starts from.
            generators: Draw every row's context and world seed, as in a drive.

        Raises:
            ValueError: If a start is impossible; nothing has been computed then.
        """
        begun = self._drives.start([config.as_drive() for config in configs], generators)
        episodes, walkers, poses = [], [], []
        for config, drive in zip(configs, begun.episodes, strict=True):
            pose = drive.rig.vehicle_from_camera()
            walker = Walker(pitch=math.asin(float(np.clip(pose[2, 2], -1.0, 1.0))))
            decisions = math.ceil(config.horizon / self.seconds_per_decision - 1e-9)
            episodes.append(
                Episode(
                    start=drive.start,
                    prompt=drive.prompt,
                    world_seed=drive.world_seed,
                    intrinsics=drive.intrinsics,
                    world_from_level=pose @ invert_pose(walker.level_from_camera()),
                    num_decisions=decisions,
                )
            )
            walkers.append(walker)
            poses.append(pose)
        num_rows = len(configs)
        return ExploreState(
            world=begun.world,
            episodes=tuple(episodes),
            walkers=tuple(walkers),
            poses=np.stack(poses),
            motion=np.zeros((num_rows, 6)),
            camera=begun.camera,
            decisions=np.zeros(num_rows, dtype=np.int64),
            distance=np.zeros(num_rows),
        )

    def advance(
        self, state: ExploreState, actions: np.ndarray, config: ExploreConfig
    ) -> tuple[ExploreState, Decision]:
        """Hold one action a row for one decision.

        Args:
            state: Left unchanged.
            actions: As `moves.read_actions` returned them.
            config: Kind of action, mapping and limits.

        Returns:
            The cameras after the decision, and what it brought.
        """
        walkers, poses = self._moved(state, actions, config)
        frames, world, latency_ms = self._drives.step_world(state.world, poses)
        path = np.concatenate([state.poses[:, None], poses], axis=1)
        ways = np.linalg.norm(np.diff(path[..., :3, 3], axis=1), axis=2)
        following = ExploreState(
            world=world,
            episodes=state.episodes,
            walkers=walkers,
            poses=poses[:, -1].copy(),
            motion=motion_of(path[:, -2], path[:, -1], self.world.fps),
            camera=frames[:, -1].copy(),
            decisions=state.decisions + 1,
            distance=state.distance + ways.sum(axis=1),
        )
        return following, Decision(
            frames=frames,
            poses=poses,
            rewards=np.zeros(state.num_rows),
            terms=({},) * state.num_rows,
            termination_reasons=("",) * state.num_rows,
            truncation_reasons=_truncation_reasons(following),
            departures=None
            if self.envelope is None
            else departures_of(state.poses, poses, self.world.fps, self.envelope),
            latency_ms=latency_ms,
        )

    def _moved(
        self, state: ExploreState, actions: np.ndarray, config: ExploreConfig
    ) -> tuple[tuple[Walker, ...], Float64[np.ndarray, "b f 4 4"]]:
        num_frames, fps = self.world.frames_per_step, self.world.fps
        if config.action == "continuous":
            poses = fly(
                state.poses,
                actions,
                way=config.max_speed / fps,
                turn=math.radians(config.max_turn_deg) / fps,
                num_frames=num_frames,
                lowest=config.lowest if self.reads_ground else -math.inf,
            )
            return state.walkers, poses
        walked = [
            walk(walker, np.asarray(action), config.keys, episode.world_from_level, num_frames)
            for walker, action, episode in zip(state.walkers, actions, state.episodes, strict=True)
        ]
        return tuple(walker for walker, _ in walked), np.stack([path for _, path in walked])

    @property
    def reads_ground(self) -> bool:
        """Whether the world carries its pictures over the ground, under which no camera may be."""
        return isinstance(self.world, WorldModel) and self.world.network.config.warp_condition


def _truncation_reasons(state: ExploreState) -> tuple[str, ...]:
    finite = state.world.latent.isfinite().flatten(1).all(1).tolist()
    return tuple(
        WORLD_FAILURE if not sound else HORIZON if made >= episode.num_decisions else ""
        for sound, made, episode in zip(finite, state.decisions, state.episodes, strict=True)
    )
