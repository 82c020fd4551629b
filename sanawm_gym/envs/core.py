"""The driving task itself: cars, cameras, the world model, rewards and clocks, row by row.

All rows of a call go through the world model together; what changes lives in a `DriveState`.

Axes: b rows, g rows of equal rules, f raw frames of a decision, o outcomes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from sanawm_gym.paths.envelope import Envelope
from sanawm_gym.vehicle import KinematicBicycle, X, Y
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.world_state import WorldState

from .commands import Command
from .config import DriveConfig
from .decision import Decision
from .drift import contrast_of, uncertainty_of
from .info import DRIFT, HORIZON, WORLD_FAILURE
from .known_motion import departures_of
from .outcomes import OUTCOMES, reason
from .reading import Reading
from .reward import RewardConfig, reward_config
from .road_filter import RoadBelief, motion_between
from .start import Start, resolve_start
from .state import DriveState, Episode, equal_rules, frame_poses
from .transition import Transition
from .worlds import Memory, World, latent_shape

MemoryT = TypeVar("MemoryT", bound=Memory)


class DriveCore:
    """Starts and advances drives in one world; holds no drive itself."""

    def __init__(self, world: World, envelope: Envelope | None = None) -> None:
        """Keep the world model, and what motion it is known to draw well."""
        self.world = world
        self.envelope = envelope
        self.can_read = world.heads is not None
        heads = world.heads
        # What the numbers vary by over all roads; nothing where nothing is read.
        self._spread = np.zeros(0) if heads is None else heads.scale.double().cpu().numpy().copy()
        self.seconds_per_decision = world.frames_per_step / world.fps
        self.latent_shape = latent_shape(world)

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
        rewards = [reward_config(config.reward, self.can_read) for config in configs]
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
        spreads = _spread_of(world)
        episodes = tuple(
            self._episode(*each)
            for each in zip(configs, rewards, starts, seeds, spreads.tolist(), strict=True)
        )
        read = self._read(world)
        belief = None if read is None else RoadBelief.begin(read)
        return DriveState(
            world=world,
            episodes=episodes,
            vehicle=np.stack([start.vehicle_state for start in starts]),
            camera=np.stack([start.frames[-1] for start in starts]),
            decisions=np.zeros(len(starts), dtype=np.int64),
            distance=np.zeros(len(starts)),
            belief=belief,
            reading=_told(episodes, read, belief),
            counts=np.zeros((len(starts), len(OUTCOMES)), dtype=np.int64),
            drift=np.zeros(len(starts)),
        )

    def advance(self, state: DriveState, command: Command) -> tuple[DriveState, Decision]:
        """Drive all rows for one decision.

        Args:
            state: Left unchanged.
            command: How the cars are driven, a row a car.

        Returns:
            The drives after the decision, and what it brought.
        """
        groups = equal_rules(state.episodes)
        paths = np.empty((state.num_rows, self.world.frames_per_step, 6))
        for rows in groups:
            bicycle = KinematicBicycle(state.episodes[rows[0]].vehicle)
            driven = command if len(groups) == 1 else command.select(rows)
            paths[rows] = driven.drive(
                bicycle, state.vehicle[rows], self.world.frames_per_step, self.world.fps
            )
        poses = frame_poses(state.episodes, paths)
        frames, world, latency_ms = self.step_world(state.world, poses)
        steps = np.diff(np.concatenate([state.vehicle[:, None], paths], axis=1), axis=1)
        read = self._read(world)
        belief = self._believe(state, paths[:, -1], read)
        following = DriveState(
            world=world,
            episodes=state.episodes,
            vehicle=paths[:, -1].copy(),
            camera=frames[:, -1].copy(),
            decisions=state.decisions + 1,
            distance=state.distance + np.hypot(steps[..., X], steps[..., Y]).sum(axis=1),
            belief=belief,
            reading=_told(state.episodes, read, belief),
            counts=np.zeros_like(state.counts),
            drift=np.zeros_like(state.drift),
        )
        spread = _spread_of(world)
        reached = np.zeros(state.counts.shape, dtype=np.bool_)
        for rows in groups:
            reached[rows] = self._judge(state, following, read, spread, rows)
        truncations = _truncation_reasons(following, np.isfinite(spread))
        # What is read off a world that has failed says nothing about the drive.
        reached[[why in (DRIFT, WORLD_FAILURE) for why in truncations]] = False
        rewards = np.zeros(state.num_rows)
        terms: list[dict[str, float]] = [{} for _ in range(state.num_rows)]
        for rows in groups:
            seen = self._transition(state, following, paths, rows)
            ended = np.asarray(reached[rows].any(axis=1))
            rewards[rows], parts = state.episodes[rows[0]].reward.score(seen, ended)
            for index, row in enumerate(rows):
                terms[row] = {name: float(part[index]) for name, part in parts.items()}
        for row in [index for index, why in enumerate(truncations) if why == WORLD_FAILURE]:
            rewards[row], terms[row] = 0.0, state.episodes[row].reward.blank()
        return following, Decision(
            frames=frames,
            poses=poses,
            rewards=rewards,
            terms=tuple(terms),
            termination_reasons=tuple(reason(row) for row in reached),
            truncation_reasons=truncations,
            departures=self._departures(state, poses),
            latency_ms=latency_ms,
        )

    def _departures(
        self, state: DriveState, poses: Float64[np.ndarray, "b f 4 4"]
    ) -> tuple[str, ...] | None:
        """Where the cars left the motion that the world knows."""
        if self.envelope is None:
            return None
        before = frame_poses(state.episodes, state.vehicle[:, None])[:, 0]
        return departures_of(before, poses, self.world.fps, self.envelope)

    def step_world(
        self, memory: MemoryT, poses: Float64[np.ndarray, "b f 4 4"]
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], MemoryT, float]:
        """Draw the next raw frames of all rows; says how long the world took [ms]."""
        world: Any = self.world
        asked = time.perf_counter()
        frames, following = world.step(memory, poses)
        return frames, following, 1000.0 * (time.perf_counter() - asked)

    def _judge(
        self,
        state: DriveState,
        following: DriveState,
        read: Reading | None,
        spread: Float64[np.ndarray, " b"],
        rows: list[int],
    ) -> Bool[np.ndarray, "g o"]:
        """Go on counting outcomes and drift in rows of equal rules.

        Args:
            state: Before the decision.
            following: After it; its counts and drift are filled in.
            read: What the newest pictures say by themselves.
            spread: Of the latent frames after it.
            rows: Which rows.

        Returns:
            Which outcomes end which drives.
        """
        episode, reading = state.episodes[rows[0]], following.reading
        if reading is not None and len(rows) < state.num_rows:
            reading = reading.select(rows)
        if episode.drift is not None:
            at_start = np.array([state.episodes[row].contrast for row in rows])
            following.drift[rows] = episode.drift.score(
                state.drift[rows],
                contrast_of(spread[rows], at_start),
                None if read is None else uncertainty_of(read.select(rows), self._spread),
                self.seconds_per_decision,
            )
        if episode.outcomes is None or reading is None:
            return np.zeros((len(rows), len(OUTCOMES)), dtype=np.bool_)
        chances = episode.outcomes.chances(reading, episode.vehicle.width)
        following.counts[rows] = episode.outcomes.count(chances, state.counts[rows])
        return episode.outcomes.reached(following.counts[rows])

    def _transition(
        self,
        state: DriveState,
        following: DriveState,
        paths: Float64[np.ndarray, "b f 6"],
        rows: list[int],
    ) -> Transition:
        """What a decision did to some rows, for their reward."""
        reading, everyone = following.reading, len(rows) == state.num_rows
        return Transition(
            before=state.vehicle if everyone else state.vehicle[rows],
            states=paths if everyone else paths[rows],
            bicycle=KinematicBicycle(state.episodes[rows[0]].vehicle),
            fps=self.world.fps,
            reading=reading if everyone or reading is None else reading.select(rows),
            picture=following.camera if everyone else following.camera[rows],
        )

    def _believe(
        self,
        state: DriveState,
        vehicle: Float64[np.ndarray, "b 6"],
        read: Reading | None,
    ) -> RoadBelief | None:
        """What is believed of the road after a decision that ends with these cars."""
        if read is None or state.belief is None:
            return None
        moved = motion_between(state.vehicle, vehicle)
        parts, order = [], []
        for rows in equal_rules(state.episodes):
            rule, own = state.episodes[rows[0]].road_filter, read.select(rows)
            parts.append(
                RoadBelief.begin(own)
                if rule is None
                else rule.follow(state.belief.select(rows), moved[rows], own, self._spread)
            )
            order += rows
        return RoadBelief.concat(parts).select([order.index(row) for row in range(len(order))])

    def _read(self, world: Memory) -> Reading | None:
        """What the world reads off its newest pictures, all rows together."""
        if not self.can_read:
            return None
        assert isinstance(self.world, WorldModel) and isinstance(world, WorldState)
        perceived = self.world.perceive(world)
        return Reading(
            mean=perceived.mean.double().cpu().numpy(),
            deviation=perceived.deviation.double().cpu().numpy(),
        )

    def _episode(
        self, config: DriveConfig, reward: RewardConfig, start: Start, seed: int, contrast: float
    ) -> Episode:
        fx, fy, cx, cy = start.intrinsics.tolist()
        return Episode(
            start=start.name,
            prompt=start.prompt,
            world_seed=seed,
            intrinsics=(fx, fy, cx, cy),
            rig=start.rig,
            vehicle=config.vehicle,
            reward=reward,
            road_filter=config.road_filter,
            outcomes=config.outcomes,
            drift=config.drift,
            contrast=contrast,
            num_decisions=math.ceil(config.horizon / self.seconds_per_decision - 1e-9),
        )

    def _start_world(self, starts: Sequence[Start], seeds: Sequence[int]) -> Memory:
        """Begin all rows, those with clips of one length together, and put them back in order."""
        by_length: dict[int, list[int]] = {}
        for row, start in enumerate(starts):
            by_length.setdefault(len(start.frames), []).append(row)
        parts: list[Any] = [
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
            return cast(Memory, parts[0])
        order = [row for rows in by_length.values() for row in rows]
        joined: Memory = type(parts[0]).concat(parts)
        return joined.select([order.index(row) for row in range(len(starts))])


def _spread_of(world: Memory) -> Float64[np.ndarray, " b"]:
    """Standard deviation of every row's newest latent frame; not finite where that is not."""
    return np.asarray(world.latent.float().flatten(1).std(dim=1).double().cpu().numpy())


def _told(
    episodes: Sequence[Episode], read: Reading | None, belief: RoadBelief | None
) -> Reading | None:
    """What is said of the road: what is believed, or the pictures alone where nothing is kept."""
    if read is None or belief is None:
        return None
    axle = np.array([episode.vehicle.rear_axle_to_center for episode in episodes])
    told = belief.told(read, axle)
    alone = np.array([episode.road_filter is None for episode in episodes])[:, None]
    return Reading(
        mean=np.where(alone, read.mean, told.mean),
        deviation=np.where(alone, read.deviation, told.deviation),
    )


def _truncation_reasons(state: DriveState, finite: Bool[np.ndarray, " b"]) -> tuple[str, ...]:
    reasons = []
    for row, episode in enumerate(state.episodes):
        if not finite[row]:
            reasons.append(WORLD_FAILURE)
        elif state.drift[row] >= 1.0:
            reasons.append(DRIFT)
        else:
            reasons.append(HORIZON if state.decisions[row] >= episode.num_decisions else "")
    return tuple(reasons)
