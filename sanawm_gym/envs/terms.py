"""The named parts of rewards: what is paid for, and what a payment is multiplied by.

Every term is a frozen value that maps a `Transition` to one number a car. A *gain* is added up, a
*factor* in [0, 1] multiplies the sum (see `reward.py`); several can be used as either. Terms hold
no state of their own: what depends on the past, as CaRL's half minute of punishment after a near
miss does, is left out, so that a restored or forked drive is paid as it would have been.

Numbers that are read enter by their expected value, events by their probability.

Sources: CaRL (Jaeger et al. 2025, arXiv 2504.17838, and its code), nuPlan's and NAVSIM's metrics,
MetaDrive. Numbers are theirs where a field says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from sanawm_gym.vehicle import SPEED

from .reading import NUM_NUMBERS, QUANTITIES, gaussian_below
from .transition import MOTIONS, Transition

COMFORT_BOUNDS: dict[str, tuple[float, float]] = {
    "acceleration": (-4.05, 2.40),
    "lateral_acceleration": (-4.89, 4.89),
    "jerk": (-4.13, 4.13),
    "jerk_magnitude": (-8.37, 8.37),
    "yaw_rate": (-0.95, 0.95),
    "yaw_acceleration": (-1.93, 1.93),
}
"""What passengers call comfortable [SI]: the metric of nuPlan, NAVSIM and CaRL."""
_COMFORT_LOW, _COMFORT_HIGH = np.array([COMFORT_BOUNDS[name] for name in MOTIONS]).T
URBAN_LIMIT = 50.0 / 3.6
"""50 km/h [m/s]. Nothing in a generated world posts a limit, so there is one for all roads."""
_STOPPED = 5e-3
"""Below this speed a car runs into nothing [m/s; NAVSIM]."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Metres driven, wherever the road is."""

    weight: float = 0.1
    """Reward a metre [1/m]; 0.1 pays 1 a second at 10 m/s."""
    name: str = "progress"
    """Key in the reward terms."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """`weight` x distance, at least 0."""
        return np.asarray(self.weight * transition.distance)


@dataclass(frozen=True, kw_only=True)
class LaneProgress:
    """Metres driven along the lane: distance x cos(heading error), at least 0."""

    reads: ClassVar[bool] = True
    weight: float = 0.1
    """Reward a metre [1/m]."""
    full_speed: float | None = None
    """If given, what this speed would have covered [m/s] is worth `weight`, and more is not."""
    name: str = "progress"
    """Key in the reward terms."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """`weight` x metres, or `weight` x share of what `full_speed` covers."""
        along = transition.distance * np.cos(transition.road["heading_error"])
        along = np.maximum(along, 0.0)
        if self.full_speed is not None:
            along = np.minimum(along / (self.full_speed * transition.seconds), 1.0)
        return np.asarray(self.weight * along)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed as a share of the car's largest, paid by the second."""

    weight: float = 1.0
    """Reward a second at full speed [1/s]; MetaDrive pays 0.1 every 0.1 s."""
    name: str = "speed"
    """Key in the reward terms."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """`weight` x seconds x final speed / largest speed."""
        share = transition.states[:, -1, SPEED] / transition.bicycle.config.max_speed
        return np.asarray(self.weight * transition.seconds * share)


@dataclass(frozen=True, kw_only=True)
class Comfort:
    """A penalty for leaving a comfort band, 0 inside it.

    -weight x mean over the frames of clip(q / bound - 1, 0, 1), with the bound on the side of q:
    the full penalty is reached at twice the bound.
    """

    name: str
    """One of `transition.MOTIONS`, and key in the reward terms."""
    low: float
    """Lower end of the band [SI], < 0."""
    high: float
    """Upper end of the band [SI], > 0."""
    weight: float = 0.05
    """Largest penalty a decision, >= 0."""

    def __post_init__(self) -> None:
        """Check quantity and band."""
        if self.name not in MOTIONS:
            raise ValueError(f"reward: got quantity {self.name!r}, expected one of {MOTIONS}")
        if not (self.low < 0 < self.high and self.weight >= 0):
            raise ValueError(f"reward: got {self}, expected low < 0 < high and weight >= 0")

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """Between -weight and 0."""
        value = transition.motion(self.name)
        excess = np.clip(value / np.where(value < 0, self.low, self.high) - 1.0, 0.0, 1.0)
        return np.asarray(0.0 - self.weight * excess.mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class ComfortBounds:
    """Full value while every motion stays within `COMFORT_BOUNDS`, less when one does not."""

    penalty: float = 0.5
    """What is lost when all six bounds are broken, 0 to 1 [CaRL: 0.5]."""
    graded: bool = True
    """Lose in proportion to the number of broken bounds [CaRL]; else all of it at the first."""
    weight: float = 1.0
    """Full value."""
    name: str = "comfort"
    """Key in the reward terms."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """`weight` x (1 - penalty x share of the bounds that were broken at some frame)."""
        broken = transition.breaks(_COMFORT_LOW, _COMFORT_HIGH)
        share = broken / len(COMFORT_BOUNDS) if self.graded else np.minimum(broken, 1.0)
        return np.asarray(self.weight * (1.0 - self.penalty * share))


@dataclass(frozen=True, kw_only=True)
class SpeedLimit:
    """1 up to a speed limit, falling to 0 where it is exceeded by `tolerance`."""

    limit: float = URBAN_LIMIT
    """Speed limit [m/s], > 0."""
    tolerance: float = 2.23
    """Excess at which nothing is left [m/s], > 0 [nuPlan and CaRL: 2.23]."""
    name: str = "speed_limit"
    """Key in the reward terms."""

    def __post_init__(self) -> None:
        """Check the speeds."""
        if not (self.limit > 0 and self.tolerance > 0):
            raise ValueError(f"reward: got {self}, expected limit > 0 and tolerance > 0 m/s")

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """1 - mean excess over the frames / tolerance, at least 0."""
        excess = np.maximum(transition.states[..., SPEED] - self.limit, 0.0).mean(axis=1)
        return np.asarray(np.maximum(1.0 - excess / self.tolerance, 0.0))


@dataclass(frozen=True, kw_only=True)
class LaneOffset:
    """1 near the middle of the lane, falling to 0 where the car has left it altogether.

    CaRL halves what is paid off the middle, and pays nothing in lanes of oncoming traffic. The
    straight line does both without a jump: half is left on the edge of a lane of 3.5 m.
    """

    reads: ClassVar[bool] = True
    free: float = 0.5
    """Offset up to which nothing is lost [m], >= 0 [CaRL, and NAVSIM's lane keeping: 0.5]."""
    full: float = 3.0
    """Offset from which nothing is left [m], > free; half a lane and half a car."""
    name: str = "lane_offset"
    """Key in the reward terms."""

    def __post_init__(self) -> None:
        """Check the offsets."""
        if not 0 <= self.free < self.full:
            raise ValueError(f"reward: got {self}, expected 0 <= free < full m")

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """Between 0 and 1."""
        offset = np.abs(transition.road["lane_offset"])
        return np.asarray(np.clip((self.full - offset) / (self.full - self.free), 0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class TimeToCollision:
    """Full value unless the gap to the vehicle ahead would close within a time window.

    The gap after the window is distance - window x closing speed; the probability that there is a
    vehicle and that this is below 0 is what counts, with the errors of both taken for independent
    Gaussians.
    """

    reads: ClassVar[bool] = True
    window: float = 1.0
    """Time ahead [s], > 0 [CaRL and NAVSIM: 1.0]."""
    penalty: float = 0.5
    """What is lost when it would surely close, 0 to 1 [CaRL: 0.5]."""
    weight: float = 1.0
    """Full value."""
    name: str = "time_to_collision"
    """Key in the reward terms."""

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """`weight` x (1 - penalty x probability that the gap closes)."""
        road, window = transition.road, self.window
        distance, closing = (QUANTITIES.index(name) for name in ("lead_distance", "lead_speed"))
        gap = road.mean[:, distance] - window * road.mean[:, closing]
        spread = np.hypot(road.deviation[:, distance], window * road.deviation[:, closing])
        moves = transition.states[:, -1, SPEED] > _STOPPED
        closes = moves * road["has_lead"] * gaussian_below(0.0, gap, spread)
        return np.asarray(self.weight * (1.0 - self.penalty * closes))


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The probability of something that is read as a chance, or that it is not so."""

    reads: ClassVar[bool] = True
    quantity: str
    """`has_lead`, `on_road` or `crashed`."""
    wanted: bool = True
    """Whether it should be so."""
    name: str = ""
    """Key in the reward terms; empty for the quantity's name, with `not_` before an unwanted."""

    def __post_init__(self) -> None:
        """Check the quantity and give the term a name."""
        if self.quantity not in QUANTITIES[NUM_NUMBERS:]:
            raise ValueError(
                f"reward: got quantity {self.quantity!r}, expected one of "
                f"{list(QUANTITIES[NUM_NUMBERS:])}, which are read as chances"
            )
        if not self.name:
            prefix = "" if self.wanted else "not_"
            object.__setattr__(self, "name", prefix + self.quantity)

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        """Between 0 and 1."""
        chance = transition.road[self.quantity]
        return np.asarray(chance if self.wanted else 1.0 - chance)
