"""Part `speed`: does the ground come as fast as the car drives?

Axes: b drives, p factors of the way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from sanawm_gym.validate.drawn_speed import (
    FACTORS,
    SETTLE,
    SPEEDS,
    Drive,
    best_factor,
    figures_of,
    holding_action,
    is_steady,
    products,
    softened,
)
from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.page import Headline, Section, picture, said, table
from sanawm_gym.validate.plots import Cloud, scatter
from sanawm_gym.validate.setup import DECISION, Setup, Unit

SOFTNESS = 1.0
"""Deviation of the Gaussian by which reference video is softened once more [px]: generated pictures
are softer than it."""
FEWEST = 4
"""Measured decisions that a drive must have to count."""
ROWS = (
    ("generated", "generated world"),
    ("reference", "reference video"),
    ("softened", f"the same, softened by {SOFTNESS:g} px"),
)


class _Reader:
    """Adds up what the pictures of one drive say."""

    def __init__(self, hold: float, softness: float = 0.0) -> None:
        self._hold, self._softness = hold, softness
        self._sums, self._speeds = np.zeros((3, len(FACTORS))), [0.0][:0]

    def add(self, at: float, pictures: Any, poses: Any, intrinsics: Any) -> None:
        """Look at a decision that began so long after the start [s]."""
        way = float(np.linalg.norm(poses[1][:3, 3] - poses[0][:3, 3])) / DECISION
        if is_steady(way, self._hold, at):
            first, last = (softened(one, self._softness) for one in pictures)
            self._sums += products(first, last, np.stack(poses), intrinsics)
            self._speeds.append(way)

    def result(self) -> list[float] | None:
        """Mean commanded speed [m/s] and factor; None when too little was measured."""
        if len(self._speeds) < FEWEST:
            return None
        return [float(np.mean(self._speeds)), best_factor(self._sums)]


def units(setup: Setup) -> list[Unit]:
    """Drives at speeds from the slowest to the fastest, one a start."""
    steps = _num_decisions(setup)
    return [
        Unit(
            name=f"speed-{numbers[0]:03d}",
            label="speed",
            weight=len(numbers) * steps * 0.09,
            work=partial(_measure, setup, numbers),
        )
        for numbers in setup.batches()
    ]


def figures(setup: Setup) -> dict[str, Any]:
    """Drawn over commanded speed, read from both worlds' pictures."""
    drives = _drives(setup)
    return {name: figures_of(one) for name, one in drives.items() if len(one) > 1}


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    keys = ("drives", "median_factor", "median_error", "within_10_percent", "spearman")
    rows = [[label, *(found[name][key] for key in keys)] for name, label in ROWS if name in found]
    clouds = [
        Cloud(
            title=label, true=np.array([drive.speed for drive in one]),
            seen=np.array([drive.speed * drive.factor for drive in one]),
            x_label="commanded speed [m/s]", y_label="drawn [m/s]",
        )
        for name, label in ROWS[:2] if (one := _drives(setup)[name])
    ]  # fmt: skip
    factor = found.get("generated", {}).get("median_factor")
    body = [
        said(
            "Drives hold speeds from 3 to 20 m/s on a gently winding way. The first picture of "
            "every quarter of a second is carried over the ground to where the last one was "
            "taken, by shares of the way between; the share under which both look most alike, "
            "over a whole drive, is drawn over commanded speed."
        ),
        table(["pictures", "drives", "median factor", "median error", "within 10 %", "Spearman"],
              rows),
    ]  # fmt: skip
    if clouds:
        body.append(picture(scatter(clouds), "Drawn over commanded speed, a point a drive."))
    return Section(
        name="speed",
        title="Speed",
        question="Does the ground come as fast as the car drives?",
        headlines=[Headline(label="speed: drawn over commanded, median", value=factor, aim="1")],
        body=body,
        limits=(
            "A road has little to hold on to, so one number a drive is all that can be read. The "
            "reference rows say how far the reader is off where the truth is 1, on sharp and on "
            "soft pictures. Reference drives that left the road before they were steady are "
            "missing."
        ),
    )


def _num_decisions(setup: Setup) -> int:
    return setup.job.num_decisions + round(SETTLE / DECISION)


def _measure(setup: Setup, batch: list[int]) -> None:
    """Drive some starts in both worlds."""
    holds = np.linspace(*SPEEDS, setup.job.num_starts)[batch].tolist()
    seeds, steps = setup.noise_seeds(batch), _num_decisions(setup)
    phases = [np.random.default_rng([seed, 0x5BEED]).uniform(0, 2 * np.pi) for seed in seeds]
    reference, found = setup.reference(endings=True), {name: [] for name, _ in ROWS}  # type: ignore[var-annotated]
    for number, hold, phase in zip(
        tqdm(batch, desc="reference, speed", leave=False), holds, phases, strict=True
    ):
        reference.begin(setup.starts[number])
        readers = _Reader(hold), _Reader(hold, SOFTNESS)
        for step in range(steps):
            observation, before = reference.observation, reference.info["world_from_camera"]
            action = holding_action(float(observation["ego"][0]), hold, step * DECISION, phase)
            _, over = reference.step(action)
            pictures = observation["camera"], reference.observation["camera"]
            poses = before, reference.info["world_from_camera"]
            for reader in readers:
                reader.add(step * DECISION, pictures, poses, reference.info["intrinsics"])
            if over:
                break
        for name, reader in zip(("reference", "softened"), readers, strict=True):
            found[name].append(reader.result())
    found["generated"] = _generated(setup, batch, holds, phases, seeds)
    setup.store.save(f"speed-{batch[0]:03d}", found)


def _generated(
    setup: Setup, batch: list[int], holds: list[float], phases: list[float], seeds: list[int]
) -> list[list[float] | None]:
    starts = [setup.starts[number] for number in batch]
    envs = GeneratedDrives(starts, seeds, setup.generated_settings())
    readers = [_Reader(hold) for hold in holds]
    for step in tqdm(range(_num_decisions(setup)), desc="generated, speed", leave=False):
        cameras = envs.observation["camera"].copy()
        poses = [info["world_from_camera"] for info in envs.infos]
        speeds = envs.observation["ego"][:, 0]
        actions = np.stack(
            [
                holding_action(float(speed), hold, step * DECISION, phase)
                for speed, hold, phase in zip(speeds, holds, phases, strict=True)
            ]
        )
        living = list(envs.living)
        envs.step(actions)
        for row in living:
            info = envs.infos[row]
            readers[row].add(
                step * DECISION,
                (cameras[row], envs.observation["camera"][row]),
                (poses[row], info["world_from_camera"]),
                info["intrinsics"],
            )
    envs.close()
    return [reader.result() for reader in readers]


def _drives(setup: Setup) -> dict[str, list[Drive]]:
    found: dict[str, list[Drive]] = {name: [] for name, _ in ROWS}
    for numbers in setup.batches():
        kept = setup.store.load(f"speed-{numbers[0]:03d}")
        for name, drives in found.items():
            drives += [Drive(*one) for one in kept[name] if one is not None]
    return found
