"""Pay for what you care about: two terms of your own, one of motion and one read off the picture.

python examples/06_own_reward.py --seconds 5

Three cars in one world hold the wheel left, straight and right. No heads are needed.
"""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.envs.reward import RewardConfig
from sanawm_gym.envs.terms import Progress
from sanawm_gym.envs.transition import Transition
from sanawm_gym.vehicle import SPEED


@dataclass(frozen=True)
class Pace:
    """A factor: 1 at the wanted speed, 0 where it is missed by all of it."""

    wanted: float = 10.0
    """Speed [m/s], > 0."""
    name: str = "pace"

    def __call__(self, transition: Transition) -> np.ndarray:
        """One number a car."""
        speed = transition.states[:, -1, SPEED]
        return np.clip(1.0 - np.abs(speed - self.wanted) / self.wanted, 0.0, 1.0)


@dataclass(frozen=True)
class SameGround:
    """A factor: what lies ahead has the colour of what is under the wheels."""

    name: str = "same_ground"

    def __call__(self, transition: Transition) -> np.ndarray:
        """One number a car."""
        _, h, w, _ = transition.picture.shape
        middle = transition.picture[:, :, 3 * w // 8 : 5 * w // 8].astype(float)
        under = middle[:, 7 * h // 8 :].mean(axis=(1, 2))
        ahead = middle[:, 5 * h // 8 : 3 * h // 4].mean(axis=(1, 2))
        return np.clip(1.0 - np.abs(under - ahead).mean(axis=1) / 64.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Args:
    """How long to drive, and where."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    seconds: float = 5.0
    """Length of the drives [s]."""
    seed: int = 0
    """Seed of the worlds."""


def main(args: Args) -> None:
    torch.set_num_threads(1)  # a small world is fastest on one thread
    reward = RewardConfig(gains=(Progress(),), factors=(Pace(), SameGround()))
    envs = gym.make_vec(
        "SanaWM-Drive-v0", num_envs=3, world=args.world, reward=reward, outcomes=None, drift=None
    )
    envs.reset(seed=[args.seed] * 3)  # the same start and the same noise for all three
    wheel = np.array([0.3, 0.0, -0.3], dtype=np.float32)
    for _ in range(round(4 * args.seconds)):
        _, rewards, _, _, infos = envs.step(np.stack([wheel, np.full(3, 0.2, np.float32)], axis=1))
    for row, side in enumerate(("left", "straight", "right")):
        found = (f"{name} {infos['reward_terms'][name][row]:.2f}" for name in reward.blank())
        print(f"{side:>8}: {rewards[row]:.2f} from", ", ".join(found))


if __name__ == "__main__":
    main(tyro.cli(Args))
