"""Part `steering`: does the picture turn as the wheel does?"""

from __future__ import annotations

from typing import Any

import numpy as np

from sanawm_gym.validate import paired
from sanawm_gym.validate.agreement import Pairs
from sanawm_gym.validate.drawn_yaw import figures_of
from sanawm_gym.validate.page import Section, aimed, picture, said, table
from sanawm_gym.validate.plots import Cloud, scatter
from sanawm_gym.validate.setup import Setup, Unit
from sanawm_gym.validate.store import numbers

AIM = 0.95
"""Rank correlation of drawn with commanded yaw rate."""


def units(setup: Setup) -> list[Unit]:
    """The weaving drives."""
    return paired.units(setup, [paired.WEAVING])


def figures(setup: Setup) -> dict[str, Any]:
    """Agreement of drawn with commanded yaw, by decision and by drive, in both worlds' pictures."""
    drives, seconds = _drives(setup), setup.job.drive_seconds
    return {name: figures_of(one, seconds) for name, one in drives.items() if _decisions(one) > 2}


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    drives = _drives(setup)
    rows = []
    for name, label in (("generated", "generated world"), ("reference", "reference video")):
        one = found.get(name)
        if one is None:
            continue
        whole = one["drive"] or {}
        rows.append(
            [label, one["decisions"], one["spearman"], one["slope"], one["median_error"],
             whole.get("spearman"), whole.get("median_error")]
        )  # fmt: skip
    together = {name: np.concatenate(one) for name, one in drives.items() if _decisions(one)}
    clouds = [
        Cloud(
            title=f"{name} pictures", true=one[:, 0], seen=one[:, 1],
            x_label="commanded yaw rate [rad/s]", y_label="drawn [rad/s]",
        )
        for name, one in together.items()
    ]  # fmt: skip
    header = [
        "pictures", "decisions", "Spearman", "slope", "median error [rad/s]",
        "Spearman, whole drives", "median error, whole drives [deg]",
    ]  # fmt: skip
    value = found.get("generated", {}).get("spearman")
    return Section(
        name="steering",
        title="Steering",
        question="Does the picture turn as the wheel does?",
        headlines=[aimed("steering: Spearman, drawn over commanded yaw", value, at_least=AIM)],
        body=[
            said(
                "Both worlds are steered left and right by the same meandering sequence, whatever "
                "the road does. Commanded is the yaw rate of the car's exact motion over a "
                "decision of 0.25 s; drawn is what an estimator reads from the pictures alone. On "
                "whole drives the yaw of all decisions is added up, and with it every error."
            ),
            table(header, rows),
            picture(scatter(clouds), "Drawn over commanded yaw rate, a point a decision."),
        ],
        limits=(
            "The row of the reference video is the estimator's own error, where the truth is "
            "known: the generated world cannot be seen to be better than that. Reference drives "
            "count until they are 4 m off the road."
        ),
    )


def _drives(setup: Setup) -> dict[str, list[Pairs]]:
    """Commanded and drawn yaw rates of every drive, by whose pictures they were read from."""
    kept = paired.load(setup, [paired.WEAVING])[paired.WEAVING]
    found: dict[str, list[Pairs]] = {"generated": [], "reference": []}
    for drive in kept:
        far = np.array(drive["far_off"], dtype=bool)
        until = int(far.argmax()) if far.any() else len(far)
        found["reference"].append(numbers(drive["yaw"][:until]).reshape(-1, 2))
        found["generated"].append(numbers(drive["generated"]["yaw"]).reshape(-1, 2))
    return found


def _decisions(drives: list[Pairs]) -> int:
    return sum(len(one) for one in drives)
