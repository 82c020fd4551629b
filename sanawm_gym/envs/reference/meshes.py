"""Flat-shaded quadrilaterals: the shapes that objects are made of.

A mesh lists quads in the object's own frame (x along the object, y left, z up, origin on the
ground). `layer` orders quads inside one object where distance cannot (windows after their wall);
`glow` marks what shines by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

RGB = tuple[float, float, float]
Vec = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Quads with colours.

    Attributes:
        vertices: Corners [m].
        normals: Unit normals outward; zero for quads that are seen from both sides.
        colors: RGB in 0-1 before light.
        layers: Drawing order inside the object, small first.
        glow: Whether a quad shines by itself.
    """

    vertices: Float64[np.ndarray, "m 4 3"]
    normals: Float64[np.ndarray, "m 3"]
    colors: Float64[np.ndarray, "m 3"]
    layers: Int64[np.ndarray, "m"]
    glow: Bool[np.ndarray, "m"]

    def placed(self, x: float, y: float, yaw: float) -> Mesh:
        """The mesh at a place of the world, turned by yaw [rad]."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        moved = self.vertices @ turn + np.array([x, y, 0.0])
        return Mesh(moved, self.normals @ turn, self.colors, self.layers, self.glow)

    @staticmethod
    def joined(meshes: list[Mesh]) -> Mesh:
        """Several meshes as one."""
        return Mesh(
            np.concatenate([mesh.vertices for mesh in meshes]),
            np.concatenate([mesh.normals for mesh in meshes]),
            np.concatenate([mesh.colors for mesh in meshes]),
            np.concatenate([mesh.layers for mesh in meshes]),
            np.concatenate([mesh.glow for mesh in meshes]),
        )


def quad(
    corners: tuple[Vec, Vec, Vec, Vec],
    color: RGB,
    *,
    layer: int = 0,
    two_sided: bool = False,
    glow: bool = False,
) -> Mesh:
    """One quad; its corners run counter-clockwise seen from outside."""
    vertices = np.array(corners, dtype=np.float64)
    normal = np.zeros(3) if two_sided else _normal(corners)
    return Mesh(
        vertices[None], normal[None], np.array([color]), np.array([layer]), np.array([glow])
    )


def _normal(corners: tuple[Vec, Vec, Vec, Vec]) -> Float64[np.ndarray, "3"]:
    """Unit normal from the diagonals (numpy's cross product is slow for single vectors)."""
    a, b, c, d = corners
    p, q = [c[i] - a[i] for i in range(3)], [d[i] - b[i] for i in range(3)]
    cross = (p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0])
    length = math.sqrt(sum(part * part for part in cross))
    return np.array(cross) / (length or 1.0)


def box(
    low: Vec,
    high: Vec,
    color: RGB,
    *,
    layer: int = 0,
    top_low: tuple[float, float] | None = None,
    top_high: tuple[float, float] | None = None,
    roof: RGB | None = None,
) -> Mesh:
    """A box without a floor; its top may be smaller than its bottom.

    Args:
        low: Smallest x, y, z [m].
        high: Largest x, y, z [m].
        color: Colour of the walls.
        layer: Drawing order inside the object.
        top_low: Smallest x, y of the top, as the bottom by default.
        top_high: Largest x, y of the top.
        roof: Colour of the top, as the walls by default.
    """
    (x0, y0, z0), (x1, y1, z1) = low, high
    (a0, b0), (a1, b1) = top_low or (x0, y0), top_high or (x1, y1)
    walls = (
        ((x0, y1, z0), (x0, y0, z0), (a0, b0, z1), (a0, b1, z1)),
        ((x1, y0, z0), (x1, y1, z0), (a1, b1, z1), (a1, b0, z1)),
        ((x0, y0, z0), (x1, y0, z0), (a1, b0, z1), (a0, b0, z1)),
        ((x1, y1, z0), (x0, y1, z0), (a0, b1, z1), (a1, b1, z1)),
    )
    sides = [quad(wall, color, layer=layer) for wall in walls]
    top = ((a0, b0, z1), (a1, b0, z1), (a1, b1, z1), (a0, b1, z1))
    return Mesh.joined([*sides, quad(top, roof or color, layer=layer)])


