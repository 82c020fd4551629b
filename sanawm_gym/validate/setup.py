"""What all parts of a report share: the job, the world, the starts, and units of work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sanawm_gym.envs.reference.highway import import_highway
from sanawm_gym.envs.reference.renderer import HEIGHT, WIDTH
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.validate.drawn_speed import SETTLE
from sanawm_gym.validate.job import ValidateJob
from sanawm_gym.validate.panel import entrants
from sanawm_gym.validate.starts import ReferenceDrive, SharedStart, find_starts
from sanawm_gym.validate.store import Store
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.source import find_world

FORMAT = 1
"""Of the raw numbers; counted up when they mean something else."""
BATCH = 8
"""Drives of the generated world that are drawn together."""
DECISION = 0.25
"""Time of a decision in the reference world [s]."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of work that is done at once and kept."""

    name: str
    """Stem of its files."""
    label: str
    """What the progress bar says."""
    weight: float
    """About how long it takes, in any unit that all of them share."""
    work: Callable[[], None]
    """Measures it and saves it."""


class Setup:
    """One report in the making.

    Args:
        job: What is asked for.

    Raises:
        ValueError: If the world or a driver cannot be used, or the folder holds another report.
    """

    def __init__(self, job: ValidateJob) -> None:
        self.job = job
        self._folder = find_world(job.world)
        world = shared_world(job.world)
        assert isinstance(world, WorldModel), "find_world finds no others"
        self.world = world
        step = self.world.frames_per_step / self.world.fps
        if step != DECISION or self.world.fps != 16:
            raise ValueError(
                f"world: got {job.world!r}, which draws {self.world.fps:g} pictures a second and "
                f"decides every {step:g} s; expected 16 and {DECISION} s, as the reference world"
            )
        self.has_heads = self.world.heads is not None
        self.same_size = (world.height, world.width) == (HEIGHT, WIDTH)
        # Wrong drivers and a missing extra `reference` are said before anything is written.
        self.drivers, self.left_out = entrants(
            job.policies, has_heads=self.has_heads, same_size=self.same_size
        )
        import_highway()
        self.store = Store(job.out, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the figures, but for the drivers, each of which answers for itself."""
        job = self.job
        return {
            "format": FORMAT,
            "weights": weights_hash(self._folder),
            "starts": job.num_starts,
            "seconds": job.drive_seconds,
            "seed": job.seed,
            "world_seed": job.world_seed,
        }

    @cached_property
    def starts(self) -> list[SharedStart]:
        """Where drives begin; found when they are first needed."""
        return find_starts(self.job.num_starts, self.job.world_seed, self.longest)

    @property
    def longest(self) -> float:
        """Length of the longest drive of any part [s]."""
        return max(self.job.drift_seconds, self.job.drive_seconds + SETTLE)

    def batches(self) -> list[list[int]]:
        """Numbers of the starts, batch by batch."""
        numbers = list(range(self.job.num_starts))
        return [numbers[i : i + BATCH] for i in range(0, len(numbers), BATCH)]

    def noise_seeds(self, numbers: list[int]) -> list[int]:
        """Seeds of some drives in the generated world, and of drivers that draw."""
        return [1_000_000 * self.job.seed + number for number in numbers]

    def reference(
        self, *, frames: bool = False, endings: bool = False, reward: str = "auto"
    ) -> ReferenceDrive:
        """The reference world as all parts of this report use it."""
        return ReferenceDrive(horizon=self.longest, frames=frames, endings=endings, reward=reward)

    def generated_settings(self, **given: Any) -> dict[str, Any]:
        """Arguments of the generated environment; nothing ends a drive unless it is given."""
        common = {
            "world": self.job.world,
            "horizon": self.longest + 1.0,
            "outcomes": None,
            "drift": None,
        }
        return common | given


def weights_hash(folder: Path) -> str:
    """Hash of a world's weights and configuration."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
