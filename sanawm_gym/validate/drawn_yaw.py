"""Commanded against drawn yaw: a steering sequence with everything in it, and what was drawn of it.

The sequence is smooth, random and meandering, so that both directions and all strengths occur.
Commanded is the yaw rate of the car's exact motion over a decision; drawn is what
`sanawm_gym.motion.estimate_yaw` reads from its pictures. Two figures come of it: yaw rates decision
by decision, and the yaw added up over a whole drive [deg], to which every decision's error adds.

Axes: n decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sanawm_gym.motion import CarCamera, estimate_yaw
from sanawm_gym.validate.agreement import Pairs, agreement
from sanawm_gym.vehicle import VehicleConfig

PERIODS = (2.5, 6.0)
"""Shortest and longest period of the swings [s]."""
YAW_RATE = 0.2
"""Root mean square of the wanted yaw rate [rad/s]."""
LATERAL = 3.0
"""Greatest lateral acceleration wanted [m/s^2]."""
SPEEDS = (5.0, 12.0)
"""Speeds are held within these [m/s]."""
OFF_ROAD = 4.0
"""How far beyond the road's edge the simulator's drives go on [m]."""
STEP = 0.25
"""Time of a decision [s]."""


def prescribed_yaw_rates(seed: int, num: int, step: float) -> Float[np.ndarray, " n"]:
    """A smooth random sequence: three swings of random periods and phases [rad/s]."""
    rng = np.random.default_rng([seed, 0x57EE])
    periods, phases = rng.uniform(*PERIODS, 3), rng.uniform(0, 2 * np.pi, 3)
    time = step * np.arange(num)[:, None]
    swings = np.sin(2 * np.pi * time / periods + phases)
    return np.asarray(YAW_RATE * np.sqrt(2 / 3) * swings.sum(axis=1))


def steering_action(speed: float, wanted: float, hold: float) -> NDArray[np.float32]:
    """Action that turns at a wanted yaw rate [rad/s] and holds a speed [m/s].

    Args:
        speed: Of the car [m/s].
        wanted: Yaw rate, cut down to a lateral acceleration of `LATERAL`.
        hold: Speed to be held.
    """
    vehicle, speed = VehicleConfig(), max(speed, 1.0)
    rate = np.clip(wanted, -LATERAL / speed, LATERAL / speed)
    steer = np.arctan(vehicle.wheelbase * rate / speed) / vehicle.max_steer
    return np.asarray(np.clip([steer, 0.3 * (hold - speed)], -1, 1), dtype=np.float32)


def seen(frames: Any, poses: Any, intrinsics: Any, seconds: float) -> tuple[float, float]:
    """True and estimated yaw rate over a clip [rad/s]."""
    ahead = poses[:, :3, 2]  # the camera's forward axis in the world
    heading = np.arctan2(ahead[:, 1], ahead[:, 0])
    turn = (heading[-1] - heading[0] + np.pi) % (2 * np.pi) - np.pi
    camera = CarCamera(
        intrinsics=tuple(float(value) for value in intrinsics),  # type: ignore[arg-type]
        pitch=float(np.arcsin(np.clip(-ahead[0, 2], -1.0, 1.0))),
        height=max(0.5, float(poses[0, 2, 3])),  # the ground of every world lies at z = 0
    )
    way = float(np.linalg.norm(poses[-1, :3, 3] - poses[0, :3, 3]))
    return turn / seconds, estimate_yaw(frames, camera, advance=way) / seconds


def turned(drives: list[Pairs], seconds: float) -> Pairs:
    """Yaw [deg] of the first `seconds` of every drive that lasted as long, commanded and drawn."""
    count = round(seconds / STEP)
    lasted = [
        np.degrees(STEP * pairs[:count].sum(axis=0)) for pairs in drives if len(pairs) >= count
    ]
    return np.array(lasted).reshape(-1, 2)


def growth(drives: list[Pairs], seconds: float) -> dict[str, list[float]]:
    """Median error of the yaw per drive [deg] after ever longer times [s]."""
    found: dict[str, list[float]] = {"seconds": [], "median_error": [], "drives": []}
    for time in STEP * np.unique(np.linspace(0, seconds / STEP, 11)[1:].round().clip(1)):
        totals = turned(drives, time)
        if len(totals):
            found["seconds"].append(float(time))
            found["median_error"].append(float(np.median(np.abs(totals[:, 1] - totals[:, 0]))))
            found["drives"].append(len(totals))
    return found


def figures_of(drives: list[Pairs], seconds: float) -> dict[str, Any]:
    """Agreement by decision [rad/s] and by drive [deg]."""
    totals = turned(drives, seconds)
    found: dict[str, Any] = agreement(np.concatenate(drives))
    found["drive"] = agreement(totals) if len(totals) > 1 else None
    found["growth"] = growth(drives, seconds)
    found["totals"] = totals.round(3)
    return found
