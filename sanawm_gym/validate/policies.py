"""Part `policies`: is a driver that does well in the generated world one that does well?

Every driver drives whole episodes in both worlds from the same starts, each by what it sees there,
with rewards and endings as the environments have them.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from sanawm_gym.envs.drift import DriftConfig
from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.page import Headline, Section, aimed, picture, said, table
from sanawm_gym.validate.panel import Entrant
from sanawm_gym.validate.plots import drivers
from sanawm_gym.validate.setup import Setup, Unit
from sanawm_gym.validate.statistics import STATISTICS, interval

BEST_PEARSON, BEST_MMRV = 0.93, 0.12
"""Aims: the best published of a world model against what it stands for (SC3-Eval, robotics) are
.929 and .119 over 7 policies."""
RESAMPLES = 2000
FEWEST = 3
"""Drivers without which nothing is said of their order."""
WORLDS = ("reference", "generated")
_PREFIX = "policy-"


def units(setup: Setup) -> list[Unit]:
    """One driver after the other, in both worlds.

    Raises:
        ValueError: If a driver is unknown, or another one of its name was measured before.
    """
    for one in setup.drivers:
        name = _PREFIX + one.name
        if setup.store.has(name) and setup.store.load(name)["digest"] != one.digest:
            raise ValueError(
                f"policies: got another driver called {one.name!r} than {setup.job.out} holds; "
                "expected the same file; rename it or give another out"
            )
    weight = setup.job.num_starts * setup.job.num_decisions * 0.045
    return [
        Unit(
            name=_PREFIX + one.name,
            label=one.name,
            weight=weight,
            work=partial(_measure, setup, one),
        )
        for one in setup.drivers
    ]


def figures(setup: Setup) -> dict[str, Any]:
    """Mean returns in both worlds, and how well their order and size agree."""
    kept = _kept(setup)
    found: dict[str, Any] = {"drivers": {}, "starts": setup.job.num_starts}
    for name, one in kept.items():
        found["drivers"][name] = {world: _summary(one[world]) for world in WORLDS}
    if len(kept) < FEWEST:
        return found
    true, seen = _returns(kept)
    for name, statistic in STATISTICS.items():
        found[name] = statistic(true.mean(axis=1), seen.mean(axis=1))
        found[f"{name}_interval"] = interval(
            true, seen, statistic, resamples=RESAMPLES, seed=setup.job.seed
        )
    return found


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    kept = _kept(setup)
    names = sorted(kept, key=lambda name: -found["drivers"][name]["reference"]["return"])
    rows = []
    for name in names:
        true, seen = (found["drivers"][name][world] for world in WORLDS)
        rows.append(
            [name, true["return"], seen["return"], true["seconds"], seen["seconds"],
             true["metres"], seen["metres"], _words(true["ends"]), _words(seen["ends"])]
        )  # fmt: skip
    header = ["driver", "return, reference", "generated", "seconds, reference", "generated",
              "metres, reference", "generated", "ends, reference", "ends, generated"]  # fmt: skip
    headlines: list[Headline] = []
    body = [
        said(
            f"{len(names)} drivers, {found['starts']} drives each of at most "
            f"{setup.job.drive_seconds:g} s, from the same starts in both worlds. Scripted drivers "
            "know the truth in the reference world and have only what is read off the drawn "
            "pictures in the generated one; cloned ones see pictures in both."
        )
    ]  # fmt: skip
    if "pearson" in found:
        label = "policies: {} of mean returns"
        headlines = [
            aimed(label.format("Pearson r"), found["pearson"],
                  interval=found["pearson_interval"], at_least=BEST_PEARSON),
            Headline(label=label.format("Spearman rho"), value=found["spearman"],
                     interval=found["spearman_interval"]),
            aimed(label.format("MMRV"), found["mmrv"], interval=found["mmrv_interval"],
                  at_most=BEST_MMRV),
        ]  # fmt: skip
        body.append(_plot(kept, names))
    else:
        headlines = [Headline(label="policies: correlation", value=None, aim="3 drivers or more")]
    body.append(table(header, rows))
    if setup.left_out:
        reasons = [] if setup.has_heads else ["it has no heads to read the road with"]
        reasons += [] if setup.same_size else ["its pictures are of another size"]
        names_left = ", ".join(setup.left_out)
        body.append(said(f"Cannot drive in this world, as {' and '.join(reasons)}: {names_left}."))
    if not setup.has_heads:
        body.append(said("The reward is kinematic in both worlds."))
    return Section(
        name="policies",
        title="Policies",
        question="Is a driver that does well in the generated world one that does well?",
        headlines=headlines,
        body=body,
        limits=(
            "MMRV is the mean over drivers of the largest gap in reference return to a driver that "
            "the generated world ranks wrongly against it; returns have no scale of their own, so "
            "it is divided by their range over the drivers (SIMPLER takes success rates). "
            "Intervals draw the starts anew, the same for all drivers; they say nothing about "
            "other drivers. A correlation rests on the worst and the best of them: read the "
            "table."
        ),
    )


def _kept(setup: Setup) -> dict[str, dict[str, Any]]:
    """All drivers that the folder holds."""
    files = sorted(setup.store.raw.glob(f"{_PREFIX}*.json"))
    return {path.stem.removeprefix(_PREFIX): setup.store.load(path.stem) for path in files}


def _returns(kept: dict[str, dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    true, seen = (
        np.array([one[world]["return"] for one in kept.values()], dtype=np.float64)
        for world in WORLDS
    )
    return true, seen


def _summary(drives: dict[str, Any]) -> dict[str, Any]:
    values = np.array(drives["return"])
    return {
        "return": float(values.mean()),
        "standard_error": float(values.std(ddof=1) / np.sqrt(len(values))),
        "seconds": float(np.mean(drives["decisions"]) / 4),
        "metres": float(np.mean(drives["metres"])),
        "ends": dict(Counter(drives["ends"])),
    }


def _words(ends: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(ends.items()))


def _plot(kept: dict[str, dict[str, Any]], names: list[str]) -> str:
    rows = [[_summary(kept[name][world]) for world in WORLDS] for name in names]
    columns = [
        np.array([row[world][key] for row in rows])
        for key in ("return", "standard_error")
        for world in (0, 1)
    ]
    return picture(
        drivers(names, *columns),
        "Mean return of every driver, with standard errors; on the grey line both pay alike.",
    )


def _measure(setup: Setup, one: Entrant) -> None:
    """Let a driver drive all starts in both worlds."""
    reward = "auto" if setup.has_heads else "kinematic"
    found = {"reference": _reference(setup, one, reward), "generated": _generated(setup, one)}
    setup.store.save(_PREFIX + one.name, {"digest": one.digest, "reward": reward, **found})


def _reference(setup: Setup, one: Entrant, reward: str) -> dict[str, list[Any]]:
    drive, policy = setup.reference(endings=True, reward=reward), one.build()
    found: dict[str, list[Any]] = {"return": [], "decisions": [], "metres": [], "ends": []}
    bar = tqdm(setup.starts, desc=f"reference, {one.name}", leave=False)
    for start, seed in zip(bar, setup.noise_seeds([*range(len(setup.starts))]), strict=True):
        drive.begin(start)
        policy.reset([seed])
        before, total, over, steps = drive.info["distance"], 0.0, False, 0
        while steps < setup.job.num_decisions and not over:
            batch = {key: value[None] for key, value in drive.observation.items()}
            reward_of_step, over = drive.step(policy.act(batch, [drive.info])[0])
            total, steps = total + reward_of_step, steps + 1
        found["return"].append(total)
        found["decisions"].append(steps)
        found["metres"].append(drive.info["distance"] - before)
        found["ends"].append(drive.info["termination_reason"] or "horizon")
    return found


def _generated(setup: Setup, one: Entrant) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"return": [], "decisions": [], "metres": [], "ends": []}
    settings = setup.generated_settings(
        horizon=setup.job.drive_seconds, outcomes=OutcomeConfig(), drift=DriftConfig()
    )
    if not setup.has_heads:
        settings["reward"] = "kinematic"
    for numbers in setup.batches():
        seeds, policy = setup.noise_seeds(numbers), one.build()
        envs = GeneratedDrives([setup.starts[number] for number in numbers], seeds, settings)
        policy.reset(seeds)
        total, steps = np.zeros(len(numbers)), np.zeros(len(numbers), dtype=np.int64)
        for _ in tqdm(range(setup.job.num_decisions), desc=f"generated, {one.name}", leave=False):
            if not envs.living:
                break
            steps[envs.living] += 1
            total += envs.step(policy.act(envs.observation, envs.infos))
        envs.close()
        found["return"] += total.tolist()
        found["decisions"] += steps.tolist()
        found["metres"] += [float(info["distance"]) for info in envs.infos]
        found["ends"] += [end or "horizon" for end in envs.ends]
    return found
