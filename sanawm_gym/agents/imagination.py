"""Recorded drives as a world model draws them: ``python -m sanawm_gym.agents.imagination``.

A driver cloned from clean pictures takes what a world model draws amiss for obstacles and brakes.
So moments of a recording are continued by the world along the recorded cameras, and what it draws
is kept together with what the good driver did there. For the first seconds the drawn road is still
the recorded one, and the recorded answer right; later the world invents a road of its own, so the
stretches are short.

    DIR/practice.json           the settings, in the form of a practice
    DIR/drive-000000.npz        camera, speed and expert_action of every decision of one stretch

The folder is given to :mod:`sanawm_gym.agents.cloning` beside recordings and practice. A stretch
depends on its own number, the seed and the world only; an interrupted run goes on at the first
batch that is not complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from sanawm_gym.agents.practice import claim, drive_path, write_drive
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.worldmodel import WorldModel

_COLUMNS = ("c2w", "intrinsics", "caption", "speed", "expert_action")


@dataclass(frozen=True, kw_only=True)
class ImaginationConfig:
    """Which recordings are drawn again, by which world."""

    data: Path
    """Folder written by ``sanawm-gym record``."""
    out: Path
    """Folder to write to; a folder with part of this run is continued."""
    world: str = "drive"
    """World model: a bundled name, a folder or a hub id."""
    stretches: int = 320
    """Number of stretches, >= 1."""
    seconds: float = 6.0
    """Length of a stretch [s], 0.25 to 60."""
    lead: float = 1.0
    """Recorded video that a stretch begins with [s], >= 0."""
    held_out: float = 0.05
    """Share of the drives, the last ones, that are left alone, as in cloning, 0 to 1; at least
    one is."""
    batch_size: int = 8
    """Stretches drawn together, >= 1."""
    seed: int = 0
    """Seed of the choice of moments and of the world's noise, >= 0."""
    threads: int = 1
    """CPU threads of torch, >= 1."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.stretches, self.batch_size, self.threads) < 1 or self.seed < 0:
            raise ValueError(
                f"imagination: got stretches={self.stretches}, batch_size={self.batch_size}, "
                f"threads={self.threads}, seed={self.seed}, expected counts >= 1 and a seed >= 0"
            )
        if not 0.25 <= self.seconds <= 60.0 or self.lead < 0 or not 0 <= self.held_out < 1:
            raise ValueError(
                f"imagination: got seconds={self.seconds}, lead={self.lead}, "
                f"held_out={self.held_out}, expected 0.25 to 60, 0 or more and a share below 1"
            )


@dataclass(frozen=True)
class _Stretch:
    """Recorded rows of one stretch."""

    lead: np.ndarray
    rows: dict[str, Any]


def imagine(config: ImaginationConfig) -> int:
    """Draw the missing stretches.

    Returns:
        Decisions in the folder, of all stretches together.

    Raises:
        ValueError: If the folder holds something else, or no drive is long enough.
    """
    torch.set_num_threads(config.threads)
    world = WorldModel.from_pretrained(config.world)
    stride = world.frames_per_step
    steps = round(config.seconds * world.config.fps / stride)
    lead = round(config.lead * world.config.fps / stride) * stride + 1
    dataset = EpisodeDataset(config.data, num_cached=1)
    dataset.require("expert_action")
    usable = dataset.episodes[: len(dataset) - max(1, round(config.held_out * len(dataset)))]
    usable = [info for info in usable if info.num_frames >= lead + steps * stride]
    if not usable:
        raise ValueError(
            f"imagination: no drive of {config.data} has the {lead + steps * stride} frames of a "
            "stretch: record longer drives or ask for fewer seconds"
        )
    wanted = {"data": config.data.name, "world": config.world, "seconds": config.seconds}
    claim(config.out, {**wanted, "lead": config.lead, "seed": config.seed})
    total = 0
    with tqdm(total=config.stretches, desc="imagination", unit="stretch") as bar:
        for begin in range(0, config.stretches, config.batch_size):
            numbers = range(begin, min(begin + config.batch_size, config.stretches))
            paths = [drive_path(config.out, number) for number in numbers]
            if not all(path.exists() for path in paths):
                stretches = []
                for number in numbers:
                    rng = np.random.default_rng((config.seed, number))
                    info = usable[rng.integers(len(usable))]
                    first = int(rng.integers(info.num_frames - lead - steps * stride + 1))
                    stretches.append(_read(dataset, info.index, first, lead, steps * stride))
                seeds = [1000 * config.seed + number for number in numbers]
                drawn = _draw(world, stretches, lead, seeds)
                for path, stretch, camera in zip(paths, stretches, drawn, strict=True):
                    decided = slice(lead - 1 + stride, None, stride)
                    write_drive(
                        path,
                        {
                            "camera": camera,
                            "speed": np.asarray(stretch.rows["speed"][decided], dtype=np.float32),
                            "expert_action": np.asarray(
                                stretch.rows["expert_action"][decided], dtype=np.float32
                            ),
                            "ended_early": np.array(False),
                        },
                    )
            total += steps * len(paths)
            bar.update(len(paths))
    print(f"{config.out}: {config.stretches} stretches, {total} decisions")
    return total


def _read(dataset: EpisodeDataset, episode: int, first: int, lead: int, ahead: int) -> _Stretch:
    stop = first + lead + ahead
    return _Stretch(
        lead=dataset.frames(episode, first, first + lead),
        rows=dataset.columns(episode, first, stop, list(_COLUMNS)),
    )


def _draw(
    world: WorldModel, stretches: list[_Stretch], lead: int, seeds: list[int]
) -> list[np.ndarray]:
    """Last picture of every decision, a stretch an array."""
    poses = np.stack([np.reshape(stretch.rows["c2w"], (-1, 4, 4)) for stretch in stretches])
    state = world.start(
        np.stack([stretch.lead for stretch in stretches]),
        prompts=[str(stretch.rows["caption"][0]) for stretch in stretches],
        intrinsics=np.stack([stretch.rows["intrinsics"][0] for stretch in stretches]),
        seeds=seeds,
        poses=poses[:, :lead],
    )
    kept = []
    for begin in range(lead, poses.shape[1], world.frames_per_step):
        frames, state = world.step(state, poses[:, begin : begin + world.frames_per_step])
        kept.append(frames[:, -1])
    return list(np.stack(kept, axis=1))


if __name__ == "__main__":
    imagine(tyro.cli(ImaginationConfig))
