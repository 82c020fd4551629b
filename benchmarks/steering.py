"""Whether the picture turns when the wheel turns: commanded against drawn yaw rate, by Spearman.

Drives from many start contexts follow a prescribed steering sequence: smooth, random, meandering,
so that both directions and all strengths occur. Commanded is the yaw rate of the car's exact motion
over a decision; drawn is what `sanawm_gym.motion.estimate_yaw` reads from its pictures.
The same estimator is first measured where the truth is known, on reference video: drives of the
simulator under the same sequences, or recordings given with `--reference`. Its rank correlation
there bounds what could be seen in the generated world.

    python benchmarks/steering.py --out results/steering.json --plot results/steering.png
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from agreement import Pairs, agreement, scatter
from jaxtyping import Float
from report import Report, spread
from tqdm import tqdm

from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.motion import CarCamera, estimate_yaw
from sanawm_gym.vehicle import VehicleConfig
from sanawm_gym.worldmodel.contexts import list_contexts

PERIODS = (2.5, 6.0)
"""Shortest and longest period of the swings [s]."""
YAW_RATE = 0.2
"""Root mean square of the wanted yaw rate [rad/s]."""
LATERAL = 3.0
"""Greatest lateral acceleration wanted [m/s^2]."""
SPEEDS = (5.0, 12.0)
"""Speeds are held within these [m/s]."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        drives: Drives a seed, >= 1, each from another start context as far as there are enough.
        seconds: Length of a drive [s], > 0.
        seeds: Repetitions with other noise and other steering.
        reference: Dataset folder to measure the estimator on; the simulator is driven otherwise.
        reference_drives: Drives (or recorded episodes) it is measured on, >= 1.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
        plot: PNG of both scatters to write.
    """

    world: str = "drive"
    drives: int = 24
    seconds: float = 10.0
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: Path | None = None
    reference_drives: int = 48
    threads: int = 1
    out: Path | None = None
    plot: Path | None = None


def prescribed_yaw_rates(seed: int, num: int, step: float) -> Float[np.ndarray, " n"]:
    """A smooth random sequence: three swings of random periods and phases [rad/s]."""
    rng = np.random.default_rng([seed, 0x57EE])
    periods, phases = rng.uniform(*PERIODS, 3), rng.uniform(0, 2 * np.pi, 3)
    time = step * np.arange(num)[:, None]
    swings = np.sin(2 * np.pi * time / periods + phases)
    return np.asarray(YAW_RATE * np.sqrt(2 / 3) * swings.sum(axis=1))


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


def drive(
    env: gym.Env[Any, Any], seed: int, seconds: float, options: dict[str, Any]
) -> Iterator[tuple[float, float]]:
    """Follow the prescribed steering; commanded and seen yaw rate of every decision [rad/s]."""
    step, vehicle = 0.25, VehicleConfig()
    observation, info = env.reset(seed=seed, options=options)
    hold = float(np.clip(observation["ego"][0], *SPEEDS))
    for wanted in prescribed_yaw_rates(seed, round(seconds / step), step):
        last_frame, last_pose = observation["camera"], info["world_from_camera"]
        speed = max(float(observation["ego"][0]), 1.0)
        rate = np.clip(wanted, -LATERAL / speed, LATERAL / speed)
        steer = np.arctan(vehicle.wheelbase * rate / speed) / vehicle.max_steer
        action = np.clip([steer, 0.3 * (hold - speed)], -1, 1).astype(np.float32)
        observation, _, terminated, truncated, info = env.step(action)
        frames = np.concatenate([last_frame[None], info["frames"]])
        poses = np.concatenate([last_pose[None], info["frame_poses"]])
        yield seen(frames, poses, info["intrinsics"], step)
        if terminated or truncated:
            return


def reference_pairs(options: Options) -> Pairs:
    """The estimator on drives of the simulator, worlds that no recording uses."""
    env = gym.make("SanaWM-DriveReference-v0", frames_in_info=True, horizon=options.seconds)
    bar = tqdm(range(options.reference_drives), desc="reference", unit="drive")
    pairs = [
        pair
        for index in bar
        for pair in drive(env, 77_000 + index, options.seconds, {"num_vehicles": 2})
    ]
    return np.array(pairs)


def recorded_pairs(options: Options, folder: Path, clips: int = 16) -> Pairs:
    """The estimator on recorded drives, clips of a decision at random moments."""
    dataset, rng = EpisodeDataset(folder, num_cached=1), np.random.default_rng(0)
    chosen = dataset.episodes[-options.reference_drives :]
    pairs = []
    for info in tqdm(chosen, desc="reference", unit="episode"):
        frames = dataset.frames(info.index)
        columns = dataset.columns(info.index, names=["c2w", "intrinsics", "speed"])
        for start in 4 * rng.permutation((info.num_frames - 1) // 4)[:clips]:
            clip = slice(start, start + 5)
            if columns["speed"][clip].min() > 1.0:
                lens = columns["intrinsics"][start]
                pairs.append(seen(frames[clip], columns["c2w"][clip], lens, 4 / dataset.info.fps))
    return np.array(pairs)


def generated_pairs(options: Options, seed: int) -> Pairs:
    env = gym.make(
        "SanaWM-Drive-v0", world=options.world, frames_in_info=True, horizon=options.seconds
    )
    names = list_contexts(options.world)
    order = np.random.default_rng(seed).permutation(len(names))
    pairs = []
    for index in tqdm(range(options.drives), desc=f"generated, seed {seed}", unit="drive"):
        start = names[order[index % len(names)]]
        pairs += list(drive(env, 1000 * seed + index, options.seconds, {"start": start}))
    return np.array(pairs)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if options.reference is None:
        truth = reference_pairs(options)
    else:
        truth = recorded_pairs(options, options.reference)
    generated = {seed: generated_pairs(options, seed) for seed in options.seeds}
    calibration = agreement(truth)
    found = {seed: agreement(pairs) for seed, pairs in generated.items()}
    keys = ("spearman", "slope", "rms_error", "median_error")
    rows = [["reference video (estimator against truth)", str(len(truth))]]
    rows[0] += [f"{calibration[key]:.3f}" for key in keys]
    count = sum(len(pairs) for pairs in generated.values())
    rows.append([f"generated world, {len(found)} seeds", str(count)])
    rows[1] += [spread([one[key] for one in found.values()]) for key in keys]
    if options.plot is not None:
        everything = np.concatenate([*generated.values()])
        scatter(options.plot, {"reference": truth, "generated": everything})
    Report(
        title="Commanded against drawn yaw rate",
        columns=["video", "decisions", "Spearman", "slope", "RMS error", "median error"],
        rows=rows,
        figures={
            "estimator": calibration,
            "generated": {str(seed): one for seed, one in found.items()},
            "pairs": {str(seed): pairs.round(4) for seed, pairs in generated.items()},
        },
        notes=["Errors in rad/s; mean ± deviation over seeds."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
