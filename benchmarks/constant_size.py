"""Whether a drive stays as light as it began: step time, state and memory, early against late.

Step times are compared in two ways. In passing: the median of the steps around the early and
around the late decision, minutes apart, so that a change of the machine's load shows as well. In
turns: the drive is kept as a snapshot at both places and afterwards both are continued alternately,
a step each; this ratio belongs to the drive alone.

    python benchmarks/constant_size.py --out results/constant_size.json
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from report import Report
from tqdm import tqdm

from sanawm_gym.agents import load_policy
from sanawm_gym.envs.snapshot import DriveSnapshot
from sanawm_gym.envs.worlds import shared_world


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where to look.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        early: Decision at which the first look is taken, >= 1.
        late: Decision of the second look, at least early + window.
        window: Steps whose times make a median, >= 1.
        device: Torch device.
        threads: CPU threads of torch, >= 1.
        seed: Seed of the drive.
        out: JSON file to write.
    """

    world: str = "drive"
    policy: str = "cloned"
    early: int = 10
    late: int = 5000
    window: int = 50
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        """Check the order of the places."""
        if min(self.early, self.window) < 1 or self.late < self.early + self.window:
            raise ValueError(
                f"got early={self.early}, late={self.late}, window={self.window}, expected "
                "1 <= early, 1 <= window and early + window <= late"
            )


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one place of the drive."""

    snapshot: DriveSnapshot
    resident_bytes: int
    state_bytes: int


def resident_bytes() -> int:
    """Memory of this process that lies in RAM (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def timed_step(env: gym.Env[Any, Any], action: NDArray[np.float32]) -> tuple[Any, float]:
    began = time.perf_counter()
    observation, _, terminated, truncated, info = env.step(action)
    spent = time.perf_counter() - began
    if terminated or truncated:
        raise SystemExit(f"the drive ended early: {info['truncation_reason']}")
    return observation, spent


def in_turns(env: Any, early: Look, late: Look, turns: int) -> list[tuple[float, float]]:
    """Continue both drives alternately; the times of a pair of steps [s]."""
    places = [early.snapshot, late.snapshot]
    action = np.zeros(2, np.float32)
    pairs = []
    for turn in range(turns + 2):
        spent = []
        # Who goes first changes with every turn: neither side always finds the other's caches.
        for index in (0, 1) if turn % 2 else (1, 0):
            env.restore(places[index])
            spent.append((index, timed_step(env, action)[1]))
            places[index] = env.snapshot()
        if turn >= 2:
            times = dict(spent)
            pairs.append((times[0], times[1]))
    return pairs


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    policy = load_policy(options.policy)
    model = shared_world(options.world, device=options.device)
    last = options.late + 2 * options.window + 10
    env = gym.make(
        "SanaWM-Drive-v0",
        world=options.world,
        device=options.device,
        horizon=last * model.frames_per_step / model.fps,
        outcomes=None,
        drift=None,
        disable_env_checker=True,
    )
    observation, _ = env.reset(seed=options.seed)
    policy.reset([options.seed])
    base: Any = env.unwrapped
    times, looks = [], {}
    for decision in tqdm(range(1, options.late + options.window // 2 + 1), unit="decision"):
        action = policy.act({name: value[None] for name, value in observation.items()})[0]
        observation, spent = timed_step(env, action)
        times.append(spent)
        if decision in (options.early, options.late):
            snapshot = base.snapshot()
            looks[decision] = Look(
                snapshot=snapshot,
                resident_bytes=resident_bytes(),
                state_bytes=snapshot.state.world.num_bytes,
            )
    early, late = looks[options.early], looks[options.late]
    pairs = np.array(in_turns(base, early, late, options.window))
    half = options.window // 2
    passing = [
        float(np.median(times[options.early - 1 : options.early - 1 + options.window])),
        float(np.median(times[options.late - half : options.late + half + 1])),
    ]
    turns = np.median(pairs, axis=0)
    memory = [early.resident_bytes / 2**20, late.resident_bytes / 2**20]
    state = [early.state_bytes / 2**10, late.state_bytes / 2**10]
    table = {
        "step in turns, ms": (1e3 * turns[0], 1e3 * turns[1]),
        "step in passing, ms": (1e3 * passing[0], 1e3 * passing[1]),
        "state, KiB": tuple(state),
        "process in RAM, MiB": tuple(memory),
    }
    Report(
        title="A drive late against early",
        columns=["what", f"decision {options.early}", f"decision {options.late}", "ratio"],
        rows=[[name, f"{a:.2f}", f"{b:.2f}", f"{b / a:.3f}"] for name, (a, b) in table.items()],
        figures={name: {"early": a, "late": b, "ratio": b / a} for name, (a, b) in table.items()},
        notes=[f"Medians of {options.window} steps."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
