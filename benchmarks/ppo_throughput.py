"""How fast PPO learns end to end, beside what its environment alone gives.

Both sides run in one process with the same threads and take turns, rollout by rollout, so that a
busy machine slows both alike: SB3's PPO with everything that belongs to it (adapter, policy,
resets, updates), and the same adapter under random actions. Rates are given by the clock and by
processor time; on a machine that others use too, the latter is what the program itself needs. With
`--workers` the cars of either side are spread over processes, which the clock alone can time.

Beside them stands what the arithmetic allows: the operations of a decision in the readable form of
the world, counted by torch, and the rate of bfloat16 matrix products of a size that suits them,
measured in as many processes at once. No environment can be faster than their quotient, and the
learner comes on top.

    python benchmarks/ppo_throughput.py --num-envs 8 16 --workers 2 --out results/ppo.json
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from report import Report
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sanawm_gym.agents.ppo import PPOConfig, PPOLearner
from sanawm_gym.agents.tasks import TaskConfig, make_envs
from sanawm_gym.agents.training import resolved
from sanawm_gym.agents.vec_env import SB3VecEnv

TARGET = 120.0  # env-steps/s


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        env: Gymnasium id.
        world: World model: a bundled name, a folder or a hub id; None takes the bundled one.
        num_envs: Cars that drive at once, one measurement each.
        workers: Processes over which they are spread; 1 steps them in this one.
        rollouts: Timed rollouts of each, >= 1; one more goes before.
        n_steps: Decisions of each car in a rollout; None takes the tuned number.
        horizon: Length of an episode [s].
        settings: Further arguments of the environment, `name=value`.
        threads: CPU threads of torch, >= 1.
        seed: Seed of worlds, weights and actions.
        out: JSON file to write.
    """

    env: str = "SanaWM-Drive-v0"
    world: str | None = None
    num_envs: tuple[int, ...] = (8,)
    workers: int = 1
    rollouts: int = 2
    n_steps: int | None = None
    horizon: float | None = 16.0
    settings: tuple[str, ...] = ()
    threads: int = 1
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class Seconds:
    """What a turn took."""

    wall: float
    """By the clock."""
    cpu: float
    """Of processor time."""


def timed(action: Callable[[], Any]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def measure(options: Options, num_envs: int) -> dict[str, Any]:
    """Turns of both sides, and the decisions of a turn."""
    task = TaskConfig(
        env=options.env,
        num_envs=num_envs,
        horizon=options.horizon,
        world=options.world,
        workers=options.workers,
        settings=options.settings,
    )
    config = resolved(
        PPOConfig(out=Path(), task=task, seed=options.seed, n_steps=options.n_steps), "ppo"
    )
    learning, alone = (SB3VecEnv(make_envs(task, num_envs)) for _ in range(2))
    per_turn = num_envs * config.n_steps
    # A quarter of a rollout, as the tuned number is for eight cars.
    config = dataclasses.replace(config, batch_size=max(per_turn // 4, 2))
    model = PPOLearner(config).build(learning)
    rng = np.random.default_rng(options.seed)
    alone.seed(options.seed)
    alone.reset()

    def drive() -> None:
        for _ in range(config.n_steps):
            alone.step(rng.uniform(-1, 1, (num_envs, 2)).astype(np.float32))

    def learn() -> None:
        model.learn(per_turn, reset_num_timesteps=False)

    turns = []
    for turn in tqdm(range(options.rollouts + 1), unit="rollout", desc=f"{num_envs} cars"):
        pair = timed(drive), timed(learn)
        if turn:
            turns.append(pair)
    learning.close()
    alone.close()
    wall, cpu = (
        np.array([[getattr(side, kind) for side in pair] for pair in turns])
        for kind in ("wall", "cpu")
    )
    rates = {
        kind: per_turn * len(turns) / seconds.sum(axis=0)
        for kind, seconds in (("wall", wall), ("cpu", cpu))
    }
    return {
        "decisions_a_turn": per_turn,
        "wall": wall,
        "cpu": cpu,
        "env_alone": {kind: float(rate[0]) for kind, rate in rates.items()},
        "ppo": {kind: float(rate[1]) for kind, rate in rates.items()},
        "learner_share": {
            kind: float(1 - seconds[:, 0].sum() / seconds[:, 1].sum())
            for kind, seconds in (("wall", wall), ("cpu", cpu))
        },
    }


def operations(options: Options) -> float:
    """Multiplications and additions of matrix products and convolutions in one decision."""
    task = TaskConfig(env=options.env, num_envs=1, world=options.world, settings=options.settings)
    task = dataclasses.replace(task, settings=(*task.settings, "backend=plain"))
    env = SB3VecEnv(make_envs(task, 1))
    action = np.zeros((1, 2), dtype=np.float32)
    env.seed(options.seed)
    env.reset()
    env.step(action)  # the first decision also reads what the start left
    with FlopCounterMode(display=False) as counter:
        env.step(action)
    env.close()
    return float(counter.get_total_flops())


def products(threads: int, seconds: float = 2.0) -> float:
    """Operations a second of bfloat16 products of 1152 x 640 by 640 x 640."""
    torch.set_num_threads(threads)
    a = torch.randn(1152, 640, dtype=torch.bfloat16)
    b = torch.randn(640, 640, dtype=torch.bfloat16)
    out, done, begun = a @ b, 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for _ in range(20):
            torch.mm(a, b, out=out)
        done += 20
    return 2.0 * done * 1152 * 640 * 640 / (time.perf_counter() - begun)


def ceiling(options: Options) -> float:
    """The same of all processes at once."""
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        return sum(pool.map(products, [options.threads] * options.workers, chunksize=1))


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    count, rate = operations(options), ceiling(options)
    found = {str(num_envs): measure(options, num_envs) for num_envs in options.num_envs}
    is_here = options.workers == 1
    clock = "cpu" if is_here else "wall"
    rows = [
        [
            num_envs,
            f"{one['env_alone']['wall']:.1f}",
            f"{one['ppo']['wall']:.1f}",
            f"{one['env_alone']['cpu']:.1f}" if is_here else "in workers",
            f"{one['ppo']['cpu']:.1f}" if is_here else "in workers",
            f"{one['learner_share'][clock]:.0%}",
        ]
        for num_envs, one in found.items()
    ]
    best = max(one["ppo"]["wall"] for one in found.values())
    Report(
        title="PPO end to end beside its environment alone",
        columns=[
            "cars",
            "env alone, env-steps/s",
            "PPO, env-steps/s",
            "env alone, env-steps/CPU s",
            "PPO, env-steps/CPU s",
            "share of the learner",
        ],
        rows=rows,
        figures={**found, "operations": count, "operations_per_second": rate},
        notes=[
            f"Best of PPO: {best:.1f} env-steps/s by the clock; the aim is {TARGET:.0f} on two "
            "cores. What is not the learner's share is the environment's.",
            f"A decision takes {count / 1e9:.2f} GFLOP; matrix products alone run at "
            f"{rate / 1e9:.0f} GFLOP/s here, so that no form of this world could make more than "
            f"{rate / count:.0f} env-steps/s, learner not included.",
        ],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
