"""From a job to a page: what is missing is measured unit by unit, then all figures are written."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import sanawm_gym
from sanawm_gym.validate import (
    determinism,
    drift,
    paired,
    perception,
    policies,
    reward,
    speed,
    steering,
    termination,
)
from sanawm_gym.validate.job import PART_NAMES, ValidateJob
from sanawm_gym.validate.page import Section, picture, render, said
from sanawm_gym.validate.plots import sheet
from sanawm_gym.validate.setup import Setup, Unit
from sanawm_gym.validate.store import FIGURES, PAGE, plain, write_text

NO_HEADS = (
    "this world has no heads, so nothing is read off its pictures; train them with "
    "`sanawm-gym train-wm heads`"
)
_SHEET_STARTS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the report."""

    units: Callable[[Setup], list[Unit]]
    """What has to be measured for it."""
    figures: Callable[[Setup], dict[str, Any]]
    """What came of it, out of what was kept."""
    section: Callable[[Setup, dict[str, Any]], Section]
    """The same on the page."""
    reads: bool = False
    """Whether it needs a world with heads."""


PARTS: dict[str, Part] = {
    "steering": Part(units=steering.units, figures=steering.figures, section=steering.section),
    "speed": Part(units=speed.units, figures=speed.figures, section=speed.section),
    "drift": Part(units=drift.units, figures=drift.figures, section=drift.section),
    "perception": Part(
        units=perception.units, figures=perception.figures, section=perception.section, reads=True
    ),
    "reward": Part(units=reward.units, figures=reward.figures, section=reward.section, reads=True),
    "termination": Part(
        units=termination.units,
        figures=termination.figures,
        section=termination.section,
        reads=True,
    ),
    "policies": Part(units=policies.units, figures=policies.figures, section=policies.section),
    "determinism": Part(
        units=determinism.units, figures=determinism.figures, section=determinism.section
    ),
}
assert tuple(PARTS) == PART_NAMES


def run(job: ValidateJob) -> Path:
    """Measure what is missing and write the report; see `validate`."""
    torch.set_num_threads(job.threads)
    setup = Setup(job)
    chosen = [name for name in PARTS if name in job.parts]
    able = [name for name in chosen if setup.has_heads or not PARTS[name].reads]
    # Asking for the units checks the drivers, before the first of them is measured.
    wanted = {unit.name: unit for name in able for unit in PARTS[name].units(setup)}
    _work(setup, list(wanted.values()))
    return write_report(setup)


def write_report(setup: Setup) -> Path:
    """Write page and figures of all that the folder holds.

    Returns:
        The page.
    """
    sections, figures, missing = [], {}, {}
    for name, part in PARTS.items():
        if part.reads and not setup.has_heads:
            missing[name] = NO_HEADS
        elif not all(setup.store.has(unit.name) for unit in part.units(setup)):
            missing[name] = f"not measured; `--parts {name}` into the same folder adds it"
        else:
            figures[name] = plain(part.figures(setup))
            sections.append(part.section(setup, figures[name]))
    shown = _pictures(setup)
    if shown is not None:
        sections.insert(0, shown)
    facts = _facts(setup)
    title = f"How near is the world {setup.job.world!r} to the reference world?"
    report = {
        "facts": facts,
        "settings": setup.settings,
        "headlines": [one.as_dict() for section in sections for one in section.headlines],
        "parts": figures,
        "left_out": missing,
    }
    folder = setup.store.folder
    write_text(folder / FIGURES, json.dumps(plain(report), indent=2, allow_nan=False) + "\n")
    page = render(title=title, facts=facts, sections=sections, missing=missing)
    write_text(folder / PAGE, page)
    _print(sections, missing)
    if "determinism" in figures:
        print(f"hash of a drive: {figures['determinism']['here']}")
    print(f"wrote {folder / PAGE}")
    return folder / PAGE


def _print(sections: list[Section], missing: dict[str, str]) -> None:
    """The table at the top of the page, as lines."""
    for section in sections:
        for one in section.headlines:
            verdict = {True: " (met)", False: " (not met)", None: ""}[one.met]
            aim = f"  aim: {one.aim}{verdict}" if one.aim else ""
            value = f"{one.value:.3f}" if isinstance(one.value, float) else one.value
            print(f"{one.label}: {'-' if value is None else value}{aim}")
    for name, why in missing.items():
        print(f"left out: {name}: {why}")


def _work(setup: Setup, units: list[Unit]) -> None:
    """Do the units that are missing, with one bar over all of them."""
    done = [unit for unit in units if setup.store.has(unit.name)]
    total, kept = (sum(unit.weight for unit in some) for some in (units, done))
    shape = "{desc:<28} {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} to go"
    with tqdm(total=total, initial=kept, bar_format=shape) as bar:
        for unit in units:
            if unit not in done:
                bar.set_description_str(unit.label)
                unit.work()
                bar.update(unit.weight)
        bar.set_description_str("measured")


def _pictures(setup: Setup) -> Section | None:
    """Both worlds side by side, if paired drives of the lane keeper were kept."""
    unit = f"pairs-{paired.MANNERS[0]}-000"
    if not setup.store.has(unit):
        unit = f"pairs-{paired.WEAVING}-000"
        if not setup.store.has(unit):
            return None
    kept = setup.store.arrays(unit)
    rows = []
    for index in range(min(_SHEET_STARTS, len(kept["reference"]))):
        rows += [("reference", kept["reference"][index]), ("generated", kept["generated"][index])]
    count = kept["reference"].shape[1]
    heads = [f"{second:g} s" for second in paired.SHOWN[:count]]
    driver = "the lane keeper" if paired.MANNERS[0] in unit else "a weaving driver"
    words = (
        f"Reference and generated world from the same starts under the same actions of {driver} in "
        "the reference world. The first picture is where both begin."
    )
    return Section(
        name="pictures",
        title="Side by side",
        question="What do both worlds look like?",
        body=[said(words), picture(sheet(rows, heads), "Two rows a start.", "jpeg")],
        limits=(
            "The generated world has never seen the road beyond the first picture: it imagines one "
            "that goes on like it, and after some seconds another."
        ),
    )


def _facts(setup: Setup) -> dict[str, str]:
    job, settings = setup.job, setup.settings
    threads = torch.get_num_threads()
    return {
        "world": f"{job.world}, weights {settings['weights']}",
        "starts": f"{job.num_starts} of reference worlds from seed {job.world_seed} on",
        "drives": f"{job.drive_seconds:g} s; drift {job.drift_seconds:g} s; seed {job.seed}",
        "software": f"sanawm-gym {sanawm_gym.__version__}, torch {torch.__version__}",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {threads} used",
        "written": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
