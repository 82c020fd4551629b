"""Starts that both worlds share: the reference world rolls for a second, the other one goes on.

During the lead-in the good driver steers and the pedals are left alone, so at its end the car has a
speed, a wheel angle and no acceleration. That is all a start context can say about a car: from
there on the same actions move the car in both worlds alike, and whatever differs is drawn or read
differently.

Axes: f raw frames, k decisions of the lead-in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float32, Float64, UInt8

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.camera import CameraRig, Intrinsics, fit_image
from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.geometry import relative_poses
from sanawm_gym.vehicle import SPEED, STEER
from sanawm_gym.worldmodel.contexts import StartContext

LEAD = 4
"""Decisions before the start, 1 s."""
SLOWEST = 2.0
"""A world whose drive would begin slower than this [m/s] is passed over: nothing moves there."""
_TRIES = 10
"""Worlds looked at for every start that is wanted, at most."""


@dataclass(frozen=True, kw_only=True)
class SharedStart:
    """One moment from which both worlds begin."""

    world_seed: int
    """Of the reference world."""
    lead: Float32[np.ndarray, "k 2"]
    """Actions that lead to it."""
    context: StartContext
    """What the generated world begins from: the last second."""
    rig: CameraRig
    """Camera mount of that world."""
    poses: Float64[np.ndarray, "f 4 4"]
    """world_from_camera of the context's frames in the reference world [m]."""


class ReferenceDrive:
    """The reference world, one drive after the other, each from a shared start.

    Args:
        horizon: Length of the longest drive of the whole report [s]. The road is as long as the
            horizon asks for, so every drive of a report is made with the same one.
        frames: Whether all raw frames are wanted.
        endings: Whether what happens ends a drive; otherwise it goes on.
        reward: Preset of the reward.
    """

    def __init__(
        self, *, horizon: float, frames: bool, endings: bool, reward: str = "auto"
    ) -> None:
        self._env = gym.make(
            "SanaWM-DriveReference-v0",
            horizon=horizon + LEAD / 4,
            frames_in_info=frames,
            outcomes=OutcomeConfig() if endings else None,
            reward=reward,
            disable_env_checker=True,
        )
        self.env: Any = self._env.unwrapped
        self.observation: dict[str, Any] = {}
        self.info: dict[str, Any] = {}

    def reset(self, world_seed: int) -> None:
        """Begin in a world, before any lead-in."""
        self.observation, self.info = self._env.reset(
            seed=world_seed % 2**31, options={"world_seed": world_seed}
        )

    def begin(self, start: SharedStart) -> None:
        """Begin at a shared start."""
        self.reset(start.world_seed)
        for action in start.lead:
            self.step(action)

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """Take an action; the reward, and whether the drive is over."""
        self.observation, reward, terminated, truncated, self.info = self._env.step(action)
        return float(reward), bool(terminated or truncated)

    @property
    def is_off_road(self) -> bool:
        """Whether every corner of the car is beyond the edge of the road, as the rules count."""
        return bool(self.env.world.outside() > self.env.config.off_road_margin)


def find_starts(count: int, first_seed: int, horizon: float) -> list[SharedStart]:
    """Shared starts in worlds counted up from a seed.

    Worlds are passed over in which the second before the start does not go by in peace.

    Args:
        count: How many, >= 1.
        first_seed: Seed of the first world, >= 0.
        horizon: Length of the longest drive from them [s].
    """
    drive = ReferenceDrive(horizon=horizon, frames=True, endings=True)
    found: list[SharedStart] = []
    for world_seed in range(first_seed, first_seed + _TRIES * count):
        start = _lead_in(drive, world_seed)
        if start is not None:
            found.append(start)
        if len(found) == count:
            return found
    raise ValueError(
        f"world_seed: got {first_seed}, where only {len(found)} of {_TRIES * count} worlds can be "
        f"begun in; expected {count}; give another seed"
    )


def _lead_in(drive: ReferenceDrive, world_seed: int) -> SharedStart | None:
    drive.reset(world_seed)
    prompt = drive.info["prompt"]
    frames = [drive.observation["camera"][None]]
    poses = [drive.info["world_from_camera"][None]]
    actions = []
    for _ in range(LEAD):
        steer = float(drive.env.expert_action()[0])
        actions.append(np.array([steer, 0.0], dtype=np.float32))
        _, over = drive.step(actions[-1])
        if over:
            return None
        frames.append(drive.info["frames"])
        poses.append(drive.info["frame_poses"])
    path, state = np.concatenate(poses), drive.env.world.state
    if state[SPEED] < SLOWEST:
        return None
    pictures = np.concatenate(frames)
    fx, fy, cx, cy = drive.info["intrinsics"].tolist()
    return SharedStart(
        world_seed=world_seed,
        lead=np.stack(actions),
        context=StartContext(
            name=f"reference-{world_seed}",
            frames=pictures,
            poses=relative_poses(path),
            intrinsics=Intrinsics(fx, fy, cx, cy, pictures.shape[2], pictures.shape[1]),
            caption=prompt,
            speed=float(state[SPEED]),
            steer=float(state[STEER]),
            camera_height=float(path[-1, 2, 3]),
        ),
        rig=drive.env.world.renderer.rig,
        poses=path,
    )


def fitted(
    frames: UInt8[np.ndarray, "f h w 3"], start: SharedStart, width: int, height: int
) -> tuple[UInt8[np.ndarray, "f height width 3"], np.ndarray]:
    """Reference pictures and their lens as a world of another picture size would see them."""
    pictures, lens = fit_image(frames, start.context.intrinsics, width, height)
    return pictures, lens.as_array()
