"""A free camera in a generated world: the batched environment with a single row."""

from __future__ import annotations

from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from sanawm_gym.envs.config import RENDER_MODES
from sanawm_gym.envs.spaces import FPS, Observation

from .config import ExploreConfig
from .moves import read_actions
from .state import ExploreSnapshot
from .vector import SanaWMExploreVectorEnv


class SanaWMExploreEnv(gym.Env[Any, Any]):
    """A camera with six degrees of freedom in a world that a video model draws.

    ## Description
    An episode begins with a start context or a picture, as a drive does. From then on an action
    moves the camera exactly, and the world model draws what it would see. What it draws well is
    what it was trained on: the bundled world knows cars on level roads and little else
    (docs/camera_paths.md shows what becomes of other motion), the released SANA-WM walking pace.

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
    | `world_from_camera` | pose of the observed picture, OpenCV axes, (4, 4) [m] |
    | `intrinsics` | fx, fy, cx, cy of the observed picture [px] |
    | `truncation_reason` | empty, `horizon` or `world_failure` |
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

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": int(FPS),
    }

    def __init__(self, config: ExploreConfig | None = None, **kwargs: Any) -> None:
        """Load the world; see the class."""
        self._vector = SanaWMExploreVectorEnv(
            1, ExploreConfig.from_kwargs(config, kwargs), autoreset_mode=AutoresetMode.DISABLED
        )
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self.render_mode = self._vector.render_mode
        self.metadata = {  # type: ignore[misc]
            key: value for key, value in self._vector.metadata.items() if key != "autoreset_mode"
        }

    @property
    def config(self) -> ExploreConfig:
        """Settings in force."""
        return self._vector.config

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Draws start and world; None goes on drawing.
            options: See the class.

        Raises:
            ValueError: If an option is impossible; the episode in progress then goes on.
        """
        observations, infos = self._vector.reset_rows(seed=[seed], options=options)
        super().reset(seed=seed)
        return _first(observations), infos[0]

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold an action for one decision (0.25 s in the bundled world).

        Raises:
            ValueError: If the action does not fit its space.
            ResetNeeded: Before the first reset and after the end of an episode.
        """
        checked = read_actions(action, self.config.action, None)
        observations, truncated, infos = self._vector.step_rows(checked[None])
        return _first(observations), 0.0, False, bool(truncated[0]), infos[0]

    def render(self) -> Any:
        """The newest picture, every raw frame since the last call, or None (see the class)."""
        rendered = self._vector.render()
        return None if rendered is None else rendered[0]

    def close(self) -> None:
        """Close the window; the weights stay loaded for other environments."""
        self._vector.close()

    def snapshot(self) -> ExploreSnapshot:
        """The camera and the random numbers to come, as a value.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return self._vector.snapshot()

    def restore(self, snapshot: ExploreSnapshot) -> tuple[Observation, dict[str, Any]]:
        """Go back to a snapshot; what follows equals byte for byte what followed it before.

        Returns:
            Observation and info at that moment, like `reset`.

        Raises:
            ValueError: If it is not a snapshot of one row of this world.
        """
        observations, infos = self._vector.restore_rows(snapshot)
        return _first(observations), infos[0]

    def fork(self, n: int) -> SanaWMExploreVectorEnv:
        """A vector environment of n cameras that all go on from here."""
        return self._vector.fork(n)


def _first(observations: Observation) -> Observation:
    if isinstance(observations, np.ndarray):
        return np.asarray(observations[0])
    return {name: values[0] for name, values in observations.items()}
