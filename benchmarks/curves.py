"""Curves with their spread, side by side in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

PANEL = (5.6, 4.0)
"""Width and height of a panel [inch]."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel; NaN leaves a gap."""

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    """Half the height of a band around the line."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share axes."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, Curve]
    logarithmic: bool = False
    """Both axes; then all values must be positive."""
    level: float | None = None
    """A thin line across, as for a limit."""


def draw_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Write the panels, left to right, as a PNG."""
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, curve in panel.curves.items():
            (line,) = axes.plot(curve.x, curve.y, marker="o", markersize=3, label=name)
            if curve.spread is not None:
                y, spread = np.asarray(curve.y), np.asarray(curve.spread)
                axes.fill_between(
                    curve.x, y - spread, y + spread, color=line.get_color(), alpha=0.2, linewidth=0
                )
        if panel.level is not None:
            axes.axhline(panel.level, color="grey", linewidth=1)
        if panel.logarithmic:
            axes.set(xscale="log", yscale="log")
        else:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
