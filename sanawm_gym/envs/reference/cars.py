"""How other vehicles look: shaded boxes with windows, wheels, lights and a shadow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .meshes import RGB, Mesh, box, panel, quad

COLORS: tuple[RGB, ...] = (
    (0.82, 0.82, 0.84), (0.12, 0.12, 0.14), (0.55, 0.57, 0.6), (0.62, 0.1, 0.1), (0.13, 0.24, 0.5),
    (0.93, 0.93, 0.92), (0.3, 0.33, 0.36), (0.16, 0.36, 0.27), (0.75, 0.55, 0.16),
    (0.42, 0.3, 0.22),
)  # fmt: skip
GLASS: RGB = (0.16, 0.2, 0.25)
TYRE: RGB = (0.06, 0.06, 0.06)


@dataclass(frozen=True)
class Body:
    """Shape of a vehicle.

    Attributes:
        name: sedan, hatchback, van or truck.
        length: Length [m].
        width: Width [m].
        height: Height [m].
    """

    name: str
    length: float
    width: float
    height: float


BODIES = (
    Body("sedan", 4.6, 1.82, 1.45),
    Body("hatchback", 4.2, 1.8, 1.58),
    Body("van", 5.2, 1.98, 2.15),
    Body("truck", 8.6, 2.4, 3.3),
)


@dataclass(frozen=True)
class Car:
    """A vehicle to draw.

    Attributes:
        x: Middle of the box, east [m].
        y: Middle of the box, north [m].
        heading: Direction [rad].
        body: Index into BODIES.
        color: Index into COLORS.
        braking: Whether the brake lights shine.
    """

    x: float
    y: float
    heading: float
    body: int
    color: int
    braking: bool


def car_mesh(car: Car, *, lights_on: bool) -> Mesh:
    """The vehicle's quads in the world frame."""
    mesh = _mesh(car.body, car.color, car.braking, lights_on)
    return mesh.placed(car.x, car.y, car.heading)


@lru_cache(maxsize=256)
def _mesh(body_index: int, color_index: int, braking: bool, lights_on: bool) -> Mesh:
    """A vehicle at the origin."""
    body, paint = BODIES[body_index], COLORS[color_index]
    x, y, top = body.length / 2, body.width / 2, body.height
    parts = [_shadow(x + 0.35, y + 0.3, -3, 0.72), _shadow(x, y, -2, 0.45)]
    if body.name == "truck":
        parts += _truck(x, y, top, paint)
        belt = 1.15
    elif body.name == "van":
        parts += [box((-x, -y, 0.35), (x, y, 1.1), paint)]
        parts += _cabin((-x, x - 0.55), (-x + 0.08, x - 1.5), y, 1.1, top, paint)
        belt = 1.1
    else:
        belt = 0.56 * top + 0.08
        rear = -x + (0.7 if body.name == "sedan" else 0.12)
        parts += [
            box(
                (-x, -y, 0.3),
                (x, y, belt),
                paint,
                top_low=(-x + 0.06, -y + 0.06),
                top_high=(x - 0.12, y - 0.06),
            )
        ]
        parts += _cabin((rear, x - 1.15), (rear + 0.45, x - 1.9), y - 0.06, belt, top, paint)
    parts += [
        box((-x + 0.06, -y + 0.05, 0.12), (x - 0.06, y - 0.05, 0.36), (0.09, 0.09, 0.1), layer=-1)
    ]
    for place in (-0.62 * x, 0.62 * x):
        for side in (-1.0, 1.0):
            parts.append(_wheel(place, side * (y + 0.005), 0.33 if top < 3 else 0.45))
    tail: RGB = (
        (1.0, 0.1, 0.07) if braking else ((0.75, 0.06, 0.05) if lights_on else (0.5, 0.07, 0.06))
    )
    head: RGB = (1.0, 0.98, 0.88) if lights_on else (0.88, 0.9, 0.92)
    low, high = belt - 0.3, belt - 0.1
    for side in (-1.0, 1.0):
        inner, outer = side * (y - 0.42), side * (y - 0.04)
        a, b = min(inner, outer), max(inner, outer)
        parts.append(panel(-x - 0.01, a, b, low, high, tail, layer=4, glow=braking or lights_on))
        front = ((x + 0.01, a, low), (x + 0.01, b, low), (x + 0.01, b, high), (x + 0.01, a, high))
        parts.append(quad(front, head, layer=4, glow=lights_on))
    parts.append(panel(-x - 0.01, -0.26, 0.26, low - 0.16, low - 0.05, (0.85, 0.85, 0.8), layer=4))
    return Mesh.joined(parts)


def _cabin(
    bottom: tuple[float, float],
    top: tuple[float, float],
    y: float,
    low: float,
    high: float,
    paint: RGB,
) -> list[Mesh]:
    """Roof on pillars with glass between; (rear, front) of its bottom and top."""
    (x0, x1), (a0, a1) = bottom, top
    inset = 0.16
    shell = box(
        (x0, -y, low),
        (x1, y, high),
        paint,
        layer=1,
        top_low=(a0, -y + inset),
        top_high=(a1, y - inset),
    )

    panes = []
    for wall in shell.vertices[:4]:
        a, b, c, d = (wall.mean(axis=0) + 0.82 * (wall - wall.mean(axis=0))).tolist()
        panes.append(quad((tuple(a), tuple(b), tuple(c), tuple(d)), GLASS, layer=2))
    return [shell, *panes]


def _truck(x: float, y: float, top: float, paint: RGB) -> list[Mesh]:
    """A cab and a loading box."""
    cab = box((x - 1.9, -y + 0.05, 0.5), (x, y - 0.05, 2.6), paint)
    cargo = box((-x, -y, 0.85), (x - 2.1, y, top), (0.86, 0.86, 0.84))
    bed = box((-x, -y + 0.1, 0.5), (x - 1.9, y - 0.1, 0.85), (0.18, 0.18, 0.2))
    pane = (
        (x + 0.01, -y + 0.2, 1.6),
        (x + 0.01, y - 0.2, 1.6),
        (x + 0.01, y - 0.2, 2.4),
        (x + 0.01, -y + 0.2, 2.4),
    )
    seam = panel(-x - 0.01, -0.03, 0.03, 0.9, top - 0.1, (0.55, 0.55, 0.55), layer=2)
    return [bed, cargo, cab, quad(pane, GLASS, layer=2), seam]


def _wheel(x: float, y: float, radius: float) -> Mesh:
    """A dark square with cut corners would be rounder; at this size a square does."""
    r = 0.9 * radius
    corners = ((x - r, y, 0.02), (x + r, y, 0.02), (x + r, y, 2 * r), (x - r, y, 2 * r))
    return quad(corners, TYRE, layer=3, two_sided=True)


def _shadow(x: float, y: float, layer: int, tone: float) -> Mesh:
    """Dark asphalt below the vehicle."""
    corners = ((-x, -y, 0.01), (x, -y, 0.01), (x, y, 0.01), (-x, y, 0.01))
    grey = 0.36 * tone
    return quad(corners, (grey, grey, grey), layer=layer)
