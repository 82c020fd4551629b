"""Part `reward`: is a decision worth the same in both worlds?"""

from __future__ import annotations

from typing import Any

import numpy as np

from sanawm_gym.validate import paired
from sanawm_gym.validate.page import Headline, Section, picture, said, table
from sanawm_gym.validate.plots import Cloud, scatter
from sanawm_gym.validate.setup import DECISION, Setup, Unit
from sanawm_gym.validate.statistics import interval_over_drives, pearson, spearman

STRETCHES = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 60.0))
"""Times since the start [s] that are looked at apart."""
RESAMPLES = 500
_FEWEST = 4
"""Decisions without which a correlation is not given."""

Pair = tuple[np.ndarray, np.ndarray]
"""Values of the decisions of one drive in the reference and in the generated world."""


def units(setup: Setup) -> list[Unit]:
    """All paired drives."""
    return paired.units(setup)


def figures(setup: Setup) -> dict[str, Any]:
    """Agreement over all decisions, by manner of driving, by time and by term."""
    kept = paired.load(setup)
    by_manner = {manner: [_rewards(drive) for drive in drives] for manner, drives in kept.items()}
    drives = [pair for pairs in by_manner.values() for pair in pairs]
    found: dict[str, Any] = {"all": _agreement(drives)}
    found["all"]["interval"] = interval_over_drives(
        drives, pearson, resamples=RESAMPLES, seed=setup.job.seed
    )
    found["manners"] = {manner: _agreement(pairs) for manner, pairs in by_manner.items()}
    found["seconds"] = {}
    for begin, end in STRETCHES:
        span = slice(round(begin / DECISION), round(end / DECISION))
        part = [(true[span], seen[span]) for true, seen in drives]
        if sum(len(true) for true, _ in part) >= _FEWEST:
            last = min(end, setup.job.drive_seconds)
            found["seconds"][f"{begin:g} to {last:g}"] = _agreement(part)
    names = list(kept[paired.MANNERS[0]][0]["terms"][0])
    found["terms"] = {
        name: _agreement([_terms(drive, name) for each in kept.values() for drive in each])
        for name in names
    }
    return found


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    drives = [_rewards(drive) for each in paired.load(setup).values() for drive in each]
    soon = round(2.0 / DECISION)
    clouds = [
        Cloud(
            title=title, true=np.concatenate([true[span] for true, _ in drives]),
            seen=np.concatenate([seen[span] for _, seen in drives]),
            x_label="reference world", y_label="generated world",
        )
        for title, span in (("first 2 s", slice(0, soon)), ("all decisions", slice(None)))
    ]  # fmt: skip
    keys = ("decisions", "pearson", "spearman", "absolute_error", "mean_true", "mean_seen")

    def rows(part: dict[str, Any]) -> list[list[Any]]:
        return [[name, *(one[key] for key in keys)] for name, one in part.items()]

    header = ["decisions", "Pearson", "Spearman", "mean absolute error", "mean, reference",
              "mean, generated"]  # fmt: skip
    return Section(
        name="reward",
        title="Reward",
        question="Is a decision worth the same in both worlds?",
        headlines=[
            Headline(
                label="reward: Pearson, decision by decision", value=found["all"]["pearson"],
                interval=found["all"]["interval"],
            )
        ],
        body=[
            said(
                "The preset carl pays both worlds under the same actions: once by what is true, "
                "once by what the heads read off the drawn pictures. Four manners of driving: the "
                "lane keeper, the same with trembling hands, a car that leaves the road, and one "
                "that weaves across it. The penalty that ends a drive is left out here; see "
                "Endings."
            ),
            table(["manner", *header], rows({**found["manners"], "all": found["all"]})),
            table(["seconds since the start", *header], rows(found["seconds"])),
            table(["term", *header],
                  rows({name.replace("_", " "): one for name, one in found["terms"].items()})),
            picture(scatter(clouds), "Reward of a decision in the generated world over that in the "
                                     "reference world."),
        ],
        limits=(
            "Progress follows from the exact motion and agrees by construction, so a high "
            "correlation alone says little: look at the lane offset's term. A term that never "
            "varies has no correlation."
        ),
    )  # fmt: skip


def _rewards(drive: dict[str, Any]) -> Pair:
    seen = np.array(drive["generated"]["reward"], dtype=np.float64)
    return np.array(drive["reward"], dtype=np.float64)[: len(seen)], seen


def _terms(drive: dict[str, Any], name: str) -> Pair:
    seen = np.array([terms[name] for terms in drive["generated"]["terms"]], dtype=np.float64)
    true = np.array([terms[name] for terms in drive["terms"]], dtype=np.float64)
    return true[: len(seen)], seen


def _agreement(drives: list[Pair]) -> dict[str, Any]:
    true = np.concatenate([one for one, _ in drives])
    seen = np.concatenate([one for _, one in drives])
    known = np.isfinite(true) & np.isfinite(seen)
    true, seen = true[known], seen[known]
    enough = len(true) >= _FEWEST
    return {
        "decisions": len(true),
        "pearson": pearson(true, seen) if enough else None,
        "spearman": spearman(true, seen) if enough else None,
        "absolute_error": float(np.abs(true - seen).mean()) if len(true) else None,
        "mean_true": float(true.mean()) if len(true) else None,
        "mean_seen": float(seen.mean()) if len(seen) else None,
    }
