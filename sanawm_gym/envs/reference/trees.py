"""Trees and bushes as billboards of a few shaded polygons each."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

NUM_POLYGONS = 5  # polygons of one tree
NUM_VERTICES = 12  # corners of one polygon
KINDS = ("broadleaf", "conifer", "poplar", "bush", "bare", "palm")
VARIANTS = 4


class TreeTemplates:
    """Shapes of unit height.

    Attributes:
        shapes: Corners (right, up) of every polygon, trees of height 1.
        shades: Brightness of every polygon; negative for wood.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw VARIANTS shapes of every kind."""
        makers = (_broadleaf, _conifer, _poplar, _bush, _bare, _palm)
        pairs = [maker(rng) for maker in makers for _ in range(VARIANTS)]
        self.shapes: Float64[np.ndarray, "t p k 2"] = np.stack([shape for shape, _ in pairs])
        self.shades: Float64[np.ndarray, "t p"] = np.array([shade for _, shade in pairs])

    @staticmethod
    def index(kind: str, variant: int) -> int:
        """Row of one shape."""
        return KINDS.index(kind) * VARIANTS + variant


Shape = tuple[Float64[np.ndarray, "p k 2"], list[float]]


def _blob(
    rng: np.random.Generator, x: float, y: float, width: float, height: float, rough: float = 0.12
) -> Float64[np.ndarray, "k 2"]:
    angle = np.linspace(0, 2 * np.pi, NUM_VERTICES, endpoint=False) + rng.uniform(0, 0.5)
    radius = 1.0 + rough * rng.standard_normal(NUM_VERTICES)
    return np.stack(
        [x + width * radius * np.cos(angle), y + height * radius * np.sin(angle)], axis=1
    )


def _polygon(corners: list[tuple[float, float]]) -> Float64[np.ndarray, "k 2"]:
    padded = corners + [corners[-1]] * (NUM_VERTICES - len(corners))
    return np.array(padded)


def _trunk(width: float, height: float) -> Float64[np.ndarray, "k 2"]:
    return _polygon([(-width, 0.0), (width, 0.0), (0.6 * width, height), (-0.6 * width, height)])


def _broadleaf(rng: np.random.Generator) -> Shape:
    w = rng.uniform(0.3, 0.42)
    return np.stack([
        _trunk(0.035, 0.45),
        _blob(rng, 0.0, 0.62, w, 0.34),
        _blob(rng, -0.4 * w, 0.6, 0.6 * w, 0.24),
        _blob(rng, 0.25 * w, 0.72, 0.62 * w, 0.22),
        _blob(rng, 0.1 * w, 0.8, 0.4 * w, 0.13),
    ]), [-1.0, 0.72, 0.85, 1.0, 1.14]  # fmt: skip


def _conifer(rng: np.random.Generator) -> Shape:
    w = rng.uniform(0.17, 0.25)
    tiers = [
        _polygon(
            [
                (-w * k, low),
                (w * k, low),
                (0.35 * w * k, high),
                (0.0, high + 0.04),
                (-0.35 * w * k, high),
            ]
        )
        for k, low, high in ((1.0, 0.1, 0.42), (0.8, 0.33, 0.66), (0.55, 0.56, 0.95))
    ]
    light = _polygon([(0.02, 0.14), (0.6 * w, 0.14), (0.3 * w, 0.5), (0.02, 0.93)])
    return np.stack([_trunk(0.025, 0.2), *tiers, light]), [-1.0, 0.7, 0.82, 0.95, 1.08]


def _poplar(rng: np.random.Generator) -> Shape:
    w = rng.uniform(0.1, 0.15)
    return np.stack([
        _trunk(0.02, 0.2),
        _blob(rng, 0.0, 0.54, w, 0.46, 0.06),
        _blob(rng, 0.25 * w, 0.56, 0.7 * w, 0.38, 0.06),
        _blob(rng, 0.4 * w, 0.6, 0.35 * w, 0.28, 0.06),
        _blob(rng, 0.3 * w, 0.75, 0.25 * w, 0.12, 0.06),
    ]), [-1.0, 0.75, 0.9, 1.05, 1.12]  # fmt: skip


def _bush(rng: np.random.Generator) -> Shape:
    w = rng.uniform(0.6, 1.0)
    return np.stack([
        _trunk(0.02, 0.1),
        _blob(rng, 0.0, 0.42, w, 0.46),
        _blob(rng, 0.2 * w, 0.55, 0.65 * w, 0.36),
        _blob(rng, -0.3 * w, 0.55, 0.4 * w, 0.28),
        _blob(rng, 0.3 * w, 0.7, 0.3 * w, 0.18),
    ]), [-1.0, 0.72, 0.9, 0.98, 1.12]  # fmt: skip


def _bare(rng: np.random.Generator) -> Shape:
    lean = rng.uniform(-0.05, 0.05)

    def bough(low: float, x: float, y: float) -> Float64[np.ndarray, "k 2"]:
        return _polygon([(-0.015, low), (0.015, low + 0.02), (x, y), (x - 0.01, y)])

    return np.stack([
        _polygon([(-0.035, 0.0), (0.035, 0.0), (0.01 + lean, 0.95), (lean - 0.01, 0.95)]),
        bough(0.4, 0.28, 0.78),
        bough(0.35, -0.3, 0.72),
        bough(0.58, 0.2, 0.92),
        bough(0.55, -0.18, 0.95),
    ]), [-1.0, -0.95, -1.05, -0.9, -1.1]  # fmt: skip


def _palm(rng: np.random.Generator) -> Shape:
    lean = rng.uniform(-0.08, 0.08)

    def frond(x: float, y: float) -> Float64[np.ndarray, "k 2"]:
        return _polygon(
            [(lean, 0.86), (lean + 0.5 * x, 0.96), (lean + x, y), (lean + 0.45 * x, 0.87)]
        )

    return np.stack([
        _polygon([(-0.03, 0.0), (0.03, 0.0), (lean + 0.018, 0.88), (lean - 0.018, 0.88)]),
        frond(0.34, 0.72), frond(-0.34, 0.72), frond(0.3, 0.92), frond(-0.28, 0.94),
    ]), [-1.0, 0.8, 0.9, 1.05, 1.0]  # fmt: skip


def leaf_colors(
    rng: np.random.Generator, kinds: Int64[np.ndarray, "n"], ground: str
) -> Float64[np.ndarray, "n 3"]:
    """Colour of the leaves of every tree."""
    base = np.array([
        [0.25, 0.38, 0.14], [0.14, 0.27, 0.15], [0.27, 0.38, 0.16],
        [0.29, 0.39, 0.17], [0.33, 0.28, 0.23], [0.3, 0.42, 0.18],
    ])  # fmt: skip
    colors = base[kinds] * rng.uniform(0.85, 1.2, size=(len(kinds), 1))
    colors = colors + rng.uniform(-0.03, 0.04, size=(len(kinds), 3)) * np.array([1.0, 0.6, 0.2])
    if ground == "snow":
        colors = 0.72 * colors + 0.28 * np.array([0.9, 0.93, 0.97])
    return np.asarray(np.clip(colors, 0.03, 1.0))
