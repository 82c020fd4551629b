"""The reference world as an environment: what is drawn is also known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from jaxtyping import Float64, UInt8

from sanawm_gym.vehicle import X, Y

from ..config import RENDER_MODES
from ..info import HORIZON, reset_info, step_info
from ..reward import Motion, reward_terms, score
from ..screen import Screen
from ..spaces import (
    FPS,
    FRAMES_PER_DECISION,
    Observation,
    action_space,
    check_actions,
    ego_observation,
    observation_space,
)
from .caption import caption
from .config import SHARED_FIELDS, ReferenceConfig
from .renderer import HEIGHT, WIDTH
from .scene import sample_scene
from .world import START, ReferenceWorld, StartState


class ReferenceDriveEnv(gym.Env[Any, Any]):
    """A car on a simulated road whose truth is known, one decision every quarter of a second.

    ## Description
    The twin of `SanaWM-Drive-v0`: action, observation, clock, car and info are the same, but the
    pictures are drawn by a renderer from a road, objects and traffic that are known exactly. Every
    episode has a world of its own: a road of straights, clothoids and arcs (radius 15 m and more)
    with one to four lanes, HighwayEnv's drivers on it, and its own weather, hour, surroundings,
    camera height and field of view. Needs the extra `reference`.

    ## Action space
    `Box(-1, 1, (2,), float32)`: steering (+1 full left) and throttle or brake; see
    `SanaWM-Drive-v0`.

    ## Observation space
    `Dict` of `camera` (uint8 (72, 128, 3)) and `ego` (float32 (4,): speed [m/s], wheel angle
    [rad], acceleration [m/s^2], yaw rate [rad/s]); `observation="camera"` is the picture alone.

    ## Rewards
    Preset `kinematic` by default, as in `SanaWM-Drive-v0`: it does not read the truth, so that
    agents can be compared in both worlds.

    ## Start
    In a forward lane, near its middle, at a speed that suits the road; `start` sets it by hand.

    ## End
    `terminated` when the car has touched another vehicle, or when all its corners lie
    `off_road_margin` beyond the edge of the road. `truncated` after `horizon` seconds.

    ## Info
    The keys of `SanaWM-Drive-v0`, `world_seed` also being the seed of the scene, and

    | key | meaning |
    |---|---|
    | `truth` | the fields of `Truth` by name: lane offset, heading error, curvature, edges, ... |
    | `depth` | depth along the optical axis [m], inf in the sky, with `depth_in_info=True` |

    ## Arguments
    The fields of `ReferenceConfig`, to `gymnasium.make` or, save those that fix the spaces, in
    `reset(options=...)`, where they hold for the episode.

    ## Version history
    v0: first version.

    Args:
        config: Settings; single fields can be given by name on top.
        kwargs: Fields of `ReferenceConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
    }

    def __init__(self, config: ReferenceConfig | None = None, **kwargs: Any) -> None:
        """Fix the spaces; worlds are built at resets."""
        self.config = (config or ReferenceConfig()).replace(kwargs)
        self._episode = self.config
        lens = self.config.intrinsics
        height, width = (lens.height, lens.width) if lens else (HEIGHT, WIDTH)
        self.observation_space = observation_space(
            self.config.observation, height=height, width=width, vehicle=self.config.vehicle
        )
        self.action_space = action_space()
        self.render_mode = self.config.render_mode
        per_step = 1 if self.render_mode == "rgb_array" else FRAMES_PER_DECISION
        self.metadata = {  # type: ignore[misc]
            **type(self).metadata,
            "render_fps": round(FPS * per_step / FRAMES_PER_DECISION),
        }
        self._screen = Screen(self.render_mode, 1, FPS)
        self._world: ReferenceWorld | None = None
        self._picture: UInt8[np.ndarray, "h w 3"] = np.zeros((height, width, 3), np.uint8)
        self._decisions, self._distance, self._is_over = 0, 0.0, False

    @property
    def world(self) -> ReferenceWorld:
        """The drive in progress.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._world is None:
            raise ResetNeeded("got no episode yet, expected a reset first; call reset()")
        return self._world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in a world of its own.

        Args:
            seed: Draws world, traffic and start; None goes on drawing.
            options: Fields of `ReferenceConfig` for this episode.

        Raises:
            ValueError: If an option is impossible.
        """
        fixed = sorted(SHARED_FIELDS & set(options or {}))
        if fixed:
            raise ValueError(
                f"options: got {fixed}, which are fixed when the environment is made; "
                "make another one"
            )
        self._episode = self.config.replace(options or {})
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31))
        config = self._episode
        world_seed = drawn if config.world_seed is None else config.world_seed
        scene = config.scene or sample_scene(world_seed)
        if config.num_vehicles is not None:
            scene = dataclasses.replace(scene, num_vehicles=config.num_vehicles)
        world = ReferenceWorld(
            scene,
            length=config.vehicle.max_speed * config.horizon,
            seed=world_seed,
            vehicle=config.vehicle,
            intrinsics=config.intrinsics,
            rig=config.rig,
        )
        world.start(config.start or self._draw_start(world))
        self._world, self._picture = world, world.render()
        self._decisions, self._distance, self._is_over = 0, 0.0, False
        self._screen.restart(0, self._picture)
        self._screen.show()
        terms = {term.name: 0.0 for term in reward_terms(config.reward)}
        start = reset_info(start="lane", prompt=caption(scene), world_seed=world_seed)
        return self._observe(), self._info(terms) | start

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold an action for one decision (0.25 s).

        Raises:
            ValueError: If the action has the wrong shape or is not finite.
            ResetNeeded: Before the first reset and after the end of an episode.
        """
        command = check_actions(action, None).astype(np.float64)
        world, config = self.world, self._episode
        if self._is_over:
            raise ResetNeeded("step: got a finished episode, expected a reset first; call reset()")
        wants_all = config.frames_in_info or self.render_mode in ("rgb_array_list", "human")
        before, states, frames, poses = world.state, [], [], []
        for index in range(FRAMES_PER_DECISION):
            world.advance(command)
            states.append(world.state)
            if wants_all or index == FRAMES_PER_DECISION - 1:
                frames.append(world.render())
                poses.append(world.pose())
        path = np.stack(states)
        motion = Motion(before=before[None], states=path[None], bicycle=world.bicycle, fps=FPS)
        reward, parts = score(reward_terms(config.reward), motion)
        self._picture = frames[-1]
        self._decisions += 1
        steps = np.diff(np.concatenate([before[None], path]), axis=0)
        self._distance += float(np.hypot(steps[:, X], steps[:, Y]).sum())
        self._screen.extend(0, np.stack(frames))
        self._screen.show()
        terminated = world.traffic.crashed or world.outside() > config.off_road_margin
        num_decisions = math.ceil(config.horizon * FPS / FRAMES_PER_DECISION - 1e-9)
        truncated = self._decisions >= num_decisions
        self._is_over = terminated or truncated
        info = self._info(
            {name: float(part[0]) for name, part in parts.items()},
            truncation_reason=HORIZON if truncated else "",
            frames=np.stack(frames) if config.frames_in_info else None,
            frame_poses=np.stack(poses) if config.frames_in_info else None,
        )
        return self._observe(), float(reward[0]), terminated, truncated, info

    def render(self) -> Any:
        """The newest picture, every raw frame since the last call, or None (see the class)."""
        _ = self.world
        rendered = self._screen.render()
        return None if rendered is None else rendered[0]

    def close(self) -> None:
        """Close the window."""
        self._screen.close()

    def expert_action(self) -> Float64[np.ndarray, "2"]:
        """What the good driver would do now."""
        return self.world.expert_action()

    def _draw_start(self, world: ReferenceWorld) -> StartState:
        """A lane and a speed that suits the first bend."""
        rng = self.np_random
        bend = float(np.abs(world.road.curvature_at(START + np.arange(0.0, 40.0, 5.0))).max())
        speed = min(
            float(rng.uniform(0.4, 0.9)) * world.scene.speed_limit, math.sqrt(2.0 / (bend + 1e-4))
        )
        lane = int(rng.integers(4))
        return StartState(lane=lane, speed=speed, offset=float(rng.normal(0.0, 0.1)))

    def _observe(self) -> Observation:
        if self.config.observation == "camera":
            return np.asarray(self._picture.copy())
        ego = ego_observation(self.world.state[None], self.world.bicycle)[0]
        return {"camera": self._picture.copy(), "ego": ego}

    def _info(self, terms: dict[str, float], **extra: Any) -> dict[str, Any]:
        world = self.world
        info = step_info(
            time=self._decisions * FRAMES_PER_DECISION / FPS,
            distance=self._distance,
            vehicle_state=world.state,
            world_from_camera=world.pose(),
            intrinsics=world.renderer.intrinsics.as_array(),
            reward_terms=terms,
            **extra,
        )
        info["truth"] = world.truth().as_dict()
        if self._episode.depth_in_info:
            info["depth"] = world.depth()
        return info
