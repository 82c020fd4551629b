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

from ..actions import action_kind
from ..commands import Command
from ..decision import Decision, joined
from ..generated_config import RENDER_MODES
from ..info import HORIZON, reset_info, step_info
from ..outcomes import COLLISION, OFF_ROAD, OUTCOMES, reason
from ..reading import Reading
from ..reward import reward_config
from ..screen import Screen
from ..spaces import (
    FPS,
    FRAMES_PER_DECISION,
    Observation,
    ego_observation,
    observation_space,
)
from ..transition import Transition
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
    `Box(-1, 1, (2,), float32)`: steering (+1 full left) and throttle or brake; the other kinds of
    action (`action=`) are those of `SanaWM-Drive-v0`.

    ## Observation space
    `Dict` of `camera` (uint8 (72, 128, 3)) and `ego` (float32 (4,): speed [m/s], wheel angle
    [rad], acceleration [m/s^2], yaw rate [rad/s]); `observation="camera"` is the picture alone.

    ## Rewards
    The presets of `SanaWM-Drive-v0`, `carl` by default, computed from the truth where the generated
    world has to read its pictures: the same reward scores both worlds.

    ## Start
    In a forward lane, near its middle, at a speed that suits the road; `start` sets it by hand.

    ## End
    `terminated`, with `info["termination_reason"]`, when the car has touched another vehicle
    (`collision`), when all its corners lie `off_road_margin` beyond the edge of the road
    (`off_road`), or when it has gone the wrong way for some decisions (`wrong_way`, see
    `OutcomeConfig`). `truncated` after `horizon` seconds.

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
        self._actions = action_kind(self.config.action)
        self.action_space = self._actions.space(self.config.vehicle, FRAMES_PER_DECISION / FPS)
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
        self._counts = np.zeros((1, len(OUTCOMES)), dtype=np.int64)

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
        self._counts = np.zeros_like(self._counts)
        self._screen.restart(0, self._picture)
        self._screen.show()
        terms = reward_config(config.reward, can_read=True).blank()
        start = reset_info(start="lane", prompt=caption(scene), world_seed=world_seed)
        return self._observe(), self._info(terms) | start

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action: one decision (0.25 s), or a chunk of them.

        Raises:
            ValueError: If the action has the wrong shape or is not finite.
            ResetNeeded: Before the first reset and after the end of an episode.
        """
        checked: Any = self._actions.read(action, None)
        world = self.world
        if self._is_over:
            raise ResetNeeded("step: got a finished episode, expected a reset first; call reset()")
        seconds = FRAMES_PER_DECISION / FPS
        parts: list[tuple[list[int], Decision]] = []
        for command in self._actions.commands(checked, world.state[None], [world.vehicle], seconds):
            parts.append(([0], self._decide(command)))
            self._screen.extend(0, parts[-1][1].frames[0], len(parts) > 1)
            if parts[-1][1].ended[0]:
                break
        decision = joined(parts, [0])
        self._screen.show()
        termination, truncation = decision.termination_reasons[0], decision.truncation_reasons[0]
        self._is_over = bool(termination or truncation)
        wanted = self._episode.frames_in_info
        info = self._info(
            decision.terms[0],
            termination_reason=termination,
            truncation_reason=truncation,
            frames=decision.frames[0] if wanted else None,
            frame_poses=decision.poses[0] if wanted else None,
        )
        reward = float(decision.rewards[0])
        return self._observe(), reward, bool(termination), bool(truncation), info

    def _decide(self, command: Command) -> Decision:
        """Drive one decision and judge it by the truth."""
        world, config = self.world, self._episode
        wants_all = config.frames_in_info or self.render_mode in ("rgb_array_list", "human")
        before, frames, poses = world.state[None], [], []
        path = command.drive(world.bicycle, before, FRAMES_PER_DECISION, FPS)
        for index, state in enumerate(path[0]):
            world.follow(state)
            if wants_all or index == FRAMES_PER_DECISION - 1:
                frames.append(world.render())
                poses.append(world.pose())
        self._picture = frames[-1]
        self._decisions += 1
        steps = np.diff(np.concatenate([before, path[0]]), axis=0)
        self._distance += float(np.hypot(steps[:, X], steps[:, Y]).sum())
        reading = Reading.of_truth(world.truth().as_dict())
        outcome = self._outcome(reading)
        rewards, terms = reward_config(config.reward, can_read=True).score(
            Transition(
                before=before,
                states=path,
                bicycle=world.bicycle,
                fps=FPS,
                reading=reading,
                picture=self._picture[None],
            ),
            np.array([outcome != ""]),
        )
        num_decisions = math.ceil(config.horizon * FPS / FRAMES_PER_DECISION - 1e-9)
        return Decision(
            frames=np.stack(frames)[None],
            poses=np.stack(poses)[None],
            rewards=rewards,
            terms=({name: float(part[0]) for name, part in terms.items()},),
            termination_reasons=(outcome,),
            truncation_reasons=(HORIZON if self._decisions >= num_decisions else "",),
        )

    def _outcome(self, reading: Reading) -> str:
        """Why the task is over, or an empty string."""
        config, world = self._episode, self.world
        if config.outcomes is None:
            return ""
        chances = config.outcomes.chances(reading, world.vehicle.width)
        # Known better than from the edges beside the rear axle: by every corner of the car.
        chances[0, OUTCOMES.index(COLLISION)] = world.traffic.crashed
        chances[0, OUTCOMES.index(OFF_ROAD)] = world.outside() > config.off_road_margin
        self._counts = config.outcomes.count(chances, self._counts)
        return reason(config.outcomes.reached(self._counts, sure=True)[0])

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
            raw_frame=self._decisions * FRAMES_PER_DECISION,
            decision_seconds=FRAMES_PER_DECISION / FPS,
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
