"""Whether the picture turns when the wheel turns: commanded against drawn yaw, decision and drive.

Drives from many start contexts follow a prescribed steering sequence: smooth, random, meandering,
so that both directions and all strengths occur. Commanded is the yaw rate of the car's exact motion
over a decision; drawn is what `sanawm_gym.motion.estimate_yaw` reads from its pictures;
sequence and figures stand in `sanawm_gym/validate/drawn_yaw.py`. Two figures come of it: yaw rates
decision by decision, and the yaw added up over a whole drive [deg], to which every decision's error
adds.

The same estimator is first measured where the truth is known, on reference video: drives of the
simulator under the same sequences, or recordings given with `--reference`. Its errors there bound
what can be seen in the generated world. Under open-loop steering a car leaves the road; the
simulator's drives go on until they are `OFF_ROAD` beyond it, where trees and houses would begin to
fly through the camera, and a drive that ends before its time is left out of the figure per drive.

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
from agreement import scatter
from curves import Curve, Panel, draw_panels
from report import Report, spread
from tqdm import tqdm

from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.validate.agreement import Pairs
from sanawm_gym.validate.drawn_yaw import (
    OFF_ROAD,
    SPEEDS,
    STEP,
    figures_of,
    growth,
    prescribed_yaw_rates,
    seen,
    steering_action,
    turned,
)
from sanawm_gym.worldmodel.contexts import list_contexts


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        drives: Drives a seed, >= 2, each from another start context as far as there are enough.
        seconds: Length of a drive [s], > 0.
        seeds: Repetitions with other noise and other steering.
        reference: Dataset folder to measure the estimator on; the simulator is driven otherwise.
        reference_drives: Drives (or recorded episodes) it is measured on, >= 1.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
        plot: PNG of the scatters of yaw rate to write; beside it, with `-drives` and `-growth` in
            their names, the scatters of yaw per drive and how its error grows.
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


def drive(
    env: gym.Env[Any, Any], seed: int, seconds: float, options: dict[str, Any]
) -> Iterator[tuple[float, float]]:
    """Follow the prescribed steering; commanded and seen yaw rate of every decision [rad/s]."""
    observation, info = env.reset(seed=seed, options=options)
    hold = float(np.clip(observation["ego"][0], *SPEEDS))
    for wanted in prescribed_yaw_rates(seed, round(seconds / STEP), STEP):
        last_frame, last_pose = observation["camera"], info["world_from_camera"]
        action = steering_action(float(observation["ego"][0]), wanted, hold)
        observation, _, terminated, truncated, info = env.step(action)
        frames = np.concatenate([last_frame[None], info["frames"]])
        poses = np.concatenate([last_pose[None], info["frame_poses"]])
        yield seen(frames, poses, info["intrinsics"], STEP)
        if terminated or truncated:
            return


def reference_drives(options: Options) -> list[Pairs]:
    """The estimator on drives of the simulator, worlds that no recording uses."""
    env = gym.make(
        "SanaWM-DriveReference-v0",
        frames_in_info=True,
        horizon=options.seconds,
        off_road_margin=OFF_ROAD,
        outcomes=OutcomeConfig(turned=np.pi, oncoming=np.inf),
    )
    bar = tqdm(range(options.reference_drives), desc="reference", unit="drive")
    return [
        np.array([*drive(env, 77_000 + index, options.seconds, {"num_vehicles": 2})])
        for index in bar
    ]


def recorded_drives(options: Options, folder: Path) -> list[Pairs]:
    """The estimator on recorded drives: those decisions from the start on in which the car moves.

    A recording steers as it does; its drives are as long as it gives them and `seconds` allows.
    """
    dataset = EpisodeDataset(folder, num_cached=1)
    chosen, count = dataset.episodes[-options.reference_drives :], round(options.seconds / STEP)
    drives = []
    for info in tqdm(chosen, desc="reference", unit="episode"):
        frames = dataset.frames(info.index)
        columns = dataset.columns(info.index, names=["c2w", "intrinsics", "speed"])
        starts = range(0, min(info.num_frames - 1, 4 * count), 4)
        moving = [start for start in starts if columns["speed"][start : start + 5].min() > 1.0]
        drives.append(
            np.array(
                [
                    seen(
                        frames[i : i + 5], columns["c2w"][i : i + 5], columns["intrinsics"][i], STEP
                    )
                    for i in moving
                ]
            ).reshape(-1, 2)
        )
    return drives


def generated_drives(options: Options, seed: int) -> list[Pairs]:
    env = gym.make(
        "SanaWM-Drive-v0",
        world=options.world,
        frames_in_info=True,
        horizon=options.seconds,
        outcomes=None,
        drift=None,
    )
    names = list_contexts(options.world)
    order = np.random.default_rng(seed).permutation(len(names))
    return [
        np.array(
            [
                *drive(
                    env,
                    1000 * seed + index,
                    options.seconds,
                    {"start": names[order[index % len(names)]]},
                )
            ]
        )
        for index in tqdm(range(options.drives), desc=f"generated, seed {seed}", unit="drive")
    ]


def measure(options: Options) -> dict[str, Any]:
    """All drives: the estimator's on reference video, and the generated ones by seed."""
    if options.reference is None:
        truth = reference_drives(options)
    else:
        truth = recorded_drives(options, options.reference)
    return {"reference": truth, **{str(s): generated_drives(options, s) for s in options.seeds}}


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    drives = measure(options)
    found = {name: figures_of(one, options.seconds) for name, one in drives.items()}
    calibration = found.pop("reference")
    rows = []
    for name, one in (
        ("reference video (estimator against truth)", [calibration]),
        (f"generated world, {len(found)} seeds", [*found.values()]),
    ):
        per_drive = [part["drive"] for part in one if part["drive"] is not None]
        cells = [name, str(sum(part["decisions"] for part in one))]
        cells += [_cell(one, key) for key in ("spearman", "slope", "median_error")]
        cells.append(str(sum(part["decisions"] for part in per_drive)))
        cells += [_cell(per_drive, key, 2) for key in ("spearman", "slope", "median_error")]
        rows.append(cells)
    generated = [pairs for seed in found for pairs in drives[seed]]
    pooled = figures_of(generated, options.seconds)["drive"]
    notes = ["Slope: drawn over commanded; mean ± deviation over seeds."]
    if pooled is not None:
        notes.append(
            f"All {pooled['decisions']} generated drives together: Spearman "
            f"{pooled['spearman']:.3f}, median error {pooled['median_error']:.2f} deg."
        )
    if options.plot is not None:
        panels = {"reference": drives["reference"], "generated": generated}
        _plot(options.plot, panels, options.seconds)
    Report(
        title="Commanded against drawn yaw",
        columns=[
            "video", "decisions", "Spearman", "slope", "median error [rad/s]",
            f"drives of {options.seconds:g} s", "Spearman", "slope", "median error [deg]",
        ],
        rows=rows,
        figures={
            "estimator": calibration,
            "generated": found,
            "generated_drives": pooled,
            "pairs": {name: np.concatenate(drives[name]).round(4) for name in found},
        },
        notes=notes,
    ).publish(options, options.out)  # fmt: skip


def _cell(figures: list[dict[str, Any]], key: str, digits: int = 3) -> str:
    return spread([one[key] for one in figures], digits) if figures else "-"


def _plot(path: Path, parts: dict[str, list[Pairs]], seconds: float) -> None:
    scatter(path, {name: np.concatenate(one) for name, one in parts.items()})
    totals = {name: turned(one, seconds) for name, one in parts.items()}
    scatter(path.with_stem(f"{path.stem}-drives"), totals, unit="deg", noun="drives")
    curves = {}
    for name, one in parts.items():
        grown = growth(one, seconds)
        curves[name] = Curve(x=grown["seconds"], y=grown["median_error"])
    panel = Panel(
        title="error of the yaw since the start", x_label="time [s]", y_label="median [deg]",
        curves=curves, level=2.0,
    )  # fmt: skip
    draw_panels(path.with_stem(f"{path.stem}-growth"), [panel])


if __name__ == "__main__":
    main(tyro.cli(Options))
