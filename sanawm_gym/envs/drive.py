"""The generated world for one car: the batched environment with a single row."""

from __future__ import annotations

from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from .actions import action_kind
from .config import RENDER_MODES, DriveConfig
from .snapshot import DriveSnapshot
from .spaces import FPS, Observation
from .vector import SanaWMDriveVectorEnv


class SanaWMDriveEnv(gym.Env[Any, Any]):
    """A car in a world that a video model draws, one decision every quarter of a second.

    ## Description
    The drive begins with a start: a short clip with a known camera, or one picture. From then on
    every picture is generated. An action moves a car with the exact equations of a kinematic
    bicycle, the camera on the car moves along, and the world model draws what it would see.
    No map, no renderer and no other simulator takes part; roads, weather and traffic are what the
    model makes of its past pictures, the prompt and the camera's path.

    ## Action space
    `Box(-1, 1, (2,), float32)`; values beyond the box are clipped, NaN is refused.

    | index | meaning | at -1 | at +1 |
    |---|---|---|---|
    | 0 | steering wheel | full lock right | full lock left (0.5 rad at the road wheels) |
    | 1 | pedals | full brake (-6 m/s^2) | full throttle (3.5 m/s^2) |

    Steering and drive follow with time constants of 0.05 s and 0.2 s. The wheels turn no further
    than 5.5 m/s^2 of lateral acceleration allow, the speed stays within 0 and 25 m/s. The numbers
    are those of the default `VehicleConfig`.

    `action` chooses another kind when the environment is made: `discrete` (15 meta-actions),
    `chunk` (k decisions at once, (k, 2)) or `waypoints` (x, y, yaw ahead, (k, 3), tracked by a
    controller); see `sanawm_gym.envs.actions`.

    ## Observation space
    `Dict` (option `observation="dict"`):

    | key | space | meaning |
    |---|---|---|
    | `camera` | `Box(0, 255, (72, 128, 3), uint8)` | newest raw frame, RGB, world's picture size |
    | `ego[0]` | 0 to 25 | speed [m/s] |
    | `ego[1]` | -0.5 to 0.5 | angle of the road wheels [rad], left positive |
    | `ego[2]` | -6 to 3.5 | acceleration [m/s^2] |
    | `ego[3]` | about -0.99 to 0.99 | yaw rate [rad/s], left positive |

    `observation="camera"` is the picture alone, `observation="latent"` a `Dict` of `ego` and
    `latent`, the newest latent frame (float32 (c, h, w), clipped to +-16).

    ## Rewards
    `reward="auto"` is `carl` in a world with heads: 0.1 a metre along the lane that is read off the
    picture, times factors between 0 and 1 for speed beyond 50 km/h, offset from the lane's middle,
    time to collision and comfort; -1 for the decision whose outcome ends the drive. Other presets
    are `metadrive`, `pdm` and `kinematic`: metres driven minus discomfort, **blind to the
    picture**, which is what `auto` means in a world without heads (the log says so once). `reward`
    also takes a `RewardConfig` or own terms. The parts stand in `info["reward_terms"]`.

    ## Start
    `start` names a context of the world, an image file, a picture or a `StartContext`; by default a
    context is drawn with the seed. The car stands at the origin heading east, at the context's
    speed. Equal seeds and actions give equal bytes on one machine.

    ## End
    `terminated` by an outcome that a world with heads reads off its pictures at three decisions in
    a row (`outcomes`, an `OutcomeConfig`): `off_road`, `wrong_way` or `collision`, the last of
    which is read poorly. `truncated` after `horizon` seconds, when what the world draws can no
    longer be trusted (`drift`, a `DriftConfig`), or when it produces numbers that are no picture
    (`world_failure`); such an end says nothing about the driver.

    ## Info
    | key | meaning |
    |---|---|
    | `time`, `distance` | since the reset [s], [m] |
    | `position`, `yaw` | of the rear axle in the episode's world frame [m], [rad] |
    | `world_from_camera` | pose of the observed picture, OpenCV axes, (4, 4) [m] |
    | `intrinsics` | fx, fy, cx, cy of the observed picture [px] |
    | `reward_terms` | named parts of the reward |
    | `termination_reason` | empty, `collision`, `off_road` or `wrong_way` |
    | `truncation_reason` | empty, `horizon`, `drift` or `world_failure` |
    | `drift_score` | how far the world has drifted; 1 ends the drive |
    | `perceived` | what a world with heads reads off the observed picture: mean and deviation of |
    |   | every one of `worldmodel.heads.QUANTITIES`; absent in worlds without heads |
    | `frames`, `frame_poses` | raw frames of the step, with `frames_in_info=True` |
    | `start`, `prompt`, `world_seed` | after a reset only |

    ## Rendering
    `rgb_array` is the newest picture (4 a second), `rgb_array_list` every raw frame since the last
    call (16 a second), `human` a window. `sanawm_gym.envs.recording.RecordVideo` writes every raw
    frame; Gymnasium's wrapper of that name keeps one picture a decision.

    ## Arguments
    The fields of `DriveConfig`, to `gymnasium.make` or in `reset(options=...)`, where they hold for
    the episode; world, device, dtype, sampler steps, observation and rendering then stay. The kind
    of action is fixed.

    ## Version history
    v0: first version.

    Args:
        config: Settings; single fields can be given by name on top.
        kwargs: Fields of `DriveConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
    }

    def __init__(self, config: DriveConfig | None = None, **kwargs: Any) -> None:
        """Load the world; see the class."""
        self._vector = SanaWMDriveVectorEnv(
            1,
            DriveConfig.from_kwargs(config, kwargs),
            autoreset_mode=AutoresetMode.DISABLED,
        )
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._actions = action_kind(self.config.action)
        self._follow()

    @property
    def config(self) -> DriveConfig:
        """Settings in force."""
        return self._vector.config

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Draws start and world; None goes on drawing.
            options: Fields of `DriveConfig` for this episode.

        Raises:
            ValueError: If an option is impossible; the episode in progress then goes on.
        """
        observations, infos = self._vector.reset_rows(seed=[seed], options=options)
        super().reset(seed=seed)
        self._follow()
        return _first(observations), infos[0]

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action: one decision (0.25 s in the bundled world), or a chunk of them.

        Raises:
            ValueError: If the action has the wrong shape or is not finite.
            ResetNeeded: Before the first reset and after the end of an episode.
        """
        observations, rewards, terminated, truncated, infos = self._vector.step_rows(
            self._actions.read(action, None)
        )
        return (
            _first(observations),
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            infos[0],
        )

    def render(self) -> Any:
        """The newest picture, every raw frame since the last call, or None (see the class)."""
        rendered = self._vector.render()
        return None if rendered is None else rendered[0]

    def close(self) -> None:
        """Close the window; the weights stay loaded for other environments."""
        self._vector.close()

    def snapshot(self) -> DriveSnapshot:
        """The drive and the random numbers to come, as a value.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._vector.snapshot()

    def restore(self, snapshot: DriveSnapshot) -> tuple[Observation, dict[str, Any]]:
        """Go back to a snapshot; what follows equals byte for byte what followed it before.

        Returns:
            Observation and info at that moment, like `reset`.

        Raises:
            ValueError: If it is not a snapshot of one row of this world.
        """
        observations, infos = self._vector.restore_rows(snapshot)
        return _first(observations), infos[0]

    def fork(self, n: int) -> SanaWMDriveVectorEnv:
        """A vector environment of n copies of this drive; see `SanaWMDriveVectorEnv.fork`."""
        return self._vector.fork(n)

    def _follow(self) -> None:
        """Show the settings of the batched environment as Gymnasium wants to see them."""
        self.render_mode = self._vector.render_mode
        self.metadata = {  # type: ignore[misc]
            key: value for key, value in self._vector.metadata.items() if key != "autoreset_mode"
        }


def _first(observations: Observation) -> Observation:
    if isinstance(observations, np.ndarray):
        return np.asarray(observations[0])
    return {name: values[0] for name, values in observations.items()}
