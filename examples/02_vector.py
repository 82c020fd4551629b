"""Many worlds at once: one forward of the world model draws the next pictures of all of them.

python examples/02_vector.py --num-envs 8 --decisions 100
"""

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro

import sanawm_gym  # noqa: F401  (registers the environments)


@dataclass(frozen=True, kw_only=True)
class Args:
    """How many worlds, and for how long."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    num_envs: int = 8
    """Worlds drawn together."""
    decisions: int = 100
    """Steps of the vector environment."""
    horizon: float = 10.0
    """Length of an episode [s]."""
    seed: int = 0
    """Row i is seeded with seed + i."""
    threads: int = 1
    """CPU threads of torch."""


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    envs = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=args.num_envs,
        world=args.world,
        horizon=args.horizon,
        autoreset_mode="SameStep",  # finished rows begin again at once
    )
    rng = np.random.default_rng(args.seed)
    envs.reset(seed=args.seed)
    returns, finished = np.zeros(args.num_envs), []

    began = time.perf_counter()
    for _ in range(args.decisions):
        actions = rng.normal(0.0, (0.1, 0.3), (args.num_envs, 2)).astype(np.float32)
        _, rewards, terminated, truncated, infos = envs.step(actions)
        returns += rewards
        done = terminated | truncated
        if done.any():
            metres = infos["final_info"]["distance"][done]
            finished += list(zip(returns[done], metres, strict=True))
            returns[done] = 0.0
    seconds = time.perf_counter() - began

    rate = args.decisions * args.num_envs / seconds
    print(f"{args.num_envs} worlds, {rate:.0f} decisions/s, {rate / 4:.1f} x real time in all")
    for number, (reward, metres) in enumerate(finished):
        print(f"episode {number}: reward {reward:.2f}, {metres:.0f} m")
    envs.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
