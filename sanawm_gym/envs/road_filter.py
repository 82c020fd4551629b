"""Where the car is on its road: what single pictures say, put together with how the car moved.

A head looks at one picture and forgets the last one. But the car's motion is exact, so a reading
holds on: a car that was 1 m right of its lane's middle and went 1 m further to the right is now 2 m
off, whatever the newest picture seems to show. An extended Kalman filter (Kalman 1960) keeps lane
offset, both edges, heading and curvature with their covariance, moves them by the car's motion and
corrects them by every picture.

With x the way of a decision along the car's heading at its beginning, y to its left [m] and theta
the turn [rad], heading psi against a road of curvature kappa, the offset o becomes

    o + x sin(psi) + y cos(psi) - kappa x^2 / 2        psi + theta - kappa x

the right edge moves as the offset does, the left edge the other way. The curvature is forgotten
over `curvature_memory`, and all of it is the less sure the longer the way.

Two things make the plain filter fit for heads. The errors of pictures in a row are alike, so many
of them count as one (`place_repeats` and its like). And a picture that contradicts everything
before it counts less (`surprise`): a world that draws a new road under a car that has left the old
one is believed, if it insists, but not at once.

Axes: b cars, q quantities, n what is kept: lane offset, left edge, right edge, heading, curvature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from sanawm_gym.vehicle import YAW, X, Y

from .reading import QUANTITIES, Reading, gaussian_below

KEPT = ("lane_offset", "left_edge", "right_edge", "heading_error", "curvature_ahead")
"""Quantities that the filter keeps, the axis n."""
_OFFSET, _LEFT, _RIGHT, _HEADING, _CURVATURE = range(len(KEPT))
_COLUMNS = [QUANTITIES.index(name) for name in KEPT]
_ON_ROAD = QUANTITIES.index("on_road")
_LEAST = 0.02
"""Share of a quantity's variance that a picture must explain to be heard at all."""


@dataclass(frozen=True, kw_only=True)
class RoadFilterConfig:
    """How far motion is believed against pictures.

    The defaults were chosen on 88 recorded drives of 15 s, 60 of which leave the road, and on 40
    drives of both worlds side by side.
    """

    place_repeats: float = 50.0
    """Pictures in a row whose readings of lane and edges count as one, >= 1."""
    heading_repeats: float = 400.0
    """The same for the heading, >= 1."""
    curvature_repeats: float = 15.0
    """The same for the curvature, >= 1."""
    lane_walk: float = 0.02
    """Variance that the lane's middle gains over a metre of road [m^2/m], >= 0."""
    edge_walk: float = 0.05
    """The same of either edge [m^2/m], >= 0: roads widen and narrow."""
    heading_walk: float = 1e-4
    """The same of the heading [rad^2/m], >= 0."""
    curvature_walk: float = 3e-6
    """The same of the curvature [1/m^3], >= 0."""
    curvature_memory: float = 50.0
    """Way over which a bend is forgotten [m], > 0."""
    surprise: float = 6.0
    """Squared error over its expected square from which a picture counts less, > 0."""
    lane_width: float = 3.5
    """Way to the middle of the next lane [m], > 0."""

    def __post_init__(self) -> None:
        """Check every number."""
        repeats = (self.place_repeats, self.heading_repeats, self.curvature_repeats)
        walks = (self.lane_walk, self.edge_walk, self.heading_walk, self.curvature_walk)
        ways = (self.curvature_memory, self.surprise, self.lane_width)
        sound = min(repeats) >= 1 and min(walks) >= 0 and min(ways) > 0
        if not (sound and all(map(math.isfinite, (*repeats, *walks, *ways)))):
            raise ValueError(
                f"road_filter: got {self}, expected repeats of at least 1, walks of at least 0, "
                "and curvature_memory, surprise and lane_width above 0, all finite"
            )

    def follow(
        self,
        belief: RoadBelief,
        moved: Float64[np.ndarray, "b 3"],
        reading: Reading,
        spread: Float64[np.ndarray, " m"],
    ) -> RoadBelief:
        """What is believed after a decision.

        Args:
            belief: Before it.
            moved: From `motion_between`.
            reading: What the picture at its end says.
            spread: Standard deviation of every number over all roads, as the heads were trained.
        """
        mean, covariance = self._moved(belief, moved)
        repeats = [self.place_repeats] * 3 + [self.heading_repeats, self.curvature_repeats]
        said = reading.mean[:, _COLUMNS]
        variance = np.maximum(reading.deviation[:, _COLUMNS] ** 2, 1e-9)
        # A reading that is no surer than the usual answer is that answer, and says nothing.
        told = 1.0 - variance / spread[_COLUMNS] ** 2
        is_heard = (told > _LEAST) & np.isfinite(said)
        error = np.array(repeats) * variance / np.where(is_heard, told, 1.0)
        for index in (_CURVATURE, _HEADING, _RIGHT, _LEFT, _OFFSET):
            if index == _OFFSET:
                self._change_lane(mean, said[:, _OFFSET], is_heard[:, _OFFSET])
            gap = np.where(is_heard[:, index], said[:, index] - mean[:, index], 0.0)
            if index == _HEADING:
                gap = _wrapped(gap)
            own = covariance[:, index, index]
            doubt = np.maximum(gap**2 / (own + error[:, index]) / self.surprise, 1.0)
            gain = covariance[:, :, index] / (own + error[:, index] * doubt)[:, None]
            gain = np.where(is_heard[:, index, None], gain, 0.0)
            mean = mean + gain * gap[:, None]
            covariance = covariance - gain[:, :, None] * covariance[:, index, None, :]
        mean[:, _HEADING] = _wrapped(mean[:, _HEADING])
        return RoadBelief(mean=mean, covariance=covariance)

    def _moved(
        self, belief: RoadBelief, moved: Float64[np.ndarray, "b 3"]
    ) -> tuple[Float64[np.ndarray, "b n"], Float64[np.ndarray, "b n n"]]:
        """Mean and covariance after a motion, before the picture."""
        ahead, aside, turn = moved.T
        heading, curvature = belief.mean[:, _HEADING], belief.mean[:, _CURVATURE]
        sine, cosine = np.sin(heading), np.cos(heading)
        across = ahead * sine + aside * cosine - curvature * ahead**2 / 2
        keep = np.exp(-np.abs(ahead) / self.curvature_memory)
        mean = belief.mean.copy()
        for index, sign in ((_OFFSET, 1.0), (_LEFT, -1.0), (_RIGHT, 1.0)):
            mean[:, index] += sign * across
        mean[:, _HEADING] = _wrapped(heading + turn - curvature * ahead)
        mean[:, _CURVATURE] *= keep
        jacobian = np.zeros_like(belief.covariance)
        jacobian[:] = np.eye(len(KEPT))
        for index, sign in ((_OFFSET, 1.0), (_LEFT, -1.0), (_RIGHT, 1.0)):
            jacobian[:, index, _HEADING] = sign * (ahead * cosine - aside * sine)
            jacobian[:, index, _CURVATURE] = -sign * ahead**2 / 2
        jacobian[:, _HEADING, _CURVATURE] = -ahead
        jacobian[:, _CURVATURE, _CURVATURE] = keep
        covariance = jacobian @ belief.covariance @ jacobian.transpose(0, 2, 1)
        walks = (self.lane_walk, self.edge_walk, self.edge_walk, self.heading_walk)
        for index, walk in enumerate((*walks, self.curvature_walk)):
            covariance[:, index, index] += walk * np.abs(ahead)
        return mean, covariance

    def _change_lane(
        self,
        mean: Float64[np.ndarray, "b n"],
        said: Float64[np.ndarray, " b"],
        is_heard: Bool[np.ndarray, " b"],
    ) -> None:
        """Count from the next lane, in place, where the picture does and the road has one there."""
        half, offset = self.lane_width / 2, mean[:, _OFFSET]
        step = np.where(is_heard & (np.abs(said - offset) > half), np.sign(said - offset), 0.0)
        there = offset + step * self.lane_width
        room = np.where(step < 0, mean[:, _LEFT], mean[:, _RIGHT]) > half - 0.5
        is_meant = (np.abs(there) < half + 0.5) & (np.abs(said - there) < half / 2)
        mean[:, _OFFSET] = np.where(room & is_meant, there, offset)


