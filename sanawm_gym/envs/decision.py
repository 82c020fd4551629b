"""What one action brought: the outcome of a decision, or of several in a row.

Axes: b cars, f raw frames, h and w of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What a decision brought, a row a car."""

    frames: UInt8[np.ndarray, "b f h w 3"]
    """Raw frames drawn."""
    poses: Float64[np.ndarray, "b f 4 4"]
    """`world_from_camera` of those frames [m]."""
    rewards: Float64[np.ndarray, " b"]
    """What it was worth."""
    terms: tuple[dict[str, float], ...]
    """Named parts of every row's reward."""
    termination_reasons: tuple[str, ...]
    """One of `outcomes.OUTCOMES` where a row's task ended by it; empty elsewhere."""
    truncation_reasons: tuple[str, ...]
    """Why a row was cut short; empty where it was not."""
    departures: tuple[str, ...] | None = None
    """Where every row left the motion that the world is known to draw well; None where nobody
    looked."""
    latency_ms: float = 0.0
    """Wall time that the world took for all rows."""

    @property
    def ended(self) -> list[bool]:
        """Whether a row's episode is over."""
        pairs = zip(self.termination_reasons, self.truncation_reasons, strict=True)
        return [bool(termination or truncation) for termination, truncation in pairs]


def joined(parts: Sequence[tuple[Sequence[int], Decision]], rows: Sequence[int]) -> Decision:
    """Decisions that followed one another as if they had been one.

    Rewards and their parts are added up. A row that ended before the others keeps its last frame
    and pose until the end.

    Args:
        parts: Every decision with the rows that it moved: all at first, then those not yet ended.
        rows: The rows of the first.
    """
    if len(parts) == 1:
        return parts[0][1]
    frames = [[] for _ in rows]  # type: list[list[UInt8[np.ndarray, "f h w 3"]]]
    poses = [[] for _ in rows]  # type: list[list[Float64[np.ndarray, "f 4 4"]]]
    rewards = np.zeros(len(rows))
    terms: list[dict[str, float]] = [{} for _ in rows]
    last: list[tuple[str, str]] = [("", "")] * len(rows)
    left: list[dict[str, None]] = [{} for _ in rows]
    for moved, decision in parts:
        for place, row in enumerate(rows):
            if row not in moved:
                frames[place].append(np.repeat(frames[place][-1][-1:], len(frames[place][0]), 0))
                poses[place].append(np.repeat(poses[place][-1][-1:], len(poses[place][0]), 0))
                continue
            index = list(moved).index(row)
            frames[place].append(decision.frames[index])
            poses[place].append(decision.poses[index])
            rewards[place] += decision.rewards[index]
            for name, value in decision.terms[index].items():
                terms[place][name] = terms[place].get(name, 0.0) + value
            if decision.departures is not None and decision.departures[index]:
                left[place][decision.departures[index]] = None
            last[place] = (
                decision.termination_reasons[index],
                decision.truncation_reasons[index],
            )
    return Decision(
        frames=np.stack([np.concatenate(own) for own in frames]),
        poses=np.stack([np.concatenate(own) for own in poses]),
        rewards=rewards,
        terms=tuple(terms),
        termination_reasons=tuple(termination for termination, _ in last),
        truncation_reasons=tuple(truncation for _, truncation in last),
        departures=None
        if parts[0][1].departures is None
        else tuple("; ".join(lines) for lines in left),
        latency_ms=sum(decision.latency_ms for _, decision in parts),
    )
