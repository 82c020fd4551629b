"""The folder of a report: what was measured, unit by unit, so that an interrupted report goes on.

    OUT/settings.json       what decides the figures; another report does not mix with it
    OUT/raw/UNIT.json       raw numbers of one unit of one part
    OUT/raw/UNIT.npz        its arrays, where json would be too long
    OUT/report.json         all figures
    OUT/index.html          the report

Every file is written whole or not at all, the json of a unit last: a unit is done when it is there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS, PAGE, FIGURES = "settings.json", "index.html", "report.json"
_DIGITS = 6


class Store:
    """What a report's folder holds.

    Args:
        folder: Made if missing.
        settings: What decides the figures.

    Raises:
        ValueError: If the folder holds a report of other settings, or something else.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.raw = folder, folder / "raw"
        wanted = json.loads(json.dumps(settings))
        path = folder / SETTINGS
        if path.is_file():
            _compare(folder, json.loads(path.read_text(encoding="utf-8")), wanted)
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                f"out: got {folder}, which holds something else than a report; expected a new "
                "folder, an empty one or that of a report to go on with; give another one"
            )
        self.raw.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted, indent=2) + "\n")

    def has(self, unit: str) -> bool:
        """Whether a unit is done."""
        return (self.raw / f"{unit}.json").is_file()

    def save(
        self,
        unit: str,
        numbers: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Keep a unit.

        Args:
            unit: Its name, a file's stem.
            numbers: What goes into json; arrays become lists of `_DIGITS` digits.
            arrays: What goes into a file of arrays.
        """
        self.raw.mkdir(parents=True, exist_ok=True)
        if arrays is not None:
            partial = self.raw / f"{unit}.npz.partial"
            with partial.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            os.replace(partial, self.raw / f"{unit}.npz")
        write_text(self.raw / f"{unit}.json", json.dumps(plain(numbers), allow_nan=False) + "\n")

    def load(self, unit: str) -> dict[str, Any]:
        """Numbers of a unit."""
        found: dict[str, Any] = json.loads((self.raw / f"{unit}.json").read_text(encoding="utf-8"))
        return found

    def arrays(self, unit: str) -> dict[str, np.ndarray]:
        """Arrays of a unit."""
        with np.load(self.raw / f"{unit}.npz") as kept:
            return {name: kept[name] for name in kept.files}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def plain(value: Any) -> Any:
    """Json form: arrays as lists, digits cut, and null for numbers that are none."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{_DIGITS}g}")
    return value


def numbers(values: Any) -> np.ndarray:
    """An array of what `plain` wrote, NaN for null."""
    return np.array(values, dtype=np.float64)


def _compare(folder: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = sorted(
        name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)
    )
    if differing:
        said = ", ".join(
            f"{name}: there {there.get(name)!r}, got {wanted.get(name)!r}" for name in differing
        )
        raise ValueError(
            f"out: {folder} holds a report of other settings ({said}); expected the same to go on "
            "with it; give another folder"
        )
