"""Commanded against drawn speed: an estimator on the ground plane, and how it is driven.

Over every quarter of a second the first picture is carried over the ground plane to the pose of the
last one, with the way between the two scaled by a factor; the factor under which the ground looks
most like what was drawn says how much faster or slower than commanded it moved. A factor of 0 is a
ground that stands still in the picture. A road has little to hold on to, so the correlations of all
factors are taken over the whole drive before the best one is chosen, and the figure of a drive is
one factor.

Softness matters: an earlier form took the fine detail first and carried it afterwards; it was right
on sharp video (0.96) and read 0.89 and 0.79 on the same video softened by 1 and 2 px, because
carrying magnifies what is near.

Axes: n pictures, h rows, w columns, p factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from sanawm_gym.vehicle import VehicleConfig
from sanawm_gym.worldmodel.ground_warp import warp_over_ground

FACTORS = np.linspace(0.0, 1.6, 33)
"""Of the commanded way, that are tried."""
SPEEDS = (3.0, 20.0)
"""Slowest and fastest drive [m/s]."""
SWING = 0.1
"""Greatest yaw rate [rad/s]; the picture must not be read while it turns fast."""
SETTLE = 3.0
"""Time to reach the speed [s]; nothing is measured before, nor while the speed is 15 % off."""
BORDER = 4
"""Rows and columns at the edges that are left out [px]."""
DETAIL = (2.0, 6.0)
"""Deviations of the two Gaussians between which the detail that is compared lies [px]: coarse
enough that soft pictures have it, fine enough that slow changes of light do not count."""


@dataclass(frozen=True)
class Drive:
    """What one drive showed."""

    speed: float
    """Mean commanded speed of what was measured [m/s]."""
    factor: float
    """Drawn over commanded speed."""


def holding_action(speed: float, hold: float, seconds: float, phase: float) -> NDArray[np.float32]:
    """Action of a gently winding drive at a held speed.

    Args:
        speed: Of the car [m/s].
        hold: Speed wanted [m/s].
        seconds: Since the start.
        phase: Where in its swing the drive began [rad].
    """
    vehicle, speed = VehicleConfig(), max(speed, 1.0)
    rate = SWING * np.sin(2 * np.pi * seconds / 6.0 + phase)
    steer = np.arctan(vehicle.wheelbase * rate / speed) / vehicle.max_steer
    return np.asarray(np.clip([steer, 0.5 * (hold - speed)], -1, 1), dtype=np.float32)


def is_steady(way: float, hold: float, seconds: float) -> bool:
    """Whether a decision that began so long after the start, at that speed, is measured."""
    return bool(seconds >= SETTLE and abs(way - hold) < 0.15 * hold)


def detail(pictures: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n h w"]:
    """What is neither fine grain nor slow change."""
    fine, coarse = (gaussian_filter(pictures, (0, sigma, sigma), truncate=3) for sigma in DETAIL)
    return np.asarray(fine - coarse)


def products(
    first: UInt8[np.ndarray, "h w 3"],
    last: UInt8[np.ndarray, "h w 3"],
    poses: Float[np.ndarray, "2 4 4"],
    intrinsics: Float[np.ndarray, " 4"],
) -> Float[np.ndarray, "3 p"]:
    """For every factor of the way between two pictures: m l, m m and l l, summed over the ground.

    m is the detail of the first picture after it was carried, l that of the last.
    """
    start, end = torch.from_numpy(poses[:1]), torch.from_numpy(poses[1:])
    tried = end.repeat(len(FACTORS), 1, 1)
    way = tried[:, :3, 3] - start[:, :3, 3]
    tried[:, :3, 3] = start[:, :3, 3] + way * torch.from_numpy(FACTORS)[:, None]
    tried[:, 2, 3] = end[:, 2, 3]
    picture = torch.from_numpy(first).permute(2, 0, 1)[None].float()
    lens = torch.from_numpy(np.asarray(intrinsics))[None]
    carried = warp_over_ground(picture, start, tried[None], lens)[0].mean(dim=1).numpy()
    _, _, cy = intrinsics[1:]
    pitch = np.arcsin(np.clip(-poses[1, 2, 2], -1, 1))
    horizon = cy - intrinsics[1] * np.tan(pitch)
    top = int(np.clip(horizon + 0.12 * len(last), 0, len(last) - 2 * BORDER))
    # Filtering costs most: nothing above what the wide Gaussian reaches from the ground.
    above = max(0, top - round(3 * DETAIL[1]))
    ground = (slice(None), slice(top - above, -BORDER), slice(BORDER, -BORDER))
    moved = detail(carried[:, above:])[ground]
    drawn = detail(last[None, above:].astype(np.float32).mean(axis=-1))[ground]
    pairs = ((moved, drawn), (moved, moved), (drawn, drawn))
    sums = [np.broadcast_to((a * b).sum(axis=(1, 2)), len(FACTORS)) for a, b in pairs]
    return np.stack(sums).astype(np.float64)


def best_factor(sums: Float[np.ndarray, "3 p"]) -> float:
    """Peak of the correlation, refined by the parabola through its neighbours."""
    score = sums[0] / np.sqrt(sums[1] * sums[2] + 1e-12)
    index = int(np.clip(score.argmax(), 1, len(score) - 2))
    a, b, c = score[index - 1 : index + 2]
    bend = a - 2 * b + c
    shift = 0.5 * (a - c) / bend if bend < 0 else 0.0
    return float(FACTORS[index] + np.clip(shift, -1, 1) * (FACTORS[1] - FACTORS[0]))


def softened(picture: UInt8[np.ndarray, "h w 3"], sigma: float) -> UInt8[np.ndarray, "h w 3"]:
    """A picture after a Gaussian blur [px]."""
    if not sigma:
        return picture
    soft = gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0))
    return np.asarray(soft.round(), dtype=np.uint8)


def figures_of(drives: list[Drive]) -> dict[str, float]:
    """Drawn over commanded speed of many drives."""
    factors = np.array([one.factor for one in drives])
    speeds = np.array([one.speed for one in drives])
    return {
        "median_factor": float(np.median(factors)),
        "median_error": float(np.median(np.abs(factors - 1))),
        "within_10_percent": float(np.mean(np.abs(factors - 1) <= 0.1)),
        "spearman": float(spearmanr(speeds, speeds * factors)[0]),
        "drives": len(drives),
    }
