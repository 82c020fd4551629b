"""Record drives through reference worlds: one world, one driver, one video an episode.

Every episode depends on its own number and the seed only, so any number of workers writes the same
files, and an interrupted recording goes on at the first shard that is missing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tyro
from tqdm import tqdm

from sanawm_gym.episodes import (
    EGO_COLUMNS,
    FLAG_COLUMNS,
    FORMAT_VERSION,
    TRUTH_COLUMNS,
    DatasetInfo,
    episode_path,
    read_info,
    shard_path,
    write_info,
    write_shard,
)
from sanawm_gym.vehicle import ACCELERATION, SPEED, STEER, YAW, X, Y
from sanawm_gym.video import VideoWriter

from ..spaces import FPS, FRAMES_PER_DECISION
from .caption import caption
from .card import write_card
from .opencv import cv2
from .policies import RecordingDriver, Temper, sample_start, sample_temper
from .renderer import HEIGHT, WIDTH
from .scene import sample_scene
from .world import ReferenceWorld

MIN_FRAMES = 81  # a shorter episode (an early crash) is driven again with other whims
_TOP_SPEED = 25.0  # [m/s]
_PATIENCE = 12  # decisions at a standstill before a drive ends

Columns = dict[str, np.ndarray | list[str]]


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """What to record.

    Attributes:
        out: Folder to write to; a folder with part of this recording is continued.
        episodes: Number of drives, >= 1.
        seconds: Length of a drive [s], 1 to 600; a crash ends it early.
        seed: Seed of worlds and drivers; recordings with different seeds share no world (below 10
            million episodes).
        workers: Processes, >= 1; their number does not change the result.
        episodes_per_shard: Drives in one shard, >= 1.
        astray: Share of drives whose driver leaves the road and goes on beside it, 0 to 1; in
            worlds without rails, hedges and walls. The other drives are the same for every share.
    """

    out: Path
    episodes: int = 16
    seconds: float = 20.0
    seed: int = 0
    workers: int = 1
    episodes_per_shard: int = 16
    astray: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.episodes < 1 or self.workers < 1 or self.episodes_per_shard < 1 or self.seed < 0:
            raise ValueError(
                f"record: got episodes={self.episodes}, workers={self.workers}, episodes_per_shard="
                f"{self.episodes_per_shard}, seed={self.seed}, expected counts >= 1 and a seed >= 0"
            )
        if not 1.0 <= self.seconds <= 600.0:
            raise ValueError(f"record: got seconds={self.seconds}, expected 1 to 600")
        if not 0.0 <= self.astray <= 1.0:
            raise ValueError(f"record: got astray={self.astray}, expected a share of 0 to 1")

    @property
    def num_decisions(self) -> int:
        """Decisions of a full episode."""
        return round(self.seconds * FPS / FRAMES_PER_DECISION)

    @property
    def num_shards(self) -> int:
        """Shards of the whole recording."""
        return -(-self.episodes // self.episodes_per_shard)

    def world_seed(self, episode: int) -> int:
        """Seed of the world of an episode."""
        return self.seed * 10_000_000 + episode

    def is_astray(self, episode: int) -> bool:
        """Whether the driver of an episode leaves the road."""
        sequence = np.random.SeedSequence([self.world_seed(episode), 0xA57])
        return bool(np.random.Generator(np.random.PCG64(sequence)).random() < self.astray)


@dataclass(frozen=True)
class _Job:
    config: RecordConfig
    episode: int


def record(config: RecordConfig) -> Path:
    """Record the missing shards of a dataset and return its folder.

    Raises:
        ValueError: If the folder holds a recording with another seed, length or shard size.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    _check_same_recording(config)
    per_shard = config.episodes_per_shard
    missing = [shard for shard in range(config.num_shards) if not _is_complete(config, shard)]
    jobs = [
        _Job(config, episode)
        for shard in missing
        for episode in range(shard * per_shard, min((shard + 1) * per_shard, config.episodes))
    ]
    _write_info(config)
    done: list[Columns] = []
    progress = tqdm(
        total=config.episodes, initial=config.episodes - len(jobs), unit="episode", desc="record"
    )
    with progress, _mapper(config.workers) as results:
        for job, columns in zip(jobs, results(jobs), strict=True):
            done.append(columns)
            progress.update()
            last = job.episode + 1 == config.episodes or (job.episode + 1) % per_shard == 0
            if last:
                write_shard(config.out, job.episode // per_shard, done)
                done = []
                _write_info(config)
    write_card(config.out)
    info = read_info(config.out)
    print(f"{config.out}: {info.num_episodes} drives, {info.num_frames} frames")
    return config.out


def _check_same_recording(config: RecordConfig) -> None:
    """Refuse to mix two recordings in one folder."""
    if not (config.out / "dataset.json").exists():
        return
    info = read_info(config.out)
    for name in ("seed", "seconds", "episodes_per_shard", "astray"):
        there, wanted = getattr(info, name), getattr(config, name)
        if there != wanted:
            raise ValueError(
                f"record: got {name}={wanted}, but {config.out} holds a recording with "
                f"{name}={there}; expected the same to continue it; give another folder"
            )


def _is_complete(config: RecordConfig, shard: int) -> bool:
    """Whether a shard has its table, with all episodes that it is to hold."""
    path = shard_path(config.out, shard)
    if not path.exists():
        return False
    first = shard * config.episodes_per_shard
    expected = min(config.episodes_per_shard, config.episodes - first)
    return bool(pq.read_metadata(path).num_row_groups >= expected)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[list[_Job]], Iterable[Columns]]]:
    """A function that maps jobs to results in order, in this process or in others."""
    if workers == 1:
        cv2.setNumThreads(1)
        yield lambda jobs: map(_record_episode, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield lambda jobs: pool.imap(_record_episode, jobs)


def _write_info(config: RecordConfig) -> None:
    """Write dataset.json for the shards that are complete."""
    tables = sorted(config.out.glob("shard-*.parquet"))
    metas = [pq.read_metadata(path) for path in tables]
    info = DatasetInfo(
        format_version=FORMAT_VERSION,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        seed=config.seed,
        num_episodes=sum(meta.num_row_groups for meta in metas),
        num_frames=sum(meta.num_rows for meta in metas),
        episodes_per_shard=config.episodes_per_shard,
        seconds=config.seconds,
        astray=config.astray,
    )
    write_info(config.out, info)


def _record_episode(job: _Job) -> Columns:
    """Drive and write one episode; after an early crash try other whims."""
    config, seed = job.config, job.config.world_seed(job.episode)
    path = episode_path(config.out, job.episode // config.episodes_per_shard, job.episode)
    scene = sample_scene(seed)
    astray = config.is_astray(job.episode)
    if astray:
        scene = replace(scene, barrier="none")
    world = ReferenceWorld(scene, length=_TOP_SPEED * config.seconds, seed=seed)
    for attempt in range(5):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, attempt, 0xD21])))
        temper = sample_temper(rng, astray)
        world.start(sample_start(world, temper, rng))
        rows, steps = [], drive(world, temper, rng, config.num_decisions)
        with VideoWriter(path, FPS) as writer:
            for action in steps:
                writer.append(world.render())
                rows.append(_row(world, action))
        if len(rows) >= min(MIN_FRAMES, FRAMES_PER_DECISION * config.num_decisions + 1):
            break
    columns: Columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    columns["episode"] = np.full(len(rows), job.episode)
    columns["frame"] = np.arange(len(rows))
    columns["caption"] = [caption(scene)] * len(rows)
    columns["policy"] = [temper.policy] * len(rows)
    columns["world_seed"] = np.full(len(rows), seed)
    return columns


