"""Train a driver with Stable-Baselines3's PPO: eight worlds in one batch, one policy.

python examples/04_train_ppo.py --steps 20000 --out ppo.zip

The command `sanawm-gym train-agent ppo` does the same with evaluations, videos and resuming.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents.extractor import SB3Features
from sanawm_gym.agents.vec_env import SB3VecEnv


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to learn in, and for how long."""

    world: str = "drive"
    """Bundled name, folder or hub id."""
    reward: str = "auto"
    """Preset of the reward; `auto` is `carl` in worlds with heads."""
    num_envs: int = 8
    """Worlds drawn together."""
    horizon: float = 8.0
    """Length of an episode [s]."""
    steps: int = 20_000
    """Decisions of all cars together."""
    rollout: int = 64
    """Decisions of each car between two updates."""
    seed: int = 0
    """Seed of weights and worlds."""
    out: Path = Path("ppo.zip")
    """Where SB3 saves the model."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    envs = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=args.num_envs,
        world=args.world,
        reward=args.reward,
        horizon=args.horizon,
    )
    # SB3 has a vector environment of its own; the adapter stands between the two.
    venv = VecMonitor(SB3VecEnv(envs))
    model = PPO(
        "MultiInputPolicy",
        venv,
        n_steps=args.rollout,
        batch_size=args.rollout * args.num_envs // 4,
        n_epochs=4,
        gamma=0.97,  # a decision lasts 0.25 s: this looks about 8 s ahead
        policy_kwargs={
            "features_extractor_class": SB3Features,  # camera and ego become one vector
            "normalize_images": False,
            "log_std_init": -0.7,
        },
        seed=args.seed,
    )
    model.learn(args.steps)
    reward, deviation = evaluate_policy(model, venv, n_eval_episodes=args.num_envs)
    print(f"after {model.num_timesteps} steps: reward {reward:.2f} ± {deviation:.2f}")
    model.save(args.out)
    print(f"wrote {args.out}")
    venv.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
