"""Whether the ground comes as fast as the car drives: commanded against drawn speed.

Drives from many start contexts hold a prescribed speed on a gently winding path; how the speed of
the drawn ground is read stands in `sanawm_gym/validate/drawn_speed.py`. How far that can be trusted
is measured in the same run on reference video, where the true factor is 1: as it is, and softened
as generated pictures are.

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
from report import Report
from tqdm import tqdm

from sanawm_gym.validate.drawn_speed import (
    FACTORS,
    SPEEDS,
    Drive,
    best_factor,
    figures_of,
    holding_action,
    is_steady,
    products,
    softened,
)
from sanawm_gym.worldmodel.contexts import list_contexts

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


def drive(
    env: gym.Env[Any, Any],
    seed: int,
    hold: float,
    seconds: float,
    options: dict[str, Any],
    softness: Sequence[float],
) -> list[Drive] | None:
    """Hold a speed; what is read from the video so softened. None when nothing was measured."""
    step = 0.25
    phase = np.random.default_rng([seed, 0x5BEED]).uniform(0, 2 * np.pi)
    observation, info = env.reset(seed=seed, options=options)
    total, speeds = np.zeros((len(softness), 3, len(FACTORS))), []
    for decision in range(round(seconds / step)):
        frame, pose = observation["camera"], info["world_from_camera"]
        action = holding_action(float(observation["ego"][0]), hold, decision * step, phase)
        observation, _, terminated, truncated, info = env.step(action)
        way = np.linalg.norm(info["world_from_camera"][:3, 3] - pose[:3, 3]) / step
        if is_steady(way, hold, decision * step):
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
