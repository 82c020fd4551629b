"""What if? Keep a moment of a drive, and let the same world go on under different actions.

    python examples/03_fork.py --out fork.png

Each line of the picture is one branch: the same past, the same noise, another steering.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from PIL import Image

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.video import contact_sheet


@dataclass(frozen=True, kw_only=True)
class Args:
    """Where to fork, and for how long to follow the branches."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    branches: int = 5
    """Steering angles to try, from full right to full left of `steer`."""
    steer: float = 0.3
    """Largest steering tried, in [0, 1]."""
    decisions: int = 8
    """Length of the past and of every branch, in decisions of 0.25 s."""
    seed: int = 0
    """Seed of start and world."""
    out: Path = Path("fork.png")
    """Picture to write."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    env = gym.make("SanaWM-Drive-v0", world=args.world).unwrapped
    env.reset(seed=args.seed)
    straight = np.zeros(2, dtype=np.float32)
    for _ in range(args.decisions):
        env.step(straight)

    moment = env.snapshot()  # a value: it can be kept, pickled and restored as often as wanted
    envs = env.fork(args.branches)  # as many rows that all continue from here
    steering = np.linspace(-args.steer, args.steer, args.branches, dtype=np.float32)
    actions = np.stack([steering, np.zeros_like(steering)], axis=1)
    pictures, rewards = [], np.zeros(args.branches)
    for _ in range(args.decisions):
        observations, reward, _, _, infos = envs.step(actions)
        pictures.append(observations["camera"])
        rewards += reward
    for steer, reward, yaw in zip(steering, rewards, infos["yaw"], strict=True):
        print(f"steer {steer:+.2f}: reward {reward:.2f}, turned by {np.degrees(yaw):+.0f} degrees")

    sheet = np.stack(pictures, axis=1)  # branch, time
    Image.fromarray(contact_sheet(sheet.reshape(-1, *sheet.shape[2:]), args.decisions)).save(
        args.out
    )
    print(f"wrote {args.out}")

    # Back in the one environment: the same actions give the same bytes, twice.
    futures = []
    for _ in range(2):
        env.restore(moment)
        futures.append([env.step(straight)[0]["camera"].tobytes() for _ in range(args.decisions)])
    assert futures[0] == futures[1]
    env.close()
    envs.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
