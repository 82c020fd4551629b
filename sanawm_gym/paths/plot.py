"""A path as a picture, to look at before anything is rendered.

On the left the path from above, as the first camera has it: ahead is up, right is right, one scale
for both, with the cameras of every few frames. On the right speed, turn and height over time, with
the limits of an envelope if one is given.

Axes: n frames, h rows, w columns.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from .camera_path import CameraPath
from .envelope import Envelope

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE, _DPI = (10.8, 6.0), 100
_NUM_CAMERAS = 14
_LEAST_HIGH = 0.5
"""Where the axis of a curve ends at least, so that rounding is not seen as motion."""


def plot_path(path: CameraPath, envelope: Envelope | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a path.

    Args:
        path: In any world frame; it is drawn from its first camera.
        envelope: What a world knows; its limits of speed and turn are drawn with the curves.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(_figure(path, envelope))
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def write_plot(path: CameraPath, file: str | Path, envelope: Envelope | None = None) -> None:
    """Write the picture of a path (.png), replaced whole.

    Raises:
        ValueError: If the file is no .png.
    """
    file = Path(file)
    if file.suffix.lower() != ".png":
        raise ValueError(f"plot: got {file}, expected a .png file; try path.png")
    buffer = io.BytesIO()
    _figure(path, envelope).savefig(buffer, format="png")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, file)


def _figure(path: CameraPath, envelope: Envelope | None) -> Figure:
    # Slow to import, and most who use paths never plot one.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    panels = figure.subplot_mosaic([["above", part] for part in ("speed", "turn", "height")])
    seen = path.beginning_at(np.eye(4))
    _from_above(panels["above"], seen)
    known = (None, None) if envelope is None else (envelope.forward, math.degrees(envelope.yaw))
    curves = (
        ("speed", "speed [m/s]", seen.speeds(), known[0]),
        ("turn", "turn [degrees/s]", np.degrees(seen.turn_rates()), known[1]),
        ("height", "height above the first camera [m]", -seen.poses[:, 1, 3], None),
    )
    seconds = np.arange(path.num_frames) / path.fps
    for name, title, values, limit in curves:
        axes, high = panels[name], max([_LEAST_HIGH, *values.tolist()])
        axes.plot(seconds[len(seconds) - len(values) :], values)
        axes.set_title(title if limit is None else f"{title}, at most {limit:.3g} known")
        axes.grid(alpha=0.3)
        # A limit far above the curve is said in the title; drawn, it would flatten the curve.
        if limit is not None and limit < 4 * high:
            axes.axhline(limit, color="tab:orange")
            high = max(high, limit)
        low = min([0.0, *values.tolist()])
        axes.set_ylim(1.08 * low, high + 0.08 * (high - low))
    panels["height"].set_xlabel("time [s]")
    return figure


def _from_above(axes: Axes, path: CameraPath) -> None:
    places = path.poses[:, :3, 3]
    right, ahead = places[:, 0], places[:, 2]
    half = max(float(np.ptp(right)), float(np.ptp(ahead)), 0.5) * 0.58
    middle = float(right.max() + right.min()) / 2, float(ahead.max() + ahead.min()) / 2
    corners = 0.1 * half * np.array([(0.0, 0.0), (-0.6, 1.0), (0.6, 1.0), (0.0, 0.0)])
    for index in np.unique(np.linspace(0, path.num_frames - 1, _NUM_CAMERAS).round().astype(int)):
        cone = places[index] + corners @ path.poses[index, :3, [0, 2]]
        axes.plot(cone[:, 0], cone[:, 2], color="silver", linewidth=1)
    axes.plot(right, ahead)
    axes.plot(right[0], ahead[0], "o", color="tab:green", label="begin")
    axes.plot(right[-1], ahead[-1], "o", color="tab:red", label="end")
    length = float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    axes.set(
        title=f"from above [m]: {path.num_frames} frames, {path.seconds:.1f} s, {length:.1f} m",
        xlim=(middle[0] - half, middle[0] + half),
        ylim=(middle[1] - half, middle[1] + half),
        aspect="equal",
    )
    axes.grid(alpha=0.3)
    axes.legend()