def panel(
    x: float,
    y_low: float,
    y_high: float,
    z_low: float,
    z_high: float,
    color: RGB,
    *,
    layer: int = 1,
    glow: bool = False,
) -> Mesh:
    """An upright plate across the object at x that faces backwards (towards -x)."""
    corners = ((x, y_high, z_low), (x, y_low, z_low), (x, y_low, z_high), (x, y_high, z_high))
    return quad(corners, color, layer=layer, glow=glow)


def house(rng: np.random.Generator, *, lit: bool, snow: bool) -> Mesh:
    """A family house with a gable roof; its front faces -y."""
    length, depth = rng.uniform(8.0, 14.0), rng.uniform(7.0, 10.0)
    storeys = int(rng.integers(1, 3))
    eaves, ridge = 2.9 * storeys, 2.9 * storeys + rng.uniform(1.8, 3.2)
    walls: tuple[RGB, ...] = (
        (0.86, 0.82, 0.74), (0.9, 0.89, 0.86), (0.72, 0.47, 0.38),
        (0.78, 0.68, 0.5), (0.63, 0.66, 0.68), (0.82, 0.72, 0.66),
    )  # fmt: skip
    roofs: tuple[RGB, ...] = (
        (0.55, 0.27, 0.2),
        (0.36, 0.31, 0.3),
        (0.45, 0.22, 0.18),
        (0.3, 0.33, 0.37),
    )
    wall, roof = walls[rng.integers(len(walls))], roofs[rng.integers(len(roofs))]
    if snow:
        roof = (0.88, 0.9, 0.94)
    x, y = length / 2, depth / 2
    parts = [box((-x, -y, 0.0), (x, y, eaves), wall)]
    out = 0.5
    low = eaves - 0.2
    for side in (-1.0, 1.0):
        u, v = side * (x + out), side * (y + out)
        slope = ((-u, -v, low), (u, -v, low), (u, 0.0, ridge), (-u, 0.0, ridge))
        parts.append(quad(slope, roof, layer=3))
    for side in (-1.0, 1.0):
        edge = (side * x, -side * y, eaves)
        gable = (edge, (side * x, side * y, eaves), (side * x, 0.0, ridge), (side * x, 0.0, ridge))
        parts.append(quad(gable, wall, layer=2))
    parts += _windows(rng, x, y, storeys, lit=lit)
    return Mesh.joined(parts)


def block(rng: np.random.Generator, *, lit: bool) -> Mesh:
    """A town building of several storeys with bands of windows."""
    length, depth = rng.uniform(12.0, 24.0), rng.uniform(10.0, 16.0)
    storeys = int(rng.integers(3, 9))
    tones: tuple[RGB, ...] = (
        (0.68, 0.62, 0.55), (0.62, 0.42, 0.34), (0.72, 0.72, 0.7),
        (0.56, 0.58, 0.62), (0.8, 0.74, 0.62), (0.5, 0.46, 0.43),
    )  # fmt: skip
    wall = tones[rng.integers(len(tones))]
    x, y, height = length / 2, depth / 2, 3.1 * storeys + 1.0
    parts = [box((-x, -y, 0.0), (x, y, height), wall, roof=(0.4, 0.4, 0.4))]
    for storey in range(storeys):
        low, high = 3.1 * storey + 1.0, 3.1 * storey + 2.6
        glow = lit and rng.random() < 0.35
        pane = (0.95, 0.8, 0.5) if glow else (0.27, 0.33, 0.4)
        corners = ((-x + 1, -y, low), (x - 1, -y, low), (x - 1, -y, high), (-x + 1, -y, high))
        parts.append(quad(corners, pane, layer=1, glow=glow))
        for side in (-1.0, 1.0):
            end, near, far = side * x, -side * (y - 1), side * (y - 1)
            across = ((end, near, low), (end, far, low), (end, far, high), (end, near, high))
            parts.append(quad(across, pane, layer=1, glow=glow))
    for pier in np.arange(-x + 3.0, x - 2.0, 3.4):
        corners = (
            (pier, -y, 0.0),
            (pier + 0.9, -y, 0.0),
            (pier + 0.9, -y, height),
            (pier, -y, height),
        )
        parts.append(quad(corners, wall, layer=2))
    return Mesh.joined(parts)


