"""Whether the generated world is still a road after a minute, judged by its pictures.

Many drives through the generated world; the pictures of their first and of their last seconds are
compared with reference video (`picture_distance.py`), and the figure is the ratio of the distances.
A finite number of drives shows a finite number of places, so even reference video is at a distance
from other reference video: this floor is measured on as many reference drives and stands in the
table, and so does the ratio of what lies above it, which is the harder figure. Look at the contact
sheet as well: one row a drive, a picture every five seconds.

    python benchmarks/drift.py --out results/drift.json --sheet results/drift.png
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from picture_distance import Pictures, Yardstick, joined, look
from PIL import Image
from report import Report
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.contexts import list_contexts

PER_SECOND = 4
"""Decisions a second."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive and what to compare with.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        drives: Drives, >= 2, each from another start context as far as there are enough.
        batch: Drives drawn together, >= 1.
        seconds: Length of a drive [s], at least twice the window.
        window: Seconds compared at either end, whole.
        data: Dataset folder of reference video; recorded anew when not given.
        episodes: Episodes recorded (of 20 s), or read from the end of the data, >= 4.
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
    window: int = 10
    data: Path | None = None
    episodes: int = 96
    record_seed: int = 90003
    threads: int = 1
    seed: int = 0
    out: Path | None = None
    sheet: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Ride:
    """What is kept of one generated drive."""

    first: Pictures
    last: Pictures
    sheet: list[UInt8[np.ndarray, "h w 3"]]
    metres: float


def reference_pictures(options: Options, autoencoder: VideoAutoencoder) -> list[Pictures]:
    """Reference video drive by drive, moments off the road left out."""
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            from sanawm_gym.envs.reference.record import RecordConfig, record

            data = record(
                RecordConfig(out=Path(folder), episodes=options.episodes, seed=options.record_seed)
            )
        dataset, found = EpisodeDataset(data, num_cached=1), []
        for info in tqdm(dataset.episodes[-options.episodes :], desc="reference", unit="drive"):
            stop = min(info.num_frames, 16 * options.window + 1)
            on_road = dataset.columns(info.index, 0, stop, ["on_road"])["on_road"][4::4]
            pictures = look(autoencoder, dataset.frames(info.index, 0, stop))
            if on_road.any():
                found.append(pictures.at(on_road.astype(bool)))
    return found


def ride(
    options: Options, policy: Policy, autoencoder: VideoAutoencoder, numbers: list[int]
) -> list[Ride]:
    """Drive some of the drives as one batch."""
    envs: Any = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=len(numbers),
        world=options.world,
        frames_in_info=True,
        horizon=options.seconds + 1.0,
    )
    names = list_contexts(options.world)
    order = np.random.default_rng(options.seed).permutation(len(names))
    seeds = [1000 * options.seed + number for number in numbers]
    starts = [names[order[number % len(names)]] for number in numbers]
    observation, _ = envs.reset(seed=seeds, options={"start": starts})
    policy.reset(seeds)
    num, width = PER_SECOND * options.seconds, PER_SECOND * options.window
    sheet = [observation["camera"]]
    ends: tuple[list[Any], list[Any]] = ([observation["camera"][:, None]], [])
    for decision in tqdm(range(num), desc=f"drives {numbers[0]}-{numbers[-1]}", leave=False):
        observation, _, _, truncated, info = envs.step(policy.act(observation))
        if truncated.any():
            failed = [numbers[row] for row in np.flatnonzero(truncated)]
            raise SystemExit(f"the world failed in drives {failed} after {decision} decisions")
        if decision < width:
            ends[0].append(info["frames"])
        if decision >= num - width - 1:
            # One frame more leads in.
            lead = decision == num - width - 1
            ends[1].append(info["frames"][:, -1:] if lead else info["frames"])
        if (decision + 1) % (5 * PER_SECOND) == 0:
            sheet.append(observation["camera"])
    first, last = (np.concatenate(parts, axis=1) for parts in ends)
    envs.close()
    return [
        Ride(
            first=look(autoencoder, first[row]),
            last=look(autoencoder, last[row]),
            sheet=[pictures[row] for pictures in sheet],
            metres=float(info["distance"][row]),
        )
        for row in range(len(numbers))
    ]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    policy = load_policy(options.policy)
    autoencoder = shared_world(options.world).autoencoder
    references = reference_pictures(options, autoencoder)
    yardstick = Yardstick.of(joined(references))
    floor = yardstick.floor(references, options.drives)
    rides: list[Ride] = []
    for begin in tqdm(range(0, options.drives, options.batch), desc="generated", unit="batch"):
        numbers = list(range(begin, min(begin + options.batch, options.drives)))
        rides += ride(options, policy, autoencoder, numbers)
    ends = [joined([one.first for one in rides]), joined([one.last for one in rides])]
    first, last = (yardstick.distance(end) for end in ends)
    plain = [yardstick.statistics(end) for end in ends]
    if options.sheet is not None:
        pictures = np.stack([picture for one in rides for picture in one.sheet])
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(contact_sheet(pictures, columns=len(rides[0].sheet))).save(options.sheet)
    above, window = (last - floor) / max(first - floor, 1e-6), options.window
    distances = [(floor, first, last, last / first), (0.0, first - floor, last - floor, above)]
    rows = [
        [name, *(f"{value:.3f}" for value in values)]
        for name, values in zip(("Frechet distance", "above the floor"), distances, strict=True)
    ]
    for key, unit in (("sharpness", "1"), ("colour_distance", "0"), ("latent_std", "1")):
        a, b = plain[0][key], plain[1][key]
        rows.append([key.replace("_", " "), unit, f"{a:.3f}", f"{b:.3f}", f"{b / a:.2f}"])
    Report(
        title=f"{options.drives} drives of {options.seconds} s by {options.policy}",
        columns=["what", "reference", f"first {window} s", f"last {window} s", "ratio"],
        rows=rows,
        figures={
            "ratio": last / first,
            "ratio_above_floor": above,
            "distance": {"floor": floor, "first": first, "last": last},
            "first": plain[0],
            "last": plain[1],
            "metres": [one.metres for one in rides],
        },
        notes=[f"Mean way {np.mean([one.metres for one in rides]):.0f} m."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
