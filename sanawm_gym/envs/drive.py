"""The generated world for one car: the batched environment with a single row."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from .config import DriveConfig
from .scalar import ScalarEnv
from .snapshot import DriveSnapshot
from .vector import SanaWMDriveVectorEnv


class SanaWMDriveEnv(ScalarEnv[DriveConfig, DriveSnapshot]):
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
    | `raw_frame` | index of the observed picture among the raw frames, 0 at the start |
    | `decision_seconds` | length of a decision [s] |
    | `position`, `yaw` | of the rear axle in the episode's world frame [m], [rad] |
    | `world_from_camera` | pose of the observed picture, OpenCV axes, (4, 4) [m] |
    | `intrinsics` | fx, fy, cx, cy of the observed picture [px] |
    | `reward_terms` | named parts of the reward |
    | `termination_reason` | empty, `collision`, `off_road` or `wrong_way` |
    | `truncation_reason` | empty, `horizon`, `drift` or `world_failure` |
    | `drift_score` | how far the world has drifted; 1 ends the drive |
    | `perceived` | what a world with heads reads off its pictures, put together with the motion |
    |   | (`road_filter`): mean and deviation of every one of `worldmodel.heads.QUANTITIES` |
    | `frames`, `frame_poses` | raw frames of the step, with `frames_in_info=True` |
    | `latency_ms` | wall time of the world's step, with `latency_in_info=True` |
    | `departures` | where the step left the motion that the world knows; only with `envelope` |
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

    def __init__(self, config: DriveConfig | None = None, **kwargs: Any) -> None:
        """Load the world; see the class."""
        super().__init__(
            SanaWMDriveVectorEnv(1, config, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        )
