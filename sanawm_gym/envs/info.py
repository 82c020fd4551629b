"""The info dictionary, the same for the generated and for the reference world.

It holds no wall-clock values unless asked to: equal seeds and actions give equal infos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from sanawm_gym.vehicle import YAW, X, Y

HORIZON = "horizon"
"""Truncation reason: the episode's time is up."""
WORLD_FAILURE = "world_failure"
"""Truncation reason: the world model produced numbers that are no picture."""
DRIFT = "drift"
"""Truncation reason: what the world draws can no longer be trusted, see `drift.py`."""


def step_info(
    *,
    time: float,
    raw_frame: int,
    decision_seconds: float,
    distance: float,
    vehicle_state: Float64[np.ndarray, " 6"],
    world_from_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Float64[np.ndarray, " 4"],
    reward_terms: Mapping[str, float],
    termination_reason: str = "",
    truncation_reason: str = "",
    drift_score: float = 0.0,
    perceived: Mapping[str, Mapping[str, float]] | None = None,
    frames: UInt8[np.ndarray, "f h w 3"] | None = None,
    frame_poses: Float64[np.ndarray, "f 4 4"] | None = None,
    departures: str | None = None,
    latency_ms: float | None = None,
) -> dict[str, Any]:
    """Info of one car after a reset or a step.

    Args:
        time: Time in the episode [s].
        raw_frame: Index of the observed picture among the raw frames of the episode; 0 is the
            picture it began with.
        decision_seconds: Time that one decision spans [s].
        distance: Way driven in the episode [m].
        vehicle_state: x, y [m], yaw [rad], speed, wheel angle, acceleration.
        world_from_camera: Pose of the observed picture [m].
        intrinsics: fx, fy, cx, cy of the observed picture [px].
        reward_terms: Named parts of the reward; zeros after a reset.
        termination_reason: Empty, `collision`, `off_road` or `wrong_way`.
        truncation_reason: Empty, `horizon`, `drift` or `world_failure`.
        drift_score: How far the world has drifted; 1 ends the episode.
        perceived: Mean and deviation of what is known of the road, in a world with heads.
        frames: Raw frames of the step, where asked for.
        frame_poses: `world_from_camera` of those frames [m].
        departures: Where the motion left what the world is known to draw well; None where nobody
            looked.
        latency_ms: Wall time the world took for the step, where asked for.

    Returns:
        A fresh dictionary of fresh arrays.
    """
    info: dict[str, Any] = {
        "time": float(time),
        "raw_frame": int(raw_frame),
        "decision_seconds": float(decision_seconds),
        "distance": float(distance),
        "position": np.array(vehicle_state[[X, Y]]),
        "yaw": float(vehicle_state[YAW]),
        "world_from_camera": np.array(world_from_camera),
        "intrinsics": np.array(intrinsics),
        "reward_terms": {name: float(value) for name, value in reward_terms.items()},
        "termination_reason": termination_reason,
        "truncation_reason": truncation_reason,
        "drift_score": float(drift_score),
    }
    if perceived is not None:
        info["perceived"] = {name: dict(reading) for name, reading in perceived.items()}
    if frames is not None and frame_poses is not None:
        info["frames"] = np.array(frames)
        info["frame_poses"] = np.array(frame_poses)
    if departures is not None:
        info["departures"] = departures
    if latency_ms is not None:
        info["latency_ms"] = float(latency_ms)
    return info


def reset_info(*, start: str, prompt: str, world_seed: int) -> dict[str, Any]:
    """What a reset says beyond `step_info`: how the episode can be begun again.

    Args:
        start: Name of the start context, path of the picture, or a word for what was given.
        prompt: Description in force.
        world_seed: Seed of the world's noise.
    """
    return {"start": start, "prompt": prompt, "world_seed": int(world_seed)}
