"""The command `sanawm-gym validate`: measure a generated world against the reference world.

Both worlds begin at the same moments and, where the part asks for it, take the same actions. What
was measured is kept unit by unit, so an interrupted report goes on, and parts can be measured one
by one into the same folder; the page shows all that is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

PartName = Literal[
    "steering", "speed", "drift", "perception", "reward", "termination", "policies", "determinism"
]
PART_NAMES: tuple[PartName, ...] = (
    "steering",
    "speed",
    "drift",
    "perception",
    "reward",
    "termination",
    "policies",
    "determinism",
)
"""In the order of the page."""
QUICK_STARTS, QUICK_SECONDS = 3, 6.0
"""What `--quick` measures with."""
FULL_STARTS, FULL_SECONDS = 20, 12.0
"""What is measured with otherwise."""


@dataclass(frozen=True, kw_only=True)
class ValidateJob:
    """Measure a generated world against the reference simulator and write a report.

    The report is a page (index.html) with figures, plots and pictures, and the same in report.json.
    Needs the extra `reference`. By default it takes about 25 minutes of one laptop core; with
    --quick two, for a first look. An interrupted report goes on when called again.
    """

    world: str = "drive"
    """World model: a bundled name, a folder or a hub id."""
    out: Path = Path("report")
    """Folder of the report; one that holds part of the same report is continued."""
    parts: tuple[PartName, ...] = PART_NAMES
    """What is measured; what the folder already holds is shown in any case."""
    policies: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME|FILE")] = ()
    """Further drivers beside the built-in panel of twelve: files of weights, as written by
    `train-agent`. They can be added to a finished report."""
    quick: bool = False
    """Three starts and drives of 6 s instead of twenty and 12 s: shows that all works, too little
    for a verdict."""
    starts: int | None = None
    """Moments of the reference world from which both worlds begin, >= 2; None: 20, quick 3. Time
    grows with it."""
    seconds: float | None = None
    """Length of the drives [s], 1 to 60, in quarters; None: 12, quick 6. Those of the part drift
    last 2.5 times as long."""
    seed: int = 0
    """Seed of the generated world's noise, of drivers that draw and of the resampling, >= 0."""
    world_seed: int = 900_040_000_000
    """Seed of the first reference world, counted up, >= 0. Nothing of this project is trained on
    worlds from 900020000000 on."""
    threads: int = 1
    """CPU threads of the world model, >= 1."""

    def __post_init__(self) -> None:
        """Check every setting."""
        unknown = [part for part in self.parts if part not in PART_NAMES]
        if unknown or not self.parts:
            raise ValueError(
                f"parts: got {list(self.parts)}, expected some of {list(PART_NAMES)}; leave it out "
                "for all of them"
            )
        if self.policies and "policies" not in self.parts:
            raise ValueError(
                f"policies: got {list(self.policies)}, but the part policies is not among "
                f"{list(self.parts)}; expected it there; add it or leave the drivers out"
            )
        if self.num_starts < 2:
            raise ValueError(f"starts: got {self.starts}, expected 2 or more; try 8")
        sound = math.isfinite(self.drive_seconds) and 1 <= self.drive_seconds <= 60
        if not sound or (4 * self.drive_seconds) % 1:
            raise ValueError(
                f"seconds: got {self.seconds}, expected 1 to 60 in quarters of a second; try 12"
            )
        if min(self.seed, self.world_seed) < 0 or self.threads < 1:
            raise ValueError(
                f"got seed={self.seed}, world_seed={self.world_seed}, threads={self.threads}; "
                "expected seeds >= 0 and threads >= 1"
            )

    @property
    def num_starts(self) -> int:
        """Starts in force."""
        return (QUICK_STARTS if self.quick else FULL_STARTS) if self.starts is None else self.starts

    @property
    def drive_seconds(self) -> float:
        """Length of a drive in force [s]."""
        preset = QUICK_SECONDS if self.quick else FULL_SECONDS
        return preset if self.seconds is None else self.seconds

    @property
    def num_decisions(self) -> int:
        """Decisions of a drive."""
        return round(4 * self.drive_seconds)

    @property
    def drift_seconds(self) -> float:
        """Length of the drives of the part drift, the longest ones [s]."""
        return round(10 * self.drive_seconds) / 4


def validate(job: ValidateJob) -> Path:
    """Measure what is missing and write the report.

    Returns:
        The page.

    Raises:
        ValueError: If the world, a driver or the folder cannot be used.
    """
    # Slow to import, and `sanawm-gym validate --help` shall answer at once.
    from sanawm_gym.validate.run import run

    return run(job)
