"""What a batch is worth: one vector environment against as many scalar ones stepped in turn.

Both sides run in one process with the same threads and take turns decision by decision, so that a
busy machine slows both alike. The ratio is that of the total times.

    python benchmarks/batch_throughput.py --out results/batch_throughput.json
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from report import Report
from tqdm import tqdm


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        num_envs: Rows of the batch, and number of scalar environments, >= 1.
        decisions: Timed decisions of every car, >= 1.
        warm_up: Decisions before the clock starts, >= 0.
        device: Torch device.
        threads: CPU threads of torch, >= 1.
        seed: Seed of the first car and of the actions.
        out: JSON file to write.
    """

    world: str = "drive"
    num_envs: int = 8
    decisions: int = 60
    warm_up: int = 5
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    out: Path | None = None


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    num_turns = options.warm_up + options.decisions
    settings: dict[str, Any] = {
        "world": options.world,
        "device": options.device,
        "horizon": 60.0 + num_turns,  # more seconds than decisions: no episode ends
    }
    batch = gym.make_vec("sanawm_gym:SanaWM-Drive-v0", num_envs=options.num_envs, **settings)
    singles = [gym.make("SanaWM-Drive-v0", **settings) for _ in range(options.num_envs)]
    batch.reset(seed=options.seed)
    for row, env in enumerate(singles):
        env.reset(seed=options.seed + row)
    rng = np.random.default_rng(options.seed)
    pairs = []
    for turn in tqdm(range(num_turns), unit="decision"):
        actions = rng.normal(0.0, (0.1, 0.3), (options.num_envs, 2)).astype(np.float32)
        began = time.perf_counter()
        batch.step(actions)
        between = time.perf_counter()
        for env, action in zip(singles, actions, strict=True):
            env.step(action)
        ended = time.perf_counter()
        if turn >= options.warm_up:
            pairs.append((between - began, ended - between))
    together, in_turn = np.array(pairs).T
    ratio = float(in_turn.sum() / together.sum())
    by_turn = np.quantile(in_turn / together, [0.25, 0.5, 0.75])
    cars = options.num_envs * options.decisions
    Report(
        title=f"{options.num_envs} cars in one batch against {options.num_envs} scalar envs",
        columns=["side", "ms a decision of all cars (median)", "decisions/s", "throughput"],
        rows=[
            [
                f"{options.num_envs} scalar environments",
                f"{1e3 * np.median(in_turn):.1f}",
                f"{cars / in_turn.sum():.1f}",
                "1",
            ],
            [
                f"one batch of {options.num_envs}",
                f"{1e3 * np.median(together):.1f}",
                f"{cars / together.sum():.1f}",
                f"{ratio:.2f}",
            ],
        ],
        figures={
            "ratio": ratio,
            "ratio_by_turn_quartiles": by_turn,
            "batch_ms": 1e3 * together,
            "scalar_ms": 1e3 * in_turn,
        },
        notes=[
            f"Ratio turn by turn: median {by_turn[1]:.2f}, middle half {by_turn[0]:.2f} to "
            f"{by_turn[2]:.2f}."
        ],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
