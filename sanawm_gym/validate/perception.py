"""Part `perception`: do heads read what is so, on true pictures and on drawn ones?

Axes: m moments, n drives, t decisions, q quantities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sanawm_gym.envs.reading import NUM_NUMBERS, QUANTITIES
from sanawm_gym.train_wm.heads_scores import judge
from sanawm_gym.validate import paired
from sanawm_gym.validate.page import Headline, Section, picture, said, table
from sanawm_gym.validate.plots import Cloud, Lines, curves, scatter
from sanawm_gym.validate.setup import DECISION, Setup, Unit
from sanawm_gym.validate.statistics import pearson
from sanawm_gym.validate.store import numbers
from sanawm_gym.worldmodel.heads import QUANTITIES as MEANINGS
from sanawm_gym.worldmodel.heads import Perceived

HORIZONS = (1.0, 2.0, 4.0)
"""Seconds after the start at which drawn pictures are judged."""
FEWEST = 3
"""Moments without which nothing is said of a quantity."""
_ON_ROAD = QUANTITIES.index("on_road")
_SHOWN = ("lane_offset", "heading_error", "curvature_ahead")


def units(setup: Setup) -> list[Unit]:
    """All paired drives."""
    return paired.units(setup)


def figures(setup: Setup) -> dict[str, Any]:
    """Scores of every quantity: on all reference video, and at some seconds in both worlds."""
    readings = Readings(setup)
    found: dict[str, Any] = {"reference_video": readings.scores("clean"), "seconds": {}}
    for seconds in HORIZONS:
        at = round(seconds / DECISION) - 1
        if at < readings.truth.shape[1]:
            found["seconds"][f"{seconds:g}"] = {
                "generated": readings.scores("generated", at),
                "reference_video": readings.scores("clean", at),
            }
    return found


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    readings = Readings(setup)
    at_end = list(found["seconds"])[-1] if found["seconds"] else None
    late = found["seconds"][at_end]["generated"] if at_end else {}
    offset = late.get("lane_offset", {})
    return Section(
        name="perception",
        title="Perceived state",
        question="Do the heads read what is so, on true pictures and on drawn ones?",
        headlines=[
            Headline(
                label="perception: lane offset on reference video, correlation with the truth",
                value=found["reference_video"].get("lane_offset", {}).get("correlation"),
            ),
            Headline(
                label=f"perception: the same on generated pictures, after {at_end} s",
                value=offset.get("correlation"),
            ),
        ],
        body=[
            said(
                "On reference video, the heads read the clean pass over the simulator's own "
                "pictures: their errors there are theirs alone. In the generated world they read "
                "what it has drawn since the start, under the same actions, and are held against "
                "the truth of the reference drive: what is worse there comes from the drawing. "
                "The usual answer is the mean of the truth, what one would say without looking. "
                "One deviation should hold 68 % of the truths, two 95 %."
            ),
            "<h3>On reference video, all moments</h3>",
            *_tables(found["reference_video"]),
            *(
                piece
                for seconds, one in found["seconds"].items()
                for piece in (f"<h3>After {seconds} s</h3>", _comparison(one))
            ),
            picture(curves(readings.growth()),
                    "Root mean square error over the time since the start."),
            picture(scatter(readings.clouds()),
                    "Readings over the truth on reference video, and on generated pictures of the "
                    "first 4 s."),
        ],
        limits=(
            "Numbers are judged at moments when the reference car is on the road; off it the lane "
            "is no longer what one would look for. Sooner or later the generated road bends where "
            "the reference road does not: the error after several seconds says that the worlds "
            "have parted, not that the heads are blind. Quantities of the vehicle ahead count "
            "where there is one within 50 m."
        ),
    )  # fmt: skip


def _tables(scores: dict[str, dict[str, float]]) -> list[str]:
    is_number = [name for name in scores if "error" in scores[name]]
    rows = [
        [_label(name), scores[name]["moments"], scores[name]["error"], scores[name]["usual_error"],
         scores[name]["correlation"], scores[name]["within_1"], scores[name]["within_2"]]
        for name in is_number
    ]  # fmt: skip
    chances = [
        [_label(name), one["moments"], one["log_loss"], one["usual_log_loss"], one["correlation"],
         one["probability"], one["frequency"]]
        for name, one in scores.items() if name not in is_number
    ]  # fmt: skip
    return [
        table(["number", "moments", "error (RMS)", "usual answer", "correlation",
               "within 1 deviation", "within 2"], rows),
        table(["chance", "moments", "log loss", "usual answer", "correlation", "mean probability",
               "frequency"], chances),
    ]  # fmt: skip


def _comparison(one: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = []
    for name, drawn in one["generated"].items():
        clean = one["reference_video"].get(name, {})
        key = "error" if "error" in drawn else "log_loss"
        rows.append(
            [f"{_label(name)}{'' if key == 'error' else ', log loss'}", drawn["moments"],
             drawn[key], clean.get(key), drawn[f"usual_{key}"], drawn["correlation"],
             drawn.get("within_1")]
        )  # fmt: skip
    header = ["quantity", "drives", "error, generated", "error, reference video", "usual answer",
              "correlation, generated", "within 1 deviation"]  # fmt: skip
    return table(header, rows)


def _label(name: str) -> str:
    unit = MEANINGS[name].unit
    return name.replace("_", " ") + (f" [{unit}]" if unit else "")


class Readings:
    """Truth and readings of all paired drives, NaN where a drive had ended."""

    def __init__(self, setup: Setup) -> None:
        drives = [drive for each in paired.load(setup).values() for drive in each]
        self.truth = numbers([drive["truth"] for drive in drives])
        self._mean = {"clean": numbers([drive["clean_mean"] for drive in drives])}
        self._deviation = {"clean": numbers([drive["clean_deviation"] for drive in drives])}
        for key, kept in (("mean", self._mean), ("deviation", self._deviation)):
            kept["generated"] = np.full(self.truth.shape, np.nan)
            for row, drive in zip(kept["generated"], drives, strict=True):
                values = drive["generated"][key]
                if values:
                    row[: len(values)] = numbers(values)

    def scores(self, world: str, at: int | None = None) -> dict[str, dict[str, float]]:
        """Figures of every quantity.

        Args:
            world: `clean` or `generated`.
            at: Decision after the start; None takes all of them.
        """
        time = slice(None) if at is None else slice(at, at + 1)
        truth, mean, deviation = (
            one[:, time].reshape(-1, len(QUANTITIES))
            for one in (self.truth, self._mean[world], self._deviation[world])
        )
        drawn = np.isfinite(mean).all(axis=1)
        truth, mean, deviation = truth[drawn].copy(), mean[drawn], deviation[drawn]
        truth[truth[:, _ON_ROAD] < 0.5, :NUM_NUMBERS] = np.nan
        known = np.isfinite(truth).sum(axis=0)
        truth[:, known < FEWEST] = np.nan
        usual = np.array([
            column[np.isfinite(column)].mean() if np.isfinite(column).any() else np.nan
            for column in truth.T
        ])  # fmt: skip
        seen = Perceived(mean=torch.from_numpy(mean), deviation=torch.from_numpy(deviation))
        found = judge(seen, torch.from_numpy(truth), torch.from_numpy(usual))
        for column, name in enumerate(QUANTITIES):
            if name in found:
                there = np.isfinite(truth[:, column])
                found[name]["correlation"] = pearson(truth[there, column], mean[there, column])
                found[name]["moments"] = int(there.sum())
        return found

    def growth(self) -> list[Lines]:
        """Error over time."""
        on_road = self.truth[..., _ON_ROAD] > 0.5
        time = DECISION * (1 + np.arange(self.truth.shape[1]))
        panels = []
        for name in _SHOWN:
            column = QUANTITIES.index(name)
            lines = {}
            for world, label in (("generated", "generated"), ("clean", "reference video")):
                off = self._mean[world][..., column] - self.truth[..., column]
                known = on_road & np.isfinite(off)
                total = np.where(known, off, 0.0)
                count = known.sum(axis=0)
                error = np.sqrt((total**2).sum(axis=0) / np.maximum(count, 1))
                lines[label] = (time.tolist(), np.where(count > 0, error, np.nan).tolist())
            panels.append(
                Lines(title=name.replace("_", " "), x_label="time since the start [s]",
                      y_label=f"error [{MEANINGS[name].unit}]", curves=lines)
            )  # fmt: skip
        return panels

    def clouds(self) -> list[Cloud]:
        """Lane offset and heading over the truth."""
        on_road, soon = self.truth[..., _ON_ROAD] > 0.5, slice(0, round(4 / DECISION))
        return [
            Cloud(
                title=f"{name.replace('_', ' ')}, {label}",
                true=self.truth[..., column][:, when][on_road[:, when]],
                seen=self._mean[world][..., column][:, when][on_road[:, when]],
                x_label=f"truth [{MEANINGS[name].unit}]",
                y_label="read",
            )
            for name, column in ((one, QUANTITIES.index(one)) for one in _SHOWN[:1])
            for world, label, when in (
                ("clean", "reference video", slice(None)),
                ("generated", "generated, first 4 s", soon),
            )
        ]
