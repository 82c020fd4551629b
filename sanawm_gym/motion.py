"""How far the camera turned over a short clip, read from the pictures alone.

A turn moves everything alike; driving forward moves near things more than far ones, away from where
the car is going. So for every turn that is considered, every small cell of the earlier picture may
choose the distance that explains the later picture best, and the turn under which the cells are
explained best on the whole wins (a plane sweep with the distance of each cell profiled out). That
needs no far scenery, no lane markings and no learning: the estimator knows nothing of any world
model. It does know how a car moves. It goes over the ground, behind which no cell may lie. Its rear
axle does not slide, so over a turn psi a camera a lever l ahead of the axle goes in the direction
psi / 2 + l psi / advance from its first heading; without that, a turn and a slide to the side look
much alike in a narrow picture. And it does not change its turning much within a quarter of a
second, so the whole clip and its halves must agree on one rate: one pair of pictures that happens
to look alike does not decide.

Its error must be measured on video of known motion before a figure that rests on it means anything:
`benchmarks/steering.py` does.

Axes: f frames, p turns, d distances, h rows, w columns, i and j rows and columns of a sample grid,
y and x rows and columns of cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from scipy.ndimage import gaussian_filter

_NEARNESS = (0.0, 0.015, 0.04, 0.08, 0.13, 0.2, 0.3, 0.45, 0.65)
"""Advance over distance of the things a cell may show while turns are searched; 0 is the sky."""
_FINE_NEARNESS = (
    0.0, 0.008, 0.018, 0.03, 0.043, 0.058, 0.075, 0.095, 0.118, 0.145, 0.178, 0.218, 0.27, 0.34,
    0.43, 0.54, 0.68,
)  # fmt: skip
"""The same while the turn is refined: less than a pixel apart, or the gaps would bend the result
outwards (by a sixth, for gentle turns)."""
_CELL = 8
"""Side of a cell [px]."""
_COARSE_STEP = 0.01
"""Between the turns considered at first [rad]; a pixel of a 70 degree picture of 128 px."""
_GROUND = 0.7
"""Nearness of the ground that a cell must have at least, as a share of what the advance and the
height of the camera say: drawn motion may be that much slower, the road that much lower."""
_SEEN = 0.6
"""Share of a cell that must be seen in both pictures for the cell to count."""
_WORST = 1.0
"""Greatest squared difference: a thing that is only in one picture costs no more than this."""


@dataclass(frozen=True, kw_only=True)
class CarCamera:
    """A camera on a car that goes forward.

    Attributes:
        intrinsics: fx, fy, cx, cy [px].
        pitch: Positive looks down [rad].
        lever: How far the camera sits ahead of the rear axle [m].
        height: How far it sits above the ground [m], > 0.
    """

    intrinsics: tuple[float, float, float, float]
    pitch: float = 0.0
    lever: float = 1.5
    height: float = 1.5


def estimate_yaw(
    frames: UInt8[np.ndarray, "f h w 3"],
    camera: CarCamera,
    *,
    advance: float = 2.5,
    max_yaw: float = 0.3,
) -> float:
    """Turn of the camera from the first to the last frame of a clip, left positive [rad].

    Args:
        frames: Two or more pictures at equal times, RGB; a quarter of a second is a good length.
        camera: What took them.
        advance: About how far the car went [m]. It says which way the camera is swung by a turn and
            how near the ground is at least; what was drawn may be a third slower.
        max_yaw: Largest turn considered, either way [rad].
    """
    last = len(frames) - 1
    ends = [(0, last)] if last < 2 else [(0, last), (0, last // 2), (last // 2, last)]
    features = {index: _features(frames[index]) for pair in ends for index in pair}
    best = 0.0
    for spacing, reach, stride, nearness in (
        (_COARSE_STEP, math.ceil(max_yaw / _COARSE_STEP), 4, _NEARNESS),
        (_COARSE_STEP / 3, 4, 2, _FINE_NEARNESS),
        (_COARSE_STEP / 9, 4, 2, _FINE_NEARNESS),
    ):
        grid = _Grid.of(camera, frames.shape[1:3], stride)
        turns = best + spacing * np.arange(-reach, reach + 1)
        scores = np.zeros(len(turns))
        for start, stop in ends if stride == 4 else ends[:1]:
            share = (stop - start) / last
            scores += grid.scores(
                features[start],
                features[stop],
                share * turns,
                share * max(advance, 0.25),
                share * np.array(nearness),
            )
        index = int(scores.argmin())
        best = float(turns[index])
    return best + spacing * _vertex(scores, index)


def _features(picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Structure at a scale of a few pixels, at about equal strength everywhere.

    Large areas of light and the grain of single pixels are left out; the floor keeps noise in flat
    areas from being blown up.
    """
    grey = picture.astype(np.float32).mean(axis=-1)
    detail = gaussian_filter(grey, 1.0) - gaussian_filter(grey, 6.0)
    strength = np.sqrt(gaussian_filter(detail * detail, 6.0))
    return np.asarray(detail / (strength + 6.0), dtype=np.float32)


