"""The driving task itself: cars, cameras, the world model, rewards and clocks, row by row.

All rows of a call go through the world model together; what changes lives in a `DriveState`.

Axes: b rows, f raw frames of a decision, h and w of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from sanawm_gym.vehicle import KinematicBicycle, X, Y
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.world_state import WorldState

from .config import DriveConfig
from .info import HORIZON, WORLD_FAILURE
from .reward import Motion, reward_terms, score
from .start import Start, resolve_start
from .state import DriveState, Episode, Readings, equal_cars, frame_poses


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What one decision brought, a row a car."""

    frames: UInt8[np.ndarray, "b f h w 3"]
    """Raw frames drawn."""
    poses: Float64[np.ndarray, "b f 4 4"]
    """`world_from_camera` of those frames [m]."""
    rewards: Float64[np.ndarray, " b"]
    """Sum of the terms."""
    terms: tuple[dict[str, float], ...]
    """Named parts of every row's reward."""
    terminations: Bool[np.ndarray, " b"]
    """Outcomes of the task. None yet: ends read off the drawn road belong in `_outcomes`."""
    reasons: tuple[str, ...]
    """Why a row was truncated; empty where it was not."""


class DriveCore:
    """Starts and advances drives in one world; holds no drive itself."""

    def __init__(self, world: WorldModel) -> None:
        """Keep the world model."""
        self.world = world
        self.seconds_per_decision = world.frames_per_step / world.fps
        cell = world.autoencoder.config.spatial_stride
        self.latent_shape = (
            world.autoencoder.config.latent_channels,
            world.height // cell,
            world.width // cell,
        )

    def start(
        self, configs: Sequence[DriveConfig], generators: Sequence[np.random.Generator]
    ) -> DriveState:
        """Begin one drive a row.

        Args:
            configs: What every row starts from.
            generators: Draw every row's context and world seed.

        Raises:
            ValueError: If a start is impossible; nothing has been computed then.
        """
        starts: list[Start] = []
        seeds: list[int] = []
        for config, generator in zip(configs, generators, strict=True):
            # The seed is drawn first: naming a start by hand does not change the world's noise.
            seeds.append(int(generator.integers(2**31)))
            starts.append(
                resolve_start(
                    config,
                    generator,
                    width=self.world.width,
                    height=self.world.height,
                    stride=self.world.frames_per_step,
                )
            )
        world = self._start_world(starts, seeds)
        return DriveState(
            world=world,
            episodes=tuple(
                self._episode(config, start, seed)
                for config, start, seed in zip(configs, starts, seeds, strict=True)
            ),
            vehicle=np.stack([start.vehicle_state for start in starts]),
            camera=np.stack([start.frames[-1] for start in starts]),
            decisions=np.zeros(len(starts), dtype=np.int64),
            distance=np.zeros(len(starts)),
            perceived=self._perceive(world),
        )

    def advance(
        self, state: DriveState, actions: Float32[np.ndarray, "b 2"]
    ) -> tuple[DriveState, Decision]:
        """Hold one action a row for one decision.

        Args:
            state: Left unchanged.
            actions: Steer and throttle/brake, in [-1, 1].

        Returns:
            The drives after the decision, and what it brought.
        """
        num_frames, fps = self.world.frames_per_step, self.world.fps
        paths = np.empty((state.num_rows, num_frames, 6))
        rewards = np.empty(state.num_rows)
        terms: list[dict[str, float]] = [{} for _ in range(state.num_rows)]
        for rows in equal_cars(state.episodes):
            episode = state.episodes[rows[0]]
            bicycle = KinematicBicycle(episode.vehicle)
            before = state.vehicle[rows]
            paths[rows] = bicycle.advance(before, actions[rows], num_frames, fps)
            motion = Motion(before=before, states=paths[rows], bicycle=bicycle, fps=fps)
            rewards[rows], parts = score(episode.terms, motion)
            for index, row in enumerate(rows):
                terms[row] = {name: float(part[index]) for name, part in parts.items()}
        poses = frame_poses(state.episodes, paths)
        frames, world = self.world.step(state.world, poses)
        steps = np.diff(np.concatenate([state.vehicle[:, None], paths], axis=1), axis=1)
        following = DriveState(
            world=world,
            episodes=state.episodes,
            vehicle=paths[:, -1].copy(),
            camera=frames[:, -1].copy(),
            decisions=state.decisions + 1,
            distance=state.distance + np.hypot(steps[..., X], steps[..., Y]).sum(axis=1),
            perceived=self._perceive(world),
        )
        decision = Decision(
            frames=frames,
            poses=poses,
            rewards=rewards,
            terms=tuple(terms),
            terminations=np.zeros(state.num_rows, dtype=np.bool_),
            reasons=_truncation_reasons(following),
        )
        return following, decision

    def _perceive(self, world: WorldState) -> tuple[Readings | None, ...]:
        """What the world reads off its newest pictures, all rows together."""
        if self.world.heads is None:
            return (None,) * world.batch_size
        return tuple(self.world.perceive(world).rows())

    def _episode(self, config: DriveConfig, start: Start, seed: int) -> Episode:
        fx, fy, cx, cy = start.intrinsics.tolist()
        return Episode(
            start=start.name,
            prompt=start.prompt,
            world_seed=seed,
            intrinsics=(fx, fy, cx, cy),
            rig=start.rig,
            vehicle=config.vehicle,
            terms=reward_terms(config.reward),
            num_decisions=math.ceil(config.horizon / self.seconds_per_decision - 1e-9),
        )

    def _start_world(self, starts: Sequence[Start], seeds: Sequence[int]) -> WorldState:
        """Begin all rows, those with clips of one length together, and put them back in order."""
        by_length: dict[int, list[int]] = {}
        for row, start in enumerate(starts):
            by_length.setdefault(len(start.frames), []).append(row)
        parts = [
            self.world.start(
                np.stack([starts[row].frames for row in rows]),
                prompts=[starts[row].prompt for row in rows],
                intrinsics=np.stack([starts[row].intrinsics for row in rows]),
                seeds=[seeds[row] for row in rows],
                poses=np.stack([starts[row].poses for row in rows]),
            )
            for rows in by_length.values()
        ]
        if len(parts) == 1:
            return parts[0]
        order = [row for rows in by_length.values() for row in rows]
        return WorldState.concat(parts).select([order.index(row) for row in range(len(starts))])


def _truncation_reasons(state: DriveState) -> tuple[str, ...]:
    finite = state.world.latent.isfinite().flatten(1).all(1).tolist()
    return tuple(
        WORLD_FAILURE if not sound else HORIZON if made >= episode.num_decisions else ""
        for sound, made, episode in zip(finite, state.decisions, state.episodes, strict=True)
    )