@dataclass(frozen=True, kw_only=True, eq=False)
class RoadBelief:
    """What is believed of the road around some cars."""

    mean: Float64[np.ndarray, "b n"]
    """Expected values of `KEPT`."""
    covariance: Float64[np.ndarray, "b n n"]
    """Of their errors."""

    @classmethod
    def begin(cls, reading: Reading) -> RoadBelief:
        """What the first picture says."""
        mean = reading.mean[:, _COLUMNS].copy()
        covariance = reading.deviation[:, _COLUMNS, None] ** 2 * np.eye(len(KEPT))
        return cls(mean=mean, covariance=covariance)

    def select(self, rows: Sequence[int]) -> RoadBelief:
        """Cars by index, in any order and repeated at will."""
        return RoadBelief(mean=self.mean[list(rows)], covariance=self.covariance[list(rows)])

    @classmethod
    def concat(cls, beliefs: Sequence[RoadBelief]) -> RoadBelief:
        """Cars side by side."""
        return cls(
            mean=np.concatenate([belief.mean for belief in beliefs]),
            covariance=np.concatenate([belief.covariance for belief in beliefs]),
        )

    def told(self, reading: Reading, rear_axle_to_center: Float64[np.ndarray, " b"]) -> Reading:
        """A reading of one picture with what is believed in its place.

        What is not kept (the vehicle ahead, a collision) stays as read. The chance to be on the
        road is that of both edges lying beyond the middle of the car, taken apart.

        Args:
            reading: Of the newest picture.
            rear_axle_to_center: Of every car [m].
        """
        mean, deviation = reading.mean.copy(), reading.deviation.copy()
        variance = np.einsum("bii->bi", self.covariance)
        kept = np.sqrt(np.maximum(variance, 0.0))
        mean[:, _COLUMNS], deviation[:, _COLUMNS] = self.mean, kept
        aside = rear_axle_to_center * np.sin(self.mean[:, _HEADING])
        left = gaussian_below(0.0, self.mean[:, _LEFT] - aside, kept[:, _LEFT])
        right = gaussian_below(0.0, self.mean[:, _RIGHT] + aside, kept[:, _RIGHT])
        chance = (1.0 - left) * (1.0 - right)
        mean[:, _ON_ROAD], deviation[:, _ON_ROAD] = chance, np.sqrt(chance * (1.0 - chance))
        return Reading(mean=mean, deviation=deviation)


def motion_between(
    before: Float64[np.ndarray, "b k"], after: Float64[np.ndarray, "b k"]
) -> Float64[np.ndarray, "b 3"]:
    """Way ahead and to the left of where a car stood [m], and its turn [rad].

    Args:
        before: Vehicle states, of which x, y and yaw are read.
        after: The same a decision later.
    """
    east, north = after[:, X] - before[:, X], after[:, Y] - before[:, Y]
    cosine, sine = np.cos(before[:, YAW]), np.sin(before[:, YAW])
    return np.stack(
        [
            east * cosine + north * sine,
            north * cosine - east * sine,
            _wrapped(after[:, YAW] - before[:, YAW]),
        ],
        axis=1,
    )


def _wrapped(angle: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)