def _windows(
    rng: np.random.Generator, x: float, y: float, storeys: int, *, lit: bool
) -> list[Mesh]:
    """Windows and a door in the front of a house, windows in its gable walls."""
    parts: list[Mesh] = []
    places = np.arange(-x + 1.2, x - 1.6, 2.6)
    for storey in range(storeys):
        low, high = 2.9 * storey + 0.9, 2.9 * storey + 2.2
        for place in places:
            glow = lit and rng.random() < 0.4
            pane = (0.98, 0.82, 0.5) if glow else (0.25, 0.3, 0.36)
            corners = (
                (place, -y, low),
                (place + 1.2, -y, low),
                (place + 1.2, -y, high),
                (place, -y, high),
            )
            parts.append(quad(corners, pane, layer=1, glow=glow))
        for side in (-1.0, 1.0):
            across = ((side * x, -side * 0.8, low), (side * x, side * 0.8, low),
                      (side * x, side * 0.8, high), (side * x, -side * 0.8, high))  # fmt: skip
            parts.append(quad(across, (0.25, 0.3, 0.36), layer=1))
    door = ((0.4, -y, 0.0), (1.5, -y, 0.0), (1.5, -y, 2.1), (0.4, -y, 2.1))
    parts.append(quad(door, (0.4, 0.26, 0.18), layer=2))
    return parts


def post(height: float, thickness: float, color: RGB, *, band: RGB | None = None) -> Mesh:
    """A pole, with a dark band near its top if a colour is given."""
    half = thickness / 2
    parts = [box((-half, -half, 0.0), (half, half, height), color)]
    if band is not None:
        wide = half + 0.005
        parts.append(box((-wide, -wide, 0.72 * height), (wide, wide, 0.86 * height), band, layer=1))
    return Mesh.joined(parts)


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign that faces drivers coming along +x."""
    kinds: tuple[tuple[RGB, RGB], ...] = (
        ((0.85, 0.12, 0.12), (0.95, 0.95, 0.93)),
        ((0.1, 0.3, 0.68), (0.92, 0.93, 0.95)),
        ((0.95, 0.75, 0.1), (0.2, 0.2, 0.2)),
        ((0.1, 0.42, 0.25), (0.93, 0.94, 0.93)),
    )
    border, middle = kinds[rng.integers(len(kinds))]
    height, half = rng.uniform(2.1, 2.6), rng.uniform(0.36, 0.55)
    parts = [
        box((-0.04, -0.05, 0.0), (0.04, 0.05, height + half), (0.55, 0.55, 0.57)),
        panel(-0.06, -half, half, height - half, height + half, border, layer=1),
        panel(
            -0.07,
            -0.66 * half,
            0.66 * half,
            height - 0.66 * half,
            height + 0.66 * half,
            middle,
            layer=2,
        ),
    ]
    low, high = height - half, height + half
    back = ((0.06, -half, low), (0.06, half, low), (0.06, half, high), (0.06, -half, high))
    parts.append(quad(back, (0.5, 0.5, 0.52), layer=1))
    return Mesh.joined(parts)


def lamp(*, lit: bool) -> Mesh:
    """A street lamp whose arm reaches towards +y."""
    head = (1.0, 0.9, 0.66) if lit else (0.7, 0.7, 0.7)
    parts = [
        box((-0.08, -0.08, 0.0), (0.08, 0.08, 7.0), (0.45, 0.46, 0.47)),
        box((-0.05, 0.0, 6.9), (0.05, 1.8, 7.05), (0.45, 0.46, 0.47), layer=1),
        panel(-0.2, 1.3, 2.1, 6.75, 7.0, head, layer=2, glow=lit),
        quad(
            ((0.2, 1.3, 6.75), (0.2, 2.1, 6.75), (0.2, 2.1, 7.0), (0.2, 1.3, 7.0)),
            head,
            layer=2,
            glow=lit,
        ),
    ]
    return Mesh.joined(parts)


def strip(
    points: Float64[np.ndarray, "n 2"], low: float, high: float, thickness: float, color: RGB
) -> list[Mesh]:
    """A rail, hedge or wall along a line of points: one mesh between every two points."""
    parts: list[Mesh] = []
    for (x0, y0), (x1, y1) in pairwise(points.tolist()):
        length, yaw = float(np.hypot(x1 - x0, y1 - y0)), float(np.arctan2(y1 - y0, x1 - x0))
        half = thickness / 2
        body = box((0.0, -half, low), (length, half, high), color)
        keep = np.array([False, False, True, True, True])  # no ends between stretches
        body = Mesh(
            body.vertices[keep],
            body.normals[keep],
            body.colors[keep],
            body.layers[keep],
            body.glow[keep],
        )
        parts.append(body.placed(float(x0), float(y0), yaw))
    return parts
