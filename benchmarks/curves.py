"""Curves with their spread, side by side in one picture (no plotting library)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 560, 400, 56
"""Size of a panel and its margin [px]."""
COLOURS = ((20, 70, 160), (200, 60, 40), (40, 140, 70), (150, 90, 170), (190, 140, 20))
Place = Callable[[float, float], tuple[float, float]]


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
    image = Image.new("RGB", (WIDTH * len(panels), HEIGHT), "white")
    draw = ImageDraw.Draw(image, "RGBA")
    for index, panel in enumerate(panels):
        _draw(draw, panel, index * WIDTH)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round numbers that span an interval: its ends are the first and the last of them."""
    if logarithmic:
        first, last = np.floor(np.log10(low) + 1e-9), np.ceil(np.log10(high) - 1e-9)
        return [float(10.0**k) for k in np.arange(first, max(last, first + 1) + 1)]
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-12)))
    step *= next(part for part in (0.2, 0.5, 1.0, 2.0) if (high - low) / (part * step) <= 6)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(step * k) for k in np.arange(first, max(last, first + 1) + 1)]


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, left: int) -> None:
    marks = _marks(panel)
    place = _scale(panel, marks, left)
    for axis, values in enumerate(marks):
        for value in values:
            first = place(value, marks[1][0]) if axis == 0 else place(marks[0][0], value)
            last = place(value, marks[1][-1]) if axis == 0 else place(marks[0][-1], value)
            draw.line([first, last], fill=(225, 225, 225, 255))
            shift = (-10, 4) if axis == 0 else (-40, -6)
            draw.text((first[0] + shift[0], first[1] + shift[1]), f"{value:g}", fill="black")
    if panel.level is not None:
        ends = (place(marks[0][0], panel.level), place(marks[0][-1], panel.level))
        draw.line(ends, fill=(90, 90, 90, 255))
    for index, (name, curve) in enumerate(panel.curves.items()):
        _draw_curve(draw, curve, place, COLOURS[index % len(COLOURS)])
        at = (left + MARGIN + 8, MARGIN + 6 + 14 * index)
        draw.text(at, name, fill=COLOURS[index % len(COLOURS)])
    draw.text((left + MARGIN, MARGIN - 36), panel.title, fill="black")
    draw.text((left + 6, MARGIN - 18), panel.y_label, fill="black")
    draw.text((left + WIDTH // 2 - 60, HEIGHT - 22), panel.x_label, fill="black")


def _draw_curve(
    draw: ImageDraw.ImageDraw, curve: Curve, place: Place, colour: tuple[int, int, int]
) -> None:
    spread = np.zeros(len(curve.x)) if curve.spread is None else np.asarray(curve.spread)
    points = list(zip(curve.x, curve.y, spread.tolist(), strict=True))
    for (x_1, y_1, s_1), (x_2, y_2, s_2) in pairwise(points):
        if not np.isfinite([y_1, y_2]).all():
            continue
        if s_1 or s_2:
            corners = [(x_1, y_1 - s_1), (x_2, y_2 - s_2), (x_2, y_2 + s_2), (x_1, y_1 + s_1)]
            draw.polygon([place(*corner) for corner in corners], fill=(*colour, 45))
        draw.line([place(x_1, y_1), place(x_2, y_2)], fill=(*colour, 255), width=2)
    for x, y, _ in points:
        if np.isfinite(y):
            u, v = place(x, y)
            draw.ellipse([u - 2, v - 2, u + 2, v + 2], fill=(*colour, 255))


def _marks(panel: Panel) -> tuple[list[float], list[float]]:
    x = np.concatenate([np.asarray(curve.x, dtype=float) for curve in panel.curves.values()])
    y = np.concatenate([np.asarray(curve.y, dtype=float) for curve in panel.curves.values()])
    y = np.append(y[np.isfinite(y)], [] if panel.level is None else panel.level)
    if panel.logarithmic:
        return ticks(x.min(), x.max(), True), ticks(y.min(), y.max(), True)
    return ticks(x.min(), x.max(), False), ticks(min(0.0, y.min()), y.max(), False)


def _scale(panel: Panel, marks: tuple[list[float], list[float]], left: int) -> Place:
    def along(value: float, values: list[float]) -> float:
        if panel.logarithmic:
            value, values = np.log10(value), [np.log10(one) for one in values]
        return (min(max(value, values[0]), values[-1]) - values[0]) / (values[-1] - values[0])

    def place(x: float, y: float) -> tuple[float, float]:
        u = left + MARGIN + (WIDTH - 2 * MARGIN) * along(x, marks[0])
        return u, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * along(y, marks[1])

    return place
