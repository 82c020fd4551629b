"""A free camera in a generated world: the batched environment with a single row."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from sanawm_gym.envs.scalar import ScalarEnv

from .config import ExploreConfig
from .state import ExploreSnapshot
from .vector import SanaWMExploreVectorEnv


class SanaWMExploreEnv(ScalarEnv[ExploreConfig, ExploreSnapshot]):
    """A camera with six degrees of freedom in a world that a video model draws.

    ## Description
    An episode begins with a start context or a picture, as a drive does. From then on an action
    moves the camera exactly, and the world model draws what it would see. What it draws well is
    what it was trained on: the bundled world knows cars on level roads and little else
    (docs/camera_paths.md shows what becomes of other motion), the released SANA-WM walking pace
    (docs/official.md). A decision lasts 0.25 s in the bundled world, a chunk of 1.5 s in the
    released one.

    ## Action space
    `action="continuous"`: `Box(-1, 1, (6,), float32)`, velocities in the camera's own axes, held
    for a decision; values beyond the box are clipped, NaN is refused.

    | index | at +1 |
    |---|---|
    | 0, 1, 2 | `max_speed` (8 m/s) forward, to the left, up |
    | 3, 4, 5 | `max_turn_deg` (20 deg/s): turn left, tilt up, roll right |

    `action="keys"`: `MultiDiscrete([3, 3, 3, 3])`, held keys out of the pairs W/S, A/D, I/K and
    J/L: 0 neither, 1 the first, 2 the second. `action="key"`: `Discrete(9)`, none or one of
    W S A D I K J L. `mapping` says what they do (`release-2`: A and D turn, J and L slide); the
    camera stays upright and level.

    ## Observation space
    `Dict` (option `observation="dict"`):

    | key | space | meaning |
    |---|---|---|
    | `camera` | `Box(0, 255, (72, 128, 3), uint8)` | newest raw frame, RGB, world's picture size |
    | `motion` | `Box(..., (6,), float32)` | velocity by the axes of actions [m/s, rad/s] |

    `observation="camera"` is the picture alone, `observation="latent"` a `Dict` of `motion` and
    `latent`, the newest latent frame.

    ## Rewards
    Always 0. Wrap the environment to pay for what you look for; `info` has the exact pose.

    ## Start
    As in `SanaWM-Drive-v0`, with the same draw of context and world by the seed. In worlds that
    read the ground the camera is held `lowest` (0.3 m) above it.

    ## End
    `terminated` is always False. `truncated` after `horizon` seconds, or when the world model
    produces numbers that are no picture; `info["truncation_reason"]` is `horizon` or
    `world_failure`.

    ## Info
    | key | meaning |
    |---|---|
    | `time`, `distance` | since the reset [s], [m] |
    | `raw_frame`, `decision_seconds` | index of the observed raw frame; length of a decision [s] |
    | `world_from_camera` | pose of the observed picture, OpenCV axes, (4, 4) [m] |
    | `intrinsics` | fx, fy, cx, cy of the observed picture [px] |
    | `truncation_reason` | empty, `horizon` or `world_failure` |
    | `departures` | where the step left what the world knows; see `envelope` |
    | `latency_ms` | wall time that the world took [ms], with `latency_in_info=True` |
    | `frames`, `frame_poses` | raw frames of the decision, with `frames_in_info=True` |
    | `start`, `prompt`, `world_seed` | after a reset only |

    ## Rendering
    As in `SanaWM-Drive-v0`: `rgb_array`, `rgb_array_list`, `human`.

    ## Arguments
    The fields of `ExploreConfig`, to `gymnasium.make`; `start`, `prompt`, `intrinsics`, `rig` and
    `horizon` also in `reset(options=...)`, where they hold for the episode.

    ## Version history
    v0: first version.

    Args:
        config: Settings; single fields can be given by name on top.
        kwargs: Fields of `ExploreConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    def __init__(self, config: ExploreConfig | None = None, **kwargs: Any) -> None:
        """Load the world; see the class."""
        super().__init__(
            SanaWMExploreVectorEnv(1, config, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        )
