"""Whether the ground comes as fast as the car drives: commanded against drawn speed.

Drives from many start contexts hold a prescribed speed on a gently winding path. Over every quarter
of a second the first picture is carried over the ground plane to the pose of the last one, with the
way between the two scaled by a factor; the factor under which the ground looks most like what was
drawn says how much faster or slower than commanded it moved. A factor of 0 is a ground that stands
still in the picture. A road has little to hold on to, so the correlations of all factors are taken
over the whole drive before the best one is chosen, and the figure of a drive is one factor.

How far that can be trusted is measured in the same run on reference video, where the true factor is
1: as it is, and softened as generated pictures are. That matters. An earlier form of this estimator
took the fine detail first and carried it afterwards; it was right on sharp video (0.96) and read
0.89 and 0.79 on the same video softened by 1 and 2 px, because carrying magnifies what is near.

    python benchmarks/drawn_speed.py --out results/drawn_speed.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from report import Report
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from tqdm import tqdm

from sanawm_gym.vehicle import VehicleConfig
from sanawm_gym.worldmodel.contexts import list_contexts
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
SOFTNESS = (0.0, 1.0, 2.0)
"""Deviations of the Gaussians that soften reference video [px]."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        drives: Drives a seed, >= 2, from the slowest to the fastest speed.
        seconds: Length of a drive [s], beyond the 3 s it takes to reach its speed.
        seeds: Repetitions with other noise and other starts.
        reference_drives: Drives of the simulator that the estimator is measured on, >= 2.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    world: str = "drive"
    drives: int = 16
    seconds: float = 13.0
    seeds: tuple[int, ...] = (0, 1, 2)
    reference_drives: int = 16
    threads: int = 1
    out: Path | None = None


@dataclass(frozen=True)
class Drive:
    """What one drive showed."""

    speed: float
    """Mean commanded speed of what was measured [m/s]."""
    factor: float
    """Drawn over commanded speed."""


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


def drive(
    env: gym.Env[Any, Any],
    seed: int,
    hold: float,
    seconds: float,
    options: dict[str, Any],
    softness: Sequence[float],
) -> list[Drive] | None:
    """Hold a speed; what is read from the video so softened. None when nothing was measured."""
    step, vehicle = 0.25, VehicleConfig()
    phase = np.random.default_rng([seed, 0x5BEED]).uniform(0, 2 * np.pi)
    observation, info = env.reset(seed=seed, options=options)
    total, speeds = np.zeros((len(softness), 3, len(FACTORS))), []
    for decision in range(round(seconds / step)):
        frame, pose = observation["camera"], info["world_from_camera"]
        speed = max(float(observation["ego"][0]), 1.0)
        rate = SWING * np.sin(2 * np.pi * decision * step / 6.0 + phase)
        steer = np.arctan(vehicle.wheelbase * rate / speed) / vehicle.max_steer
        action = np.clip([steer, 0.5 * (hold - speed)], -1, 1).astype(np.float32)
        observation, _, terminated, truncated, info = env.step(action)
        way = np.linalg.norm(info["world_from_camera"][:3, 3] - pose[:3, 3]) / step
        if decision * step >= SETTLE and abs(way - hold) < 0.15 * hold:
            poses = np.stack([pose, info["world_from_camera"]])
            for sums, sigma in zip(total, softness, strict=True):
                pictures = (softened(x, sigma) for x in (frame, observation["camera"]))
                sums += products(*pictures, poses, info["intrinsics"])
            speeds.append(way)
        if terminated or truncated:
            break
    if len(speeds) < 4:
        return None
    return [Drive(float(np.mean(speeds)), best_factor(sums)) for sums in total]


def drives_of(
    env: gym.Env[Any, Any],
    options: Options,
    count: int,
    seed: int,
    starts: list[dict[str, Any]],
    softness: Sequence[float] = (0.0,),
) -> list[list[Drive]]:
    """Drives from the slowest to the fastest, a list for every softness."""
    speeds = np.linspace(*SPEEDS, count)
    bar = tqdm(speeds, desc=f"{env.spec.id if env.spec else ''} seed {seed}", unit="drive")
    found = [
        drive(env, 1000 * seed + i, hold, options.seconds, starts[i % len(starts)], softness)
        for i, hold in enumerate(bar)
    ]
    return [list(one) for one in zip(*(one for one in found if one is not None), strict=True)]


def figures_of(drives: list[Drive]) -> dict[str, float]:
    factors = np.array([one.factor for one in drives])
    speeds = np.array([one.speed for one in drives])
    return {
        "median_factor": float(np.median(factors)),
        "median_error": float(np.median(np.abs(factors - 1))),
        "within_10_percent": float(np.mean(np.abs(factors - 1) <= 0.1)),
        "spearman": float(spearmanr(speeds, speeds * factors)[0]),
        "drives": len(drives),
    }


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    reference = gym.make("SanaWM-DriveReference-v0", horizon=options.seconds)
    worlds = [{"num_vehicles": 0, "world_seed": 900_030_000_000 + i} for i in range(999)]
    truth = drives_of(reference, options, options.reference_drives, 0, worlds, SOFTNESS)
    env = gym.make(
        "SanaWM-Drive-v0",
        world=options.world,
        horizon=options.seconds,
        outcomes=None,
        drift=None,
    )
    names = list_contexts(options.world)
    generated = {}
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(len(names))
        starts = [{"start": names[i]} for i in order]
        (generated[seed],) = drives_of(env, options, options.drives, seed, starts)
    videos = ["reference video", *(f"the same, softened by {x:g} px" for x in SOFTNESS[1:])]
    found = {name: [figures_of(one)] for name, one in zip(videos, truth, strict=True)}
    found["generated world"] = [figures_of(one) for one in generated.values()]
    keys = ("median_factor", "median_error", "within_10_percent", "spearman")
    rows = []
    for name, figures in found.items():
        cells = []
        for key in keys:
            values = [one[key] for one in figures]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        rows.append([name, str(sum(one["drives"] for one in figures)), *cells])
    Report(
        title="Commanded against drawn speed",
        columns=["video", "drives", *(key.replace("_", " ") for key in keys)],
        rows=rows,
        figures={
            **found,
            "pairs": {
                str(seed): [(one.speed, one.factor) for one in drives]
                for seed, drives in {"reference": truth[0], **generated}.items()
            },
        },
        notes=["Factor: drawn over commanded speed of a drive; mean ± deviation over seeds."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
