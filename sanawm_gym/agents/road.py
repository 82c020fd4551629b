"""What a scripted driver knows of the road, read off the infos of the environment.

Generated worlds with heads say what their pictures show (`info["perceived"]`), the reference world
says what is so (`info["truth"]`). The names are the same, so one driver drives in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from sanawm_gym.agents.policy import Infos, Observation

FREE_DISTANCE = 100.0
"""Distance of a vehicle ahead that stands for none [m]."""
_NAMES = ("lane_offset", "heading_error", "curvature_ahead", "lead_distance", "lead_speed")


@dataclass(frozen=True, kw_only=True)
class Road:
    """State of every car on its road, one row a car."""

    speed: Float64[np.ndarray, " b"]
    """Of the car [m/s]."""
    lane_offset: Float64[np.ndarray, " b"]
    """Rear axle to the middle of its lane [m], + left of it."""
    heading_error: Float64[np.ndarray, " b"]
    """Heading against the lane [rad], + turned left."""
    curvature_ahead: Float64[np.ndarray, " b"]
    """Mean over the next 20 m [1/m], + left."""
    lead_distance: Float64[np.ndarray, " b"]
    """Bumper to bumper to the vehicle ahead [m]; `FREE_DISTANCE` if there is none."""
    lead_speed: Float64[np.ndarray, " b"]
    """Speed at which that gap shrinks [m/s]; 0 if there is none."""


def read_road(observation: Observation, infos: Infos | None) -> Road:
    """The road under every car.

    Args:
        observation: Its `ego` holds the speed.
        infos: One dictionary a row, of the last reset or step.

    Raises:
        ValueError: If the infos hold neither what is perceived nor the truth.
    """
    speed = np.asarray(observation["ego"])[:, 0].astype(np.float64)
    if infos is None or len(infos) != len(speed):
        raise ValueError(
            f"driver: got {'no infos' if infos is None else f'{len(infos)} infos'} for "
            f"{len(speed)} cars, expected one a car: this driver reads the road off them; call "
            "act(observation, infos)"
        )
    rows = np.array([[_readings(info)[name] for name in _NAMES] for info in infos], np.float64)
    return Road(speed=speed, **dict(zip(_NAMES, rows.T, strict=True)))


def _readings(info: Mapping[str, Any]) -> dict[str, float]:
    if "truth" in info:
        return {name: float(info["truth"][name]) for name in _NAMES}
    if "perceived" not in info:
        raise ValueError(
            "driver: got infos without 'perceived' and 'truth', expected one of them: this driver "
            "reads the road off them. Drive in a world with heads (`sanawm-gym train-wm heads`) or "
            "in SanaWM-DriveReference-v0, or take a driver that looks: cloned, or a trained file"
        )
    perceived = info["perceived"]
    found = {name: float(perceived[name]["mean"]) for name in _NAMES}
    if float(perceived["has_lead"]["mean"]) < 0.5:
        found |= {"lead_distance": FREE_DISTANCE, "lead_speed": 0.0}
    return found
