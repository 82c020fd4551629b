"""Plots of the report, as PNG bytes, and its contact sheet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

BLUE, ORANGE, GREY = "#1f5fa8", "#d9722b", "#8a95a1"
COLOURS = (BLUE, ORANGE, "#2f8f5b", "#8c4fa8", "#b3471c", GREY)
_PANEL = (4.6, 3.6)
_DPI = 110
_ENLARGED = 2  # pictures of a sheet


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of one panel, seen over true."""

    title: str
    true: np.ndarray
    seen: np.ndarray
    x_label: str
    y_label: str


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves of one panel; NaN leaves a gap."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    level: float | None = None
    """A thin line across."""
    level_label: str = ""


def scatter(clouds: Sequence[Cloud]) -> bytes:
    """Panels on scales of their own, each with the diagonal of equality."""
    figure, all_axes = _panels(len(clouds))
    for axes, cloud in zip(all_axes, clouds, strict=True):
        known = np.isfinite(cloud.true) & np.isfinite(cloud.seen)
        true, seen = cloud.true[known], cloud.seen[known]
        low, high = _range(np.concatenate([true, seen]))
        axes.plot([low, high], [low, high], color=GREY, linewidth=1)
        alpha = float(np.clip(60 / max(1, len(true)) + 0.12, 0.12, 0.8))
        axes.scatter(true, seen, s=10, color=BLUE, alpha=alpha, linewidths=0)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        _dress(axes, cloud.title, cloud.x_label, cloud.y_label)
    return _png(figure)


def curves(panels: Sequence[Lines]) -> bytes:
    """Panels side by side."""
    figure, all_axes = _panels(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        for colour, (name, (x, y)) in zip(COLOURS, panel.curves.items(), strict=False):
            axes.plot(x, y, marker="o", markersize=3, color=colour, label=name)
        if panel.level is not None:
            axes.axhline(panel.level, color=GREY, linewidth=1, label=panel.level_label or None)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        _dress(axes, panel.title, panel.x_label, panel.y_label)
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def drivers(
    names: Sequence[str],
    true: np.ndarray,
    seen: np.ndarray,
    true_error: np.ndarray,
    seen_error: np.ndarray,
) -> bytes:
    """Mean return of every driver in both worlds, with standard errors, and ranks beside them.

    Args:
        names: Of the drivers.
        true: Means in the reference world.
        seen: Means in the generated world.
        true_error: Standard errors of the first.
        seen_error: Standard errors of the second.
    """
    figure = Figure(figsize=(9.6, 4.8), layout="constrained", dpi=_DPI)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1.0])
    low, high = _range(np.concatenate([true, seen]))
    left.plot([low, high], [low, high], color=GREY, linewidth=1)
    left.errorbar(true, seen, xerr=true_error, yerr=seen_error, fmt="o", color=BLUE, markersize=5,
                  elinewidth=1, alpha=0.85)  # fmt: skip
    for index, (x, y) in enumerate(zip(true, seen, strict=True)):
        left.annotate(str(index + 1), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    _dress(left, "mean return of every driver", "reference world", "generated world")
    order = np.argsort(true)
    height = np.arange(len(names))
    right.barh(height + 0.19, true[order], height=0.36, color=GREY, label="reference world")
    right.barh(height - 0.19, seen[order], height=0.36, color=BLUE, label="generated world")
    right.set_yticks(height, [f"{names[i]}  {i + 1}" for i in order], fontsize=8)
    _dress(right, "from worst to best in the reference world", "mean return", "")
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return _png(figure)


def sheet(rows: Sequence[tuple[str, UInt8[np.ndarray, "p h w 3"]]], heads: Sequence[str]) -> bytes:
    """Pictures in rows with a word beside each row and one above each column, as JPEG bytes."""
    height, width = (_ENLARGED * side for side in rows[0][1].shape[1:3])
    left, top, gap = 76, 18, 4
    size = (left + len(heads) * (width + gap), top + len(rows) * (height + gap))
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for column, word in enumerate(heads):
        draw.text((left + column * (width + gap) + 2, 3), word, fill="#5b6877")
    for row, (word, pictures) in enumerate(rows):
        y = top + row * (height + gap)
        draw.text((2, y + height // 2 - 6), word, fill="#5b6877")
        for column, shown in enumerate(pictures):
            large = Image.fromarray(shown).resize((width, height), Image.Resampling.LANCZOS)
            image.paste(large, (left + column * (width + gap), y))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=88)
    return out.getvalue()


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_PANEL[0] * count, _PANEL[1]), layout="constrained", dpi=_DPI)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of an axis that shows all but the farthest half per cent on either side."""
    if len(values) == 0:
        return -1.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    room = 0.06 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
