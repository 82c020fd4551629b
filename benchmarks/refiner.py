"""What the second stage is worth: the same drives with the refiner off and on.

Drives go through the generated world under one driver; its actions are then repeated with
`refine=True`. The draft goes on undisturbed under the refiner, so both show the same road, and
every difference is the refiner's. Windows of both are compared with reference video
(`picture_distance.py`: Frechet distance, sharpness), and *motion* stands beside them, the mean
difference of one picture to the next: a refiner that draws other details every time would flicker.
Time is that of a whole `env.step` in a batch of one.

Held-out reference drives are also begun from one true second and continued along their true
cameras, as in `foresight.py`: whether sharper pictures are nearer to what really came, or only
sharper. Look at the contact sheet as well: a row of drafts, the refined ones below, a picture every
two seconds.

    python benchmarks/refiner.py --out results/refiner.json --sheet results/refiner.png

Axes: b drives, f frames, h rows, w columns.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from foresight import Perception, foretell, judge, read
from jaxtyping import Float, UInt8
from PIL import Image
from report import Report, quantiles_ms
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.validate.picture_distance import Pictures, Yardstick, joined, look
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.contexts import list_contexts

PER_SECOND = 4
"""Decisions a second."""
FRAMES = 4
"""Raw frames a decision."""
WAYS = ("off", "on")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive and what to compare with.

    Attributes:
        world: World model with a refiner: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        drives: Drives, >= 2, each from another start context as far as there are enough.
        batch: Drives drawn together, >= 1.
        seconds: Length of a drive [s], the end of the last window.
        windows: Begin and end of every stretch that is compared [s], whole.
        data: Dataset folder of reference video; recorded anew when not given.
        episodes: Episodes recorded (of 20 s), or read from the end of the data, >= 2.
        starts: Starts of a reference drive to be continued, >= 1; 0 leaves this part out.
        timed: Decisions timed for the cost, >= 1.
        record_seed: Seed of the recording, one that no training used.
        threads: CPU threads of torch, >= 1.
        seed: Seed of the drives.
        out: JSON file to write.
        sheet: PNG of the contact sheet to write.
    """

    world: str = "drive"
    policy: str = "cloned"
    drives: int = 32
    batch: int = 8
    seconds: int = 60
    windows: tuple[tuple[int, int], ...] = ((0, 2), (2, 5), (5, 10), (50, 60))
    data: Path | None = None
    episodes: int = 32
    starts: int = 2
    timed: int = 20
    record_seed: int = 90003
    threads: int = 1
    seed: int = 0
    out: Path | None = None
    sheet: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is kept of one window of one drive."""

    pictures: Pictures
    motion: float
    """Mean difference of neighbouring frames, 0-255."""


def observe(autoencoder: VideoAutoencoder, frames: UInt8[np.ndarray, "f h w 3"]) -> Look:
    """Look at a window; its first frame only leads in."""
    steps = np.abs(np.diff(frames.astype(np.int16), axis=0))
    return Look(pictures=look(autoencoder, frames), motion=float(steps.mean()))


def reference(options: Options, data: Path, autoencoder: VideoAutoencoder) -> list[Look]:
    """Reference video drive by drive."""
    dataset, found = EpisodeDataset(data, num_cached=1), []
    for info in tqdm(dataset.episodes[-options.episodes :], desc="reference", unit="drive"):
        stop = (min(info.num_frames, 161) - 1) // FRAMES * FRAMES + 1
        found.append(observe(autoencoder, dataset.frames(info.index, 0, stop)))
    return found


def ride(
    options: Options, numbers: list[int], policy: Policy | None, actions: list[Any]
) -> UInt8[np.ndarray, "b f h w 3"]:
    """Frames of some drives: with a policy, which writes its actions down, or after actions."""
    refine, seeds = policy is None, [1000 * options.seed + number for number in numbers]
    names = list_contexts(options.world)
    order = np.random.default_rng(options.seed).permutation(len(names))
    envs: Any = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=len(numbers),
        world=options.world,
        refine=refine,
        frames_in_info=True,
        horizon=options.seconds + 1.0,
        outcomes=None,
        drift=None,
    )
    starts = [names[order[number % len(names)]] for number in numbers]
    observation, _ = envs.reset(seed=seeds, options={"start": starts})
    if policy is not None:
        policy.reset(seeds)
    frames = [observation["camera"][:, None]]
    for decision in tqdm(
        range(PER_SECOND * options.seconds), desc=f"drives {numbers}", leave=False
    ):
        if policy is not None:
            actions.append(policy.act(observation))
        observation, _, _, _, info = envs.step(actions[decision])
        frames.append(np.stack(info["frames"]))
    envs.close()
    return np.concatenate(frames, axis=1)


def measure_drives(
    options: Options, autoencoder: VideoAutoencoder
) -> tuple[dict[tuple[str, tuple[int, int]], list[Look]], list[UInt8[np.ndarray, "h w 3"]]]:
    """Windows of all drives by way, and the pictures of the sheet."""
    found: dict[tuple[str, tuple[int, int]], list[Look]] = defaultdict(list)
    sheet: list[UInt8[np.ndarray, "h w 3"]] = []
    rate = PER_SECOND * FRAMES
    for begin in tqdm(range(0, options.drives, options.batch), desc="generated", unit="batch"):
        numbers = list(range(begin, min(begin + options.batch, options.drives)))
        actions: list[Any] = []
        policy = load_policy(options.policy)
        # In this order: the drive with the driver fills in the actions of the one without.
        drafts = ride(options, numbers, policy, actions)
        videos = {"off": drafts, "on": ride(options, numbers, None, actions)}
        for row in range(len(numbers)):
            for way, video in videos.items():
                for first, last in options.windows:
                    span = slice(rate * first, rate * last + 1)
                    found[way, (first, last)].append(observe(autoencoder, video[row, span]))
                sheet += list(video[row, :: 2 * rate])
    return found, sheet


def measure_foresight(options: Options, data: Path) -> dict[str, dict[str, list[float]]]:
    """How far held-out drives are foretold, a list over drives each."""
    worlds = {way: shared_world(options.world, refine=way == "on") for way in WAYS}
    perceive = Perception(worlds["off"].autoencoder)
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    if not options.starts:
        return figures
    dataset = EpisodeDataset(data, num_cached=1)
    for info in tqdm(dataset.episodes[-options.episodes :], desc="foretelling", unit="drive"):
        moment = read(dataset, info.index, worlds["off"], options.starts)
        drawn = {way: [foretell(world, moment, options.seed)] for way, world in worlds.items()}
        judged = judge(moment, drawn, perceive)
        for way in WAYS:
            for key, values in judged[way].items():
                figures[way][key] += values
    return figures


def measure_cost(options: Options) -> dict[str, Float[np.ndarray, " n"]]:
    """Seconds of every `env.step` of a single drive, by way."""
    found = {}
    for way in WAYS:
        env = gym.make("SanaWM-Drive-v0", world=options.world, refine=way == "on")
        env.reset(seed=options.seed)
        spent = []
        for _ in range(options.timed + 3):
            began = time.perf_counter()
            env.step(np.zeros(2, dtype=np.float32))
            spent.append(time.perf_counter() - began)
        env.close()
        found[way] = np.array(spent[3:])
    return found


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if any(last > options.seconds for _, last in options.windows):
        raise SystemExit(f"windows {options.windows} end after the drive of {options.seconds} s")
    autoencoder = shared_world(options.world, refine=True).autoencoder
    with ExitStack() as stack:
        data = options.data
        if data is None:
            from sanawm_gym.envs.reference.record import RecordConfig, record

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            data = record(
                RecordConfig(out=folder, episodes=options.episodes, seed=options.record_seed)
            )
        references = reference(options, data, autoencoder)
        foretold = measure_foresight(options, data)
    drives, sheet = measure_drives(options, autoencoder)
    cost = measure_cost(options)
    yardstick = Yardstick.of(joined([one.pictures for one in references]))
    motion = float(np.mean([one.motion for one in references]))
    figures: dict[str, dict[str, float]] = defaultdict(dict)
    for (way, (first, last)), looks in drives.items():
        pictures, span = joined([one.pictures for one in looks]), f"{first}-{last} s"
        figures[f"distance, {span}"][way] = yardstick.distance(pictures)
        figures[f"sharpness, {span}"][way] = yardstick.statistics(pictures)["sharpness"]
        moved = float(np.mean([one.motion for one in looks]))
        figures[f"motion, {span}"][way] = moved / motion
    rows = [[name, *(f"{values[way]:.3f}" for way in WAYS)] for name, values in figures.items()]
    for key in foretold["off"]:
        rows.append([key.replace("_", " "), *(_cell(foretold[way][key]) for way in WAYS)])
    rows.append(["env.step p50 / p95 [ms]", *(quantiles_ms(list(cost[way])) for way in WAYS)])
    if options.sheet is not None:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        columns = len(range(0, PER_SECOND * FRAMES * options.seconds + 1, 2 * PER_SECOND * FRAMES))
        Image.fromarray(contact_sheet(np.stack(sheet), columns=columns)).save(options.sheet)
    floor = yardstick.floor([one.pictures for one in references], options.drives)
    Report(
        title=f"Refiner off and on, {options.drives} drives by {options.policy}",
        columns=["what", "refiner off", "refiner on"],
        rows=rows,
        figures={
            "windows": dict(figures),
            "foresight": {way: dict(foretold[way]) for way in WAYS},
            "step_ms": {way: 1e3 * cost[way] for way in WAYS},
            "floor": floor,
        },
        notes=[
            f"Reference to reference: distance {floor:.3f}, sharpness and motion 1.",
            "Below the windows: held-out drives, mean ± standard error.",
        ],
    ).publish(options, options.out)


def _cell(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {error:.3f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
