"""Part `termination`: does a drive end in the generated world when it should?

The rules are those of the environments (`envs.outcomes`), applied afterwards to drives that nothing
has ended: to the truth, to what heads read on reference video, and to what they read on generated
pictures. The second tells the heads' share in what is missed from the world's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sanawm_gym.envs.outcomes import COLLISION, OFF_ROAD, OUTCOMES, OutcomeConfig
from sanawm_gym.envs.reading import QUANTITIES, Reading
from sanawm_gym.validate import paired
from sanawm_gym.validate.page import Headline, Section, said, table
from sanawm_gym.validate.setup import DECISION, Setup, Unit
from sanawm_gym.validate.statistics import count_endings
from sanawm_gym.validate.store import numbers
from sanawm_gym.vehicle import VehicleConfig

TOLERANCE = 2.0
"""Seconds apart up to which an ending in both worlds is the same one."""
JUDGED = (OFF_ROAD, COLLISION)
READERS = (("generated", "generated world"), ("clean", "heads on reference video"))
_CRASHED = QUANTITIES.index("crashed")


def units(setup: Setup) -> list[Unit]:
    """All paired drives."""
    return paired.units(setup)


def figures(setup: Setup) -> dict[str, Any]:
    """Counts, precision and recall of every ending, by who looked at what."""
    drives = [drive for each in paired.load(setup).values() for drive in each]
    length = setup.job.drive_seconds
    found: dict[str, Any] = {}
    for outcome in JUDGED:
        happened = [_first(_truth(drive, outcome)) for drive in drives]
        found[outcome] = {"drives": len(drives)}
        for reader, _ in READERS:
            chances = [_chances(drive, reader) for drive in drives]
            announced = [_first(_reached(chance, outcome)) for chance in chances]
            counted = count_endings(happened, announced, length=length, tolerance=TOLERANCE)
            found[outcome][reader] = {
                **dataclasses.asdict(counted),
                "precision": counted.precision,
                "recall": counted.recall,
                **_mean_chances(drives, chances, outcome),
            }
    return found


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    rows, headlines = [], []
    for outcome in JUDGED:
        words = outcome.replace("_", " ")
        for reader, label in READERS:
            one = found[outcome][reader]
            rows.append(
                [f"{words}, {label}", one["hits"], one["false_alarms"], one["misses"],
                 one["undecided"], one["quiet"], one["precision"], one["recall"],
                 one["chance_while"], one["chance_otherwise"]]
            )  # fmt: skip
        one = found[outcome]["generated"]
        for key, of in (("precision", one["hits"] + one["false_alarms"]),
                        ("recall", one["hits"] + one["misses"])):  # fmt: skip
            said_of = "announced" if key == "precision" else "happened"
            headlines.append(
                Headline(label=f"{words}: {key} ({one['hits']} of {of} {said_of})", value=one[key])
            )
    header = ["ending", "hits", "false alarms", "misses", "undecided", "quiet drives", "precision",
              "recall", "mean chance while it is so", "otherwise"]  # fmt: skip
    delays = found[OFF_ROAD]["generated"]["delays"]
    late = f" Hits came {np.median(delays):.2f} s after the truth (median)." if delays else ""
    return Section(
        name="termination",
        title="Endings",
        question="Does a drive end in the generated world when it should?",
        headlines=headlines,
        body=[
            said(
                "Under the same actions, a hit is an ending that the generated world announces "
                f"within {TOLERANCE:g} s of when it happened in the reference world; at any other "
                "time it is a false alarm, and what happened is missed. A drive in which it "
                "happened within the last seconds is undecided unless it was announced." + late
            ),
            table(header, rows),
        ],
        limits=(
            "The generated world has no map: it draws a road under a car that leaves the one it "
            "began on, so many drives that are lost in the reference world go on here, and recall "
            "is low by nature. Compare with the heads on reference video, where the road stays "
            "where it is. Vehicles ahead are hardly read, so collisions are practically never "
            "announced. A policy that is trained here meets fewer endings than it should."
        ),
    )


def _truth(drive: dict[str, Any], outcome: str) -> np.ndarray:
    """Whether the car is off the road, or has crashed, after every decision."""
    if outcome == OFF_ROAD:
        return np.array(drive["off_road"], dtype=bool)
    return np.asarray(numbers(drive["truth"])[:, _CRASHED] > 0.5)


def _chances(drive: dict[str, Any], reader: str) -> np.ndarray:
    """Probability of every outcome at every decision, (t, o)."""
    if reader == "clean":
        mean, deviation = drive["clean_mean"], drive["clean_deviation"]
    else:
        mean, deviation = (drive["generated"][key] for key in ("mean", "deviation"))
    reading = Reading(
        mean=numbers(mean).reshape(-1, len(QUANTITIES)),
        deviation=numbers(deviation).reshape(-1, len(QUANTITIES)),
    )
    return np.asarray(OutcomeConfig().chances(reading, VehicleConfig().width))


def _reached(chances: np.ndarray, outcome: str) -> np.ndarray:
    """Whether the rules would have ended the drive, decision by decision."""
    rules, counts, found = OutcomeConfig(), np.zeros((1, len(OUTCOMES)), dtype=np.int64), []
    for chance in chances:
        counts = rules.count(chance[None], counts)
        found.append(bool(rules.reached(counts)[0, OUTCOMES.index(outcome)]))
    return np.array(found, dtype=bool)


def _first(flags: np.ndarray) -> float | None:
    """Time of the first decision at whose end it is so [s]."""
    return DECISION * (int(flags.argmax()) + 1) if flags.any() else None


def _mean_chances(
    drives: list[dict[str, Any]], chances: list[np.ndarray], outcome: str
) -> dict[str, float | None]:
    """Mean probability while it is so in the reference world, and while it is not."""
    column = OUTCOMES.index(outcome)
    said = np.concatenate([chance[:, column] for chance in chances])
    true = np.concatenate(
        [_truth(drive, outcome)[: len(chance)] for drive, chance in zip(drives, chances,
                                                                      strict=True)]
    )  # fmt: skip
    return {
        "chance_while": float(said[true].mean()) if true.any() else None,
        "chance_otherwise": float(said[~true].mean()) if (~true).any() else None,
    }
