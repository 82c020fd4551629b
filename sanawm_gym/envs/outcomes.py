"""How a drive ends by its own doing: a collision, the road left, the wrong way.

In a generated world these are read off the pictures, and a reading may be wrong. So one is not
enough: an outcome ends the drive when its probability was at least `chance` at `patience` decisions
in a row, by what `road_filter` makes of the readings. On reference video (40 drives of 12 s) the
defaults ended all 14 drives whose car left the road altogether, and no other. What is known for
sure, as in the reference world, ends the drive at once; going the wrong way is a conduct and not an
event, and takes its time there too.

**Collisions are read weakly.** Recordings hold hardly any, and heads that cannot tell whether a
vehicle is ahead cannot tell that it was touched: those trained so far never put the chance above
0.04. Do not count on this outcome in a generated world.

Axes: b cars, o outcomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .reading import Reading

COLLISION = "collision"
"""Termination reason: another vehicle was touched."""
OFF_ROAD = "off_road"
"""Termination reason: all of the car is beyond the edge of the road."""
WRONG_WAY = "wrong_way"
"""Termination reason: turned against the lane, or driving in a lane of oncoming traffic."""
OUTCOMES = (COLLISION, OFF_ROAD, WRONG_WAY)
"""In order of precedence: the axis o."""


@dataclass(frozen=True, kw_only=True)
class OutcomeConfig:
    """When what is read ends a drive."""

    chance: float = 0.5
    """Probability from which a reading counts as off the road or the wrong way, in (0, 1]."""
    collision_chance: float = 0.9
    """The same for a collision."""
    patience: int = 3
    """Decisions in a row that must say so, >= 1; 3 are 0.75 s."""
    off_road_margin: float = 0.5
    """Distance of the whole car from the road [m], >= 0. The reference world measures with the
    corners of the car and a margin of its own."""
    turned: float = math.pi / 2
    """Angle to the lane from which the car is turned against it [rad], in (0, pi]."""
    oncoming: float = 3.0
    """Way to the left of its own lane from which a car on the road drives in an oncoming lane [m],
    > 0; inf never says so. Half a lane and half a car; traffic keeps right."""

    def __post_init__(self) -> None:
        """Check every number."""
        sound = (
            0 < self.chance <= 1
            and 0 < self.collision_chance <= 1
            and self.patience >= 1
            and 0 <= self.off_road_margin < math.inf
            and 0 < self.turned <= math.pi
            and self.oncoming > 0
        )
        if not sound:
            raise ValueError(
                f"outcomes: got {self}, expected chances in (0, 1], patience of at least 1, "
                "off_road_margin >= 0 m, turned in (0, pi] rad and oncoming > 0 m"
            )

    def chances(self, reading: Reading, width: float) -> Float64[np.ndarray, "b o"]:
        """Probability of every outcome at one moment.

        Args:
            reading: The road around the cars.
            width: Of a car [m].
        """
        beyond = -(self.off_road_margin + width / 2)
        left = reading.chance_below("left_edge", beyond)
        right = reading.chance_below("right_edge", beyond)
        turned = (
            1.0
            - reading.chance_below("heading_error", self.turned)
            + reading.chance_below("heading_error", -self.turned)
        )
        oncoming = (1.0 - reading.chance_below("lane_offset", self.oncoming)) * (
            1.0 - reading.chance_below("left_edge", 0.0)
        )
        return np.stack(
            [
                reading["crashed"],
                1.0 - (1.0 - left) * (1.0 - right),
                1.0 - (1.0 - turned) * (1.0 - oncoming),
            ],
            axis=1,
        )

    def count(
        self, chances: Float64[np.ndarray, "b o"], before: Int64[np.ndarray, "b o"]
    ) -> Int64[np.ndarray, "b o"]:
        """Decisions in a row at which every outcome was read, from those before."""
        bound = np.array([self.collision_chance, self.chance, self.chance])
        return np.where(chances >= bound, before + 1, 0)

    def reached(
        self, counts: Int64[np.ndarray, "b o"], sure: bool = False
    ) -> Bool[np.ndarray, "b o"]:
        """Which outcomes end a drive.

        Args:
            counts: From `count`.
            sure: Whether collisions and the edge of the road are known and not read.
        """
        once = 1 if sure else self.patience
        return counts >= np.array([once, once, self.patience])


def reason(reached: Bool[np.ndarray, " o"]) -> str:
    """The first outcome that was reached, or an empty string."""
    return OUTCOMES[int(reached.argmax())] if reached.any() else ""
