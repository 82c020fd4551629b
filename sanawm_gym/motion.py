"""How far the camera turned between two pictures, read from the pictures alone.

Scenery near the horizon is far away, so a turn moves it and driving forward hardly does. The band
around and above the horizon is resampled onto equal steps of azimuth, where a turn about the
vertical axis is a pure shift, and the shift that correlates the two bands best is the turn. No
learning, no features: the estimator knows nothing of any world model. Its error must be measured on
video of known motion before a figure that rests on it means anything.

Axes: n pairs, h rows, w columns, a azimuth steps.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter1d, map_coordinates

_STEPS = 512
_BAND = (0.12, 0.60)
"""Rows used, as shares of the picture's height; the horizon of a level camera is at 0.5."""


def estimate_yaw(
    before: UInt8[np.ndarray, "n h w 3"],
    after: UInt8[np.ndarray, "n h w 3"],
    focal_px: float,
    max_yaw: float = 0.2,
) -> Float[np.ndarray, " n"]:
    """Turn of the camera between pairs of pictures, left positive [rad].

    Args:
        before: Earlier pictures, RGB.
        after: Later pictures of the same camera.
        focal_px: Horizontal focal length of a centred camera [px].
        max_yaw: Largest turn considered, either way [rad].
    """
    width = before.shape[2]
    half_angle = np.arctan(0.5 * width / focal_px)
    azimuth = np.linspace(-half_angle, half_angle, _STEPS)
    columns = 0.5 * width - 0.5 + focal_px * np.tan(azimuth)
    step = azimuth[1] - azimuth[0]
    reach = int(np.ceil(max_yaw / step))
    yaws = [
        _best_shift(_band(first, columns), _band(second, columns), reach) * step
        for first, second in zip(before, after, strict=True)
    ]
    return np.array(yaws)


def _band(
    picture: UInt8[np.ndarray, "h w 3"], columns: Float[np.ndarray, " a"]
) -> Float[np.ndarray, "r a"]:
    """Edges along azimuth of the band around the horizon, every row at unit energy."""
    height = picture.shape[0]
    rows = np.arange(int(_BAND[0] * height), int(_BAND[1] * height))
    grey = picture.astype(np.float64).mean(axis=-1)
    grid = np.broadcast_arrays(rows[:, None], columns[None])
    band = map_coordinates(grey, grid, order=1, mode="nearest")
    edges: Float[np.ndarray, "r a"] = gaussian_filter1d(band, 3.0, axis=1, order=1)
    return edges


def _best_shift(
    first: Float[np.ndarray, "r a"], second: Float[np.ndarray, "r a"], reach: int
) -> float:
    """Shift s, in steps, for which second[:, i + s] matches first[:, i] best.

    A left turn moves scenery to the right, so a positive shift is a left turn.
    """
    steps = first.shape[1]
    scores = np.empty(2 * reach + 1)
    for index, shift in enumerate(range(-reach, reach + 1)):
        low, high = max(0, -shift), min(steps, steps - shift)
        a, b = first[:, low:high], second[:, low + shift : high + shift]
        energy = np.sqrt((a * a).sum() * (b * b).sum()) + 1e-9
        scores[index] = (a * b).sum() / energy
    best = int(scores.argmax())
    if 0 < best < 2 * reach:
        left, middle, right = scores[best - 1 : best + 2]
        curvature = left - 2 * middle + right
        offset = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    else:
        offset = 0.0
    return best - reach + float(offset)