def drive(
    world: ReferenceWorld, temper: Temper, rng: np.random.Generator, num_decisions: int
) -> Iterator[np.ndarray]:
    """Drive frame by frame; yields the action that led to each frame, 4 k + 1 times.

    Ends after a crash (with the decision in which it happens), when the road ends, or when the car
    is stuck face to face with another.
    """
    driver = RecordingDriver(world, temper, rng)
    standing = 0
    yield np.zeros(2)
    for _ in range(num_decisions):
        action = driver.act()
        for _ in range(FRAMES_PER_DECISION):
            world.advance(action)
            yield action
        standing = standing + 1 if world.speed < 0.2 else 0
        stuck = standing > _PATIENCE and temper.policy != "stop_and_go"
        if world.traffic.crashed or world.is_at_end() or stuck:
            return


def _row(world: ReferenceWorld, action: np.ndarray) -> dict[str, np.ndarray | float | bool]:
    """Columns of the present frame."""
    state, truth = world.state, world.truth()
    k = world.renderer.intrinsics
    ego = (
        state[SPEED],
        state[STEER],
        state[ACCELERATION],
        world.yaw_rate(),
        state[X],
        state[Y],
        state[YAW],
    )
    row: dict[str, np.ndarray | float | bool] = dict(zip(EGO_COLUMNS, ego, strict=True))
    row |= {name: getattr(truth, name) for name in (*TRUTH_COLUMNS, *FLAG_COLUMNS)}
    row["c2w"] = world.pose().reshape(16)
    row["intrinsics"] = np.array(k.as_array(), dtype=np.float64)
    row["action"] = np.asarray(action, dtype=np.float64)
    row["expert_action"] = world.expert_action()
    return row


if __name__ == "__main__":
    record(tyro.cli(RecordConfig))
