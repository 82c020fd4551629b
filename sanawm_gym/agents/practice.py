"""Let a driver practise: ``python -m sanawm_gym.agents.practice --policy FILE --out DIR``.

A driver cloned from recordings comes into situations of its own making (too near to the car in
front, too fast for the bend) in which no recorded driver ever was. So it drives through reference
worlds, and at every decision the picture is kept together with what the good driver would do; the
next clone learns from recordings and practice together (DAgger: Ross, Gordon and Bagnell 2011).

    DIR/practice.json           the settings, so that two practices do not mix
    DIR/drive-000000.npz        camera, speed and expert_action of every decision of one drive

A drive depends on its own number, the seed and the driver only; an interrupted practice goes on at
the first drive that is missing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from tqdm import tqdm

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents.loading import load_policy
from sanawm_gym.agents.policy import Policy

SETTINGS = "practice.json"
MIN_VEHICLES, MAX_VEHICLES = 2, 6  # other cars near the own one, in turns


@dataclass(frozen=True, kw_only=True)
class PracticeConfig:
    """Who practises, where and for how long."""

    out: Path
    """Folder to write to; a folder with part of this practice is continued."""
    policy: str = "cloned"
    """Driver: cloned, constant, random or a file of weights."""
    drives: int = 100
    """Number of drives, >= 1."""
    seconds: float = 60.0
    """Length of a drive [s], 1 to 600; a collision or leaving the road ends it early."""
    seed: int = 0
    """Seed of the worlds, >= 0. A recording and a practice of equal seeds share worlds."""
    threads: int = 1
    """CPU threads of torch, >= 1."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.drives < 1 or self.threads < 1 or self.seed < 0:
            raise ValueError(
                f"practice: got drives={self.drives}, threads={self.threads}, seed={self.seed}, "
                "expected counts >= 1 and a seed >= 0"
            )
        if not 1.0 <= self.seconds <= 600.0:
            raise ValueError(f"practice: got seconds={self.seconds}, expected 1 to 600")

    def world_seed(self, drive: int) -> int:
        """Seed of the world of a drive, counted as recordings count theirs."""
        return self.seed * 10_000_000 + drive


def practise(config: PracticeConfig) -> int:
    """Drive the missing drives.

    Returns:
        Decisions in the folder, of all drives together.

    Raises:
        ValueError: If the folder holds a practice with other settings, or the driver is unknown.
    """
    torch.set_num_threads(config.threads)
    policy = load_policy(config.policy)
    claim(config.out, {"policy": config.policy, "seconds": config.seconds, "seed": config.seed})
    env = gym.make("SanaWM-DriveReference-v0", horizon=config.seconds, disable_env_checker=True)
    total, ended_early = 0, 0
    for number in tqdm(range(config.drives), desc="practice", unit="drive"):
        path = drive_path(config.out, number)
        if not path.exists():
            write_drive(path, _drive(env, policy, config, number))
        with np.load(path) as kept:
            total += len(kept["speed"])
            ended_early += bool(kept["ended_early"])
    env.close()
    print(f"{config.out}: {config.drives} drives, {ended_early} ended early, {total} decisions")
    return total


def drive_path(folder: Path, number: int) -> Path:
    """File of one drive."""
    return folder / f"drive-{number:06d}.npz"


def is_practice(folder: Path) -> bool:
    """Whether a folder was written by :func:`practise`."""
    return (folder / SETTINGS).is_file()


def _drive(
    env: gym.Env[Any, Any], policy: Policy, config: PracticeConfig, number: int
) -> dict[str, np.ndarray]:
    """One drive: what was seen before every decision, and what the good driver would have done."""
    world_seed = config.world_seed(number)
    num_vehicles = MIN_VEHICLES + number % (MAX_VEHICLES - MIN_VEHICLES + 1)
    observation, info = env.reset(
        seed=world_seed % 2**31, options={"world_seed": world_seed, "num_vehicles": num_vehicles}
    )
    policy.reset([world_seed % 2**31])
    camera, speed, expert = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        camera.append(observation["camera"])
        speed.append(observation["ego"][0])
        expert.append(env.get_wrapper_attr("expert_action")())
        batch = {name: value[None] for name, value in observation.items()}
        observation, _, terminated, truncated, info = env.step(policy.act(batch, [info])[0])
    return {
        "camera": np.stack(camera),
        "speed": np.array(speed, dtype=np.float32),
        "expert_action": np.array(expert, dtype=np.float32),
        "ended_early": np.array(terminated),
    }


def write_drive(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the file of one drive whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def claim(folder: Path, wanted: dict[str, Any]) -> None:
    """Write the settings that decide a drive, or refuse a folder that has others.

    Raises:
        ValueError: If the folder holds drives of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=2) + "\n")
    there = json.loads(path.read_text())
    if there != wanted:
        raise ValueError(
            f"practice: got {wanted}, but {folder} holds a practice with {there}; expected the "
            "same to continue it; give another folder"
        )


if __name__ == "__main__":
    practise(tyro.cli(PracticeConfig))
