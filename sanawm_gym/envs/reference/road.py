"""The road: straights, clothoids and arcs on flat ground, with a cross-section of lanes.

The heading of the centre line stays within +-77 degrees of east, so its x coordinate only grows and
the road can never meet itself. Positions along it are (s, d): s [m] along the centre line, d [m] to
the left of it. Lanes are bands of constant d (right-hand traffic); an extra lane on the right may
open and close by tapers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

from .scene import SceneConfig

STEP = 0.5  # spacing of centre-line samples [m]
MAX_HEADING = 1.35  # [rad]
TAPER = 45.0  # length over which an extra lane opens or closes [m]


@dataclass(frozen=True)
class Lane:
    """One lane.

    Attributes:
        center: Its middle, metres left of the centre line.
        forward: Whether it runs along growing s (the ego's direction).
        start: Where it begins to be fully wide [m along s]; -inf for lanes that run all along.
        end: Where it stops being fully wide [m]; inf for lanes that run all along.
    """

    center: float
    forward: bool
    start: float = -np.inf
    end: float = np.inf


class Road:
    """Geometry of one road."""

    def __init__(self, scene: SceneConfig, length: float) -> None:
        """Lay out a road.

        Args:
            scene: The world it belongs to.
            length: Length of the centre line [m], > 0.
        """
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, 0x40AD])))
        self.scene = scene
        self.curvature = _curvature_profile(rng, scene, length)
        self.s = np.arange(len(self.curvature)) * STEP
        self.length = float(self.s[-1])
        middle = (self.curvature[1:] + self.curvature[:-1]) / 2
        self.heading = np.concatenate([[0.0], np.cumsum(middle) * STEP])
        half = (self.heading[1:] + self.heading[:-1]) / 2
        self.x = np.concatenate([[0.0], np.cumsum(np.cos(half)) * STEP])
        self.y = np.concatenate([[0.0], np.cumsum(np.sin(half)) * STEP])
        self._tree = cKDTree(np.stack([self.x, self.y], axis=1))
        self._located: dict[tuple[float, float], tuple[float, float]] = {}

        width, forward, oncoming = scene.lane_width, scene.num_forward, scene.num_oncoming
        top = 0.0 if oncoming else forward * width / 2  # left border of the forward lanes
        self.base_left = top + oncoming * width
        self.base_right = top - forward * width
        self.forward_lanes = [Lane(top - (i + 0.5) * width, True) for i in range(forward)]
        self.oncoming_lanes = [Lane(top + (i + 0.5) * width, False) for i in range(oncoming)]
        self.extra_span = _extra_span(rng, scene, self.length)
        if self.extra_span is not None:
            start, end = self.extra_span
            self.forward_lanes.append(
                Lane(self.base_right - width / 2, True, start + TAPER, end - TAPER)
            )

    def point(
        self, s: Float64[np.ndarray, "*b"] | float, d: Float64[np.ndarray, "*b"] | float = 0.0
    ) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
        """World x [m], y [m], heading [rad] at (s, d); beyond both ends the road is straight."""
        s = np.asarray(s, dtype=np.float64)
        heading = np.interp(s, self.s, self.heading)
        beyond = s - np.clip(s, 0.0, self.length)
        x = np.interp(s, self.s, self.x) + beyond * np.cos(heading) - d * np.sin(heading)
        y = np.interp(s, self.s, self.y) + beyond * np.sin(heading) + d * np.cos(heading)
        return np.asarray(x), np.asarray(y), np.asarray(heading)

    def project(
        self, x: Float64[np.ndarray, "*b"] | float, y: Float64[np.ndarray, "*b"] | float
    ) -> tuple[Float64[np.ndarray, "*b"], Float64[np.ndarray, "*b"]]:
        """(s, d) of the nearest point of the centre line [m]."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        _, index = self._tree.query(np.stack([x, y], axis=-1))
        cos, sin = np.cos(self.heading[index]), np.sin(self.heading[index])
        dx, dy = x - self.x[index], y - self.y[index]
        along, left = dx * cos + dy * sin, -dx * sin + dy * cos
        inside = (index > 0) & (index < len(self.s) - 1)
        bend = np.where(inside, self.curvature[index], 0.0)
        along = along / np.maximum(1.0 - bend * left, 0.2)
        along = np.where(inside, np.clip(along, -STEP, STEP), along)
        return np.asarray(self.s[index] + along), np.asarray(left - bend * along**2 / 2)

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """`project` for one point; the last answers are remembered, as one step asks often."""
        key = (float(x), float(y))
        found = self._located.get(key)
        if found is None:
            if len(self._located) > 256:
                self._located.clear()
            s, d = self.project(*key)
            found = self._located[key] = (float(s), float(d))
        return found

    def heading_at(self, s: float) -> float:
        """Heading of the centre line at s [rad]."""
        return float(np.interp(s, self.s, self.heading))

    def curvature_at(self, s: Float64[np.ndarray, "*b"] | float) -> Float64[np.ndarray, "*b"]:
        """Curvature of the centre line [1/m], positive to the left."""
        return np.asarray(np.interp(s, self.s, self.curvature))

    def extra_width(self, s: Float64[np.ndarray, "*b"] | float) -> Float64[np.ndarray, "*b"]:
        """Width of the extra lane on the right [m], 0 where there is none."""
        s = np.asarray(s, dtype=np.float64)
        if self.extra_span is None:
            return np.zeros_like(s)
        start, end = self.extra_span
        ramp = np.clip(np.minimum(s - start, end - s) / TAPER, 0.0, 1.0)
        return np.asarray(self.scene.lane_width * ramp * ramp * (3.0 - 2.0 * ramp))

    def left_edge(self, s: Float64[np.ndarray, "*b"] | float) -> Float64[np.ndarray, "*b"]:
        """Left border of the lanes, metres left of the centre line."""
        return np.full_like(np.asarray(s, dtype=np.float64), self.base_left)

    def right_edge(self, s: Float64[np.ndarray, "*b"] | float) -> Float64[np.ndarray, "*b"]:
        """Right border of the lanes, metres left of the centre line (negative)."""
        return np.asarray(self.base_right - self.extra_width(s))

    def outside(
        self, x: Float64[np.ndarray, "*b"] | float, y: Float64[np.ndarray, "*b"] | float
    ) -> Float64[np.ndarray, "*b"]:
        """Distance beyond the nearer road edge [m]; negative on the road."""
        s, d = self.project(x, y)
        return np.asarray(np.maximum(d - self.left_edge(s), self.right_edge(s) - d))

    def open_lanes(self, s: float) -> list[Lane]:
        """Forward lanes that a car at s can use: full width now and for the next 60 m."""
        lanes = [lane for lane in self.forward_lanes if lane.start <= s and s + 60.0 <= lane.end]
        return lanes or self.forward_lanes[:1]

    def is_usable(self, lane: Lane, s: Float64[np.ndarray, "*b"] | float) -> Bool[np.ndarray, "*b"]:
        """Whether a lane has its full width at s."""
        return np.asarray((lane.start <= s) & (s <= lane.end))


def _curvature_profile(
    rng: np.random.Generator, scene: SceneConfig, length: float
) -> Float64[np.ndarray, "n"]:
    """Curvature at every STEP: straights and arcs joined by linear ramps (clothoids)."""
    pieces: list[Float64[np.ndarray, "k"]] = [np.zeros(int(30 / STEP))]
    total, heading = 30.0, 0.0
    wide = max(4.0 * scene.min_radius, 120.0)
    while total < length + 50.0:
        if rng.random() < scene.straightness:
            piece = np.zeros(
                int(rng.uniform(15.0, 90.0 if scene.min_radius < 150 else 180.0) / STEP)
            )
        else:
            radius = float(np.exp(rng.uniform(np.log(scene.min_radius), np.log(wide))))
            sign = 1.0 if rng.random() < 0.5 - 0.45 * heading / MAX_HEADING else -1.0
            room = MAX_HEADING - sign * heading
            ramp = float(np.clip(0.35 * radius, 8.0, 90.0))
            angle = min(rng.uniform(0.25, 1.6), room)
            if angle < ramp / radius + 0.02:
                continue  # no room for the ramps: draw another piece
            arc = (angle - ramp / radius) * radius
            count, flat = int(ramp / STEP), int(arc / STEP)
            rise = (np.arange(count) + 0.5) / count
            piece = sign / radius * np.concatenate([rise, np.ones(flat), rise[::-1]])
            heading += float(piece.sum()) * STEP
        pieces.append(piece)
        total += len(piece) * STEP
    return np.concatenate(pieces)[: int(length / STEP) + 1]


def _extra_span(
    rng: np.random.Generator, scene: SceneConfig, length: float
) -> tuple[float, float] | None:
    """Where the extra lane begins to open and has closed [m]."""
    if scene.merge == "none":
        return None
    if scene.merge == "joins":
        return float(rng.uniform(90.0, 200.0)), length + 500.0
    return -500.0, float(rng.uniform(220.0, 380.0))
