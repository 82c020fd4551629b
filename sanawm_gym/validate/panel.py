"""The drivers by which worlds are compared: from a good one to those that cannot be let drive.

A correlation over policies means something only if they differ. So beside the drivers that ship
there are the same ones with a handicap each: a hand that trembles, a wheel that pulls, late
reactions, a foot that does not dare.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sanawm_gym.agents.loading import BUILT_IN, load_policy
from sanawm_gym.agents.policy import Action, Infos, Observation, Policy
from sanawm_gym.agents.road_drivers import LaneKeeper, RoadDriverConfig


class Impaired:
    """A driver with a handicap.

    Args:
        driver: Who drives.
        tremble: Deviation of Gaussian noise on both numbers of every action.
        pull: Added to the steering, + to the left.
        late: Decisions that pass before an action is carried out, >= 0; before the first, the
            wheel is straight and no pedal is touched.
    """

    def __init__(
        self, driver: Policy, *, tremble: float = 0.0, pull: float = 0.0, late: int = 0
    ) -> None:
        self._driver, self._tremble, self._pull, self._late = driver, tremble, pull, late
        self._generators: list[np.random.Generator] = []
        self._coming: deque[Action] = deque()

    def reset(self, seeds: Sequence[int]) -> None:
        """Begin one drive a seed; what trembles follows it."""
        self._driver.reset(seeds)
        self._generators = [np.random.default_rng([seed, 0x7E3B]) for seed in seeds]
        self._coming = deque(np.zeros((len(seeds), 2), np.float32) for _ in range(self._late))

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """What becomes of the driver's actions."""
        self._coming.append(self._driver.act(observation, infos))
        action = self._coming.popleft()
        noise = np.stack([generator.normal(0.0, 1.0, 2) for generator in self._generators])
        changed = action + self._tremble * noise + np.array([self._pull, 0.0])
        return np.asarray(np.clip(changed, -1.0, 1.0), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One driver of the comparison."""

    name: str
    """As it is called in the report."""
    build: Callable[[], Policy]
    """Makes it."""
    reads: bool = False
    """Whether it reads the road off the infos, which in a generated world takes heads."""
    looks: bool = False
    """Whether it looks at pictures, which it knows at the reference world's size only."""
    digest: str = ""
    """Of its file, if it is one."""


PANEL: tuple[Entrant, ...] = (
    Entrant(name="constant", build=lambda: load_policy("constant")),
    Entrant(name="random", build=lambda: load_policy("random")),
    Entrant(name="lane-keeper", build=LaneKeeper, reads=True),
    Entrant(name="pure-pursuit", build=lambda: load_policy("pure-pursuit"), reads=True),
    Entrant(name="idm", build=lambda: load_policy("idm"), reads=True),
    Entrant(name="reckless", build=lambda: load_policy("reckless"), reads=True),
    Entrant(name="cloned", build=lambda: load_policy("cloned"), looks=True),
    Entrant(
        name="lane-keeper-slow", build=lambda: LaneKeeper(RoadDriverConfig(speed=5.0)), reads=True
    ),
    Entrant(
        name="lane-keeper-trembling", build=lambda: Impaired(LaneKeeper(), tremble=0.25), reads=True
    ),
    Entrant(name="lane-keeper-pulled", build=lambda: Impaired(LaneKeeper(), pull=0.1), reads=True),
    Entrant(name="lane-keeper-late", build=lambda: Impaired(LaneKeeper(), late=3), reads=True),
    Entrant(
        name="cloned-trembling",
        build=lambda: Impaired(load_policy("cloned"), tremble=0.25),
        looks=True,
    ),
)
"""Drivers of every report."""
_FILES_OF_RUNS = ("policy", "best")
"""What `train-agent` calls its files; the folder then says more."""


def entrants(
    given: Sequence[str], *, has_heads: bool, same_size: bool
) -> tuple[list[Entrant], list[str]]:
    """Drivers of a report, and those of the panel that cannot drive in its world.

    Args:
        given: Names or files beside the panel.
        has_heads: Whether the generated world says what its pictures show.
        same_size: Whether its pictures are as large as those of the reference world.

    Raises:
        ValueError: If a name or file is no driver, cannot drive in both worlds, or two are called
            the same.
    """
    able = [one for one in PANEL if (has_heads or not one.reads) and (same_size or not one.looks)]
    unable = [one.name for one in PANEL if one not in able]
    names = {one.name for one in PANEL}
    for word in given:
        if word in unable:
            raise ValueError(
                f"policies: got {word!r}, which cannot drive in this world: it reads the road off "
                "the infos and the world has no heads, or it looks and the world's pictures are of "
                "another size; expected one of the others; leave it out"
            )
        if word in names:
            continue
        one = _given(word)
        if not same_size:
            raise ValueError(
                f"policies: got {word!r}, but this world's pictures are not of the reference "
                "world's size, and a driver must see both; expected a world of 128 x 72; leave the "
                "driver out"
            )
        if one.name in names:
            raise ValueError(
                f"policies: got {word!r}, but another driver of the report is called {one.name!r}; "
                "expected different names; rename the file"
            )
        names.add(one.name)
        able.append(one)
    return able, unable


def _given(word: str) -> Entrant:
    path = Path(word)
    if word in BUILT_IN:
        return Entrant(name=word, build=lambda: load_policy(word))
    if not path.is_file():
        known = [one.name for one in PANEL]
        raise ValueError(
            f"policies: got {word!r}, expected a safetensors file; {known} take part without being "
            "named"
        )
    load_policy(path)  # a file that is no driver shall not stop a report half way
    in_run = path.stem in _FILES_OF_RUNS
    return Entrant(
        name=f"{path.resolve().parent.name}-{path.stem}" if in_run else path.stem,
        build=lambda: load_policy(path),
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
    )