def _vertex(scores: Float[np.ndarray, " p"], index: int) -> float:
    """Place of the minimum between the samples, from a parabola through three of them."""
    if not 0 < index < len(scores) - 1:
        return 0.0
    left, middle, right = scores[index - 1 : index + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Samples of the earlier picture and the directions they were seen in."""

    camera: CarCamera
    stride: int
    columns: Float64[np.ndarray, "i j"]
    rows: Float64[np.ndarray, "i j"]
    directions: tuple[Float64[np.ndarray, "i j"], ...]
    """Right, down and forward in a level frame, at a distance of 1 along the ground."""

    @classmethod
    def of(cls, camera: CarCamera, shape: tuple[int, ...], stride: int) -> _Grid:
        fx, fy, cx, cy = camera.intrinsics
        rows, columns = np.meshgrid(
            np.arange(stride // 2, shape[0], stride, dtype=np.float64),
            np.arange(stride // 2, shape[1], stride, dtype=np.float64),
            indexing="ij",
        )
        right, down = (columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy
        cos, sin = math.cos(camera.pitch), math.sin(camera.pitch)
        forward, level_down = cos - sin * down, sin + cos * down
        ground = np.hypot(right, forward)
        directions = (right / ground, level_down / ground, forward / ground)
        return cls(camera=camera, stride=stride, columns=columns, rows=rows, directions=directions)

    def project(
        self, turns: Float[np.ndarray, "p 1 1 1"], advance: float, nearness: Float[np.ndarray, " d"]
    ) -> tuple[Float[np.ndarray, "p d i j"], Float[np.ndarray, "p d i j"]]:
        """Column and row at which the later picture shows the samples, by turn and nearness."""
        fx, fy, cx, cy = self.camera.intrinsics
        right, down, forward = self.directions
        nearness = nearness[:, None, None]
        course = (0.5 + self.camera.lever / advance) * turns
        right = right + nearness * np.sin(course)
        forward = forward - nearness * np.cos(course)
        cos, sin = np.cos(turns), np.sin(turns)
        right, forward = right * cos + forward * sin, forward * cos - right * sin
        cos, sin = math.cos(self.camera.pitch), math.sin(self.camera.pitch)
        depth = np.maximum(cos * forward + sin * down, 1e-2)
        down = cos * down - sin * forward
        return fx * right / depth + cx - 0.5, fy * down / depth + cy - 0.5

    def scores(
        self,
        first: Float32[np.ndarray, "h w"],
        second: Float32[np.ndarray, "h w"],
        turns: Float[np.ndarray, " p"],
        advance: float,
        nearness: Float[np.ndarray, " d"],
    ) -> Float64[np.ndarray, " p"]:
        """Mean difference of two pictures under every turn, each cell at its best distance.

        Args:
            first: Structure of the earlier picture.
            second: Structure of the later picture.
            turns: Turns in between [rad].
            advance: Way in between [m].
            nearness: That way over the distances a cell may have.
        """
        columns, rows = self.project(turns[:, None, None, None], advance, nearness)
        values, seen = _sample(second, columns, rows)
        stride = self.stride
        here = first[stride // 2 :: stride, stride // 2 :: stride]
        cost = np.minimum((values - here) ** 2, _WORST) * seen
        side = _CELL // stride
        cost, share = _pool(cost, side), _pool(seen.astype(np.float32), side)
        # Nothing is seen through the ground, so below the horizon a cell has a greatest distance.
        slope = _pool(self.directions[1][None, None], side)
        least = np.minimum(_GROUND * advance / self.camera.height * slope, nearness[-1] / 2)
        possible = nearness[:, None, None] >= least - 0.03 * nearness[-1]
        cost = np.where(possible & (share > _SEEN), cost / np.maximum(share, 1e-6), np.inf)
        cell = cost.min(axis=1)
        known = np.isfinite(cell)
        total = np.where(known, cell, 0.0).sum(axis=(1, 2))
        return np.asarray(total / np.maximum(known.sum(axis=(1, 2)), 1), dtype=np.float64)


def _sample(
    picture: Float32[np.ndarray, "h w"],
    columns: Float[np.ndarray, "*p i j"],
    rows: Float[np.ndarray, "*p i j"],
) -> tuple[Float32[np.ndarray, "*p i j"], Bool[np.ndarray, "*p i j"]]:
    """Bilinear values at fractional places, and whether the place lies in the picture."""
    height, width = picture.shape
    seen = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5) & (rows <= height - 0.5)
    u = np.clip(columns, 0, width - 1.001).astype(np.float32)
    v = np.clip(rows, 0, height - 1.001).astype(np.float32)
    left, top = np.floor(u), np.floor(v)
    flat, start = picture.ravel(), top.astype(np.intp) * width + left.astype(np.intp)
    u, v = u - left, v - top
    upper = flat[start] * (1 - u) + flat[start + 1] * u
    lower = flat[start + width] * (1 - u) + flat[start + width + 1] * u
    return upper * (1 - v) + lower * v, seen


def _pool(values: Float[np.ndarray, "p d i j"], side: int) -> Float[np.ndarray, "p d y x"]:
    """Means over cells of side x side samples; what does not fill a cell is left out."""
    p, d, i, j = values.shape
    y, x = i // side, j // side
    cells = values[:, :, : y * side, : x * side].reshape(p, d, y, side, x, side)
    return np.asarray(cells.mean(axis=(3, 5)))
