"""Drive a generated world for some seconds and write what the camera saw.

python examples/01_drive.py --seconds 20 --out drive
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.envs import RecordVideo


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to drive through, and for how long."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    start: str | None = None
    """Start context or image file; by default the seed draws a context."""
    prompt: str | None = None
    """What the world should look like, in words."""
    seconds: float = 20.0
    """Length of the drive [s]."""
    seed: int = 0
    """Same seed, same actions, same bytes."""
    out: Path = Path("drive")
    """Folder of the video."""


def main(args: Args) -> None:
    torch.set_num_threads(1)  # a small world is fastest on one thread
    env = gym.make(
        "SanaWM-Drive-v0",
        world=args.world,
        start=args.start,
        prompt=args.prompt,
        horizon=args.seconds,
        render_mode="rgb_array_list",  # every raw frame, 16 a second
    )
    env = RecordVideo(env, args.out)

    observation, info = env.reset(seed=args.seed)
    print(f"start {info['start']!r}, prompt {info['prompt']!r}")
    total, done = 0.0, False
    while not done:
        # A driver without eyes: gentle S-curves at about 10 m/s. Nobody keeps it on the road.
        speed = observation["ego"][0]
        steer = 0.15 * np.sin(2 * np.pi * info["time"] / 8.0)
        action = np.array([steer, 0.2 * (10.0 - speed)], dtype=np.float32).clip(-1, 1)
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        done = terminated or truncated

    print(f"{info['time']:.1f} s, {info['distance']:.0f} m, reward {total:.2f}")
    ended_by = info["termination_reason"] or info["truncation_reason"]
    print(f"ended by {ended_by}; wrote {args.out / 'rl-video-episode-0.mp4'}")
    env.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
