"""What is seen and said of a camera: observations and infos.

Infos hold no wall-clock values unless asked to: equal seeds and actions give equal infos.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from sanawm_gym.envs.decision import Decision
from sanawm_gym.envs.spaces import LATENT_BOUND, Observation, camera_space

from .config import ExploreConfig
from .core import ExploreCore
from .moves import motion_space
from .state import ExploreState


def observation_space(config: ExploreConfig, core: ExploreCore) -> spaces.Space[Any]:
    """Observation space of one camera, by `ExploreConfig.observation`."""
    camera = camera_space(core.world.height, core.world.width)
    if config.observation == "camera":
        return camera
    motion = motion_space(config.max_speed, config.max_turn_deg)
    if config.observation == "dict":
        return spaces.Dict({"camera": camera, "motion": motion})
    latent = spaces.Box(-LATENT_BOUND, LATENT_BOUND, core.latent_shape, np.float32)
    return spaces.Dict({"latent": latent, "motion": motion})


def observe(state: ExploreState, config: ExploreConfig) -> Observation:
    """Observations of all rows, as fresh arrays."""
    if config.observation == "camera":
        return np.array(state.camera)
    space = motion_space(config.max_speed, config.max_turn_deg)
    motion = np.clip(state.motion.astype(np.float32), space.low, space.high)
    if config.observation == "latent":
        latent = np.nan_to_num(state.latent(), posinf=LATENT_BOUND, neginf=-LATENT_BOUND)
        return {"latent": np.clip(latent, -LATENT_BOUND, LATENT_BOUND), "motion": motion}
    return {"camera": state.camera.copy(), "motion": motion}


def reset_info(state: ExploreState, row: int, core: ExploreCore) -> dict[str, Any]:
    """Info of a row that has just begun, or come back from a snapshot.

    Args:
        state: Of all rows.
        row: Which one.
        core: Has the clock, and what motion the world knows.
    """
    episode = state.episodes[row]
    info = _info(state, row, core, "") | {
        "start": episode.start,
        "prompt": episode.prompt,
        "world_seed": episode.world_seed,
    }
    return info if core.envelope is None else info | {"departures": ""}


def step_info(
    state: ExploreState,
    row: int,
    core: ExploreCore,
    decision: Decision,
    index: int,
    config: ExploreConfig,
) -> dict[str, Any]:
    """Info of a row after a step.

    Args:
        state: Of all rows.
        row: Which one.
        core: Has the clock.
        decision: What the last decision brought.
        index: The row's place in it.
        config: Says whether raw frames and latency belong into it.
    """
    info = _info(state, row, core, decision.truncation_reasons[index])
    if config.frames_in_info:
        info["frames"] = np.array(decision.frames[index])
        info["frame_poses"] = np.array(decision.poses[index])
    if decision.departures is not None:
        info["departures"] = decision.departures[index]
    if config.latency_in_info:
        info["latency_ms"] = decision.latency_ms
    return info


def _info(state: ExploreState, row: int, core: ExploreCore, reason: str) -> dict[str, Any]:
    decisions = int(state.decisions[row])
    return {
        "time": decisions * core.seconds_per_decision,
        "raw_frame": decisions * core.world.frames_per_step,
        "decision_seconds": core.seconds_per_decision,
        "distance": float(state.distance[row]),
        "world_from_camera": state.poses[row].copy(),
        "intrinsics": np.array(state.episodes[row].intrinsics),
        "truncation_reason": reason,
    }
