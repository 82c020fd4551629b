"""Try before you act: at every decision, plan in forks of the world and take the best action.

python examples/05_plan_with_forks.py --decisions 12 --out plan.png

The lower line of the picture is the same drive without plans: straight on, a little throttle.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from PIL import Image

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.agents.planner import CEMPlanner, PlannerConfig
from sanawm_gym.video import contact_sheet


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to plan in, and how hard."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    reward: str = "auto"
    """Preset of the reward that judges plans; `auto` is `carl` in worlds with heads."""
    decisions: int = 12
    """Length of the drive, in decisions of 0.25 s."""
    candidates: int = 16
    """Branches of the world in a search."""
    ahead: int = 8
    """Decisions that a plan looks ahead."""
    seed: int = 0
    """Seed of start, world and search."""
    out: Path = Path("plan.png")
    """Picture to write."""


def follow(env: Any, policy: Policy, args: Args) -> tuple[float, list[np.ndarray]]:
    """Drive on from a reset; the reward and what was seen."""
    observation, info = env.reset(seed=args.seed)
    policy.reset([args.seed])
    total, pictures = 0.0, []
    for _ in range(args.decisions):
        batch = {name: value[None] for name, value in observation.items()}
        action = policy.act(batch, [info])[0]
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        pictures.append(observation["camera"])
        if terminated or truncated:
            break
    return total, pictures


def main(args: Args) -> None:
    torch.set_num_threads(1)
    env = gym.make("SanaWM-Drive-v0", world=args.world, reward=args.reward)
    config = PlannerConfig(candidates=args.candidates, decisions=args.ahead)
    planner = CEMPlanner(env, config)  # forks the world itself: it needs no model of it
    planned, above = follow(env, planner, args)
    straight, below = follow(env, load_policy("constant"), args)
    print(f"reward with plans {planned:.2f}, without {straight:.2f}")
    width = args.decisions
    blank = np.zeros_like(above[0])
    lines = [line + [blank] * (width - len(line)) for line in (above, below)]
    Image.fromarray(contact_sheet(np.stack(lines[0] + lines[1]), width)).save(args.out)
    print(f"wrote {args.out}")
    env.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
