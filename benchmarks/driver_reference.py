"""Whether a driver stays on the road where the truth is known: drives in the reference world.

Every drive has a road of its own, from seeds that no recording uses, and a few other cars. A drive
counts as on the road when the middle of the car never left it (`truth["on_road"]`) in the whole
time; the drive itself goes on until the environment ends it (wholly beyond the edge, or a
collision) or the time is up. Collisions are counted on their own: a driver that was on the road
until then has not been there for the full time, so it is not counted as on the road either. A
driver that hardly moves is on the road, too: drives slower than 1 m/s on average are counted. The
interval is Wilson's for a share, 95 %. The driver `expert` is the good driver that the cloned one
imitates; it knows the truth, so its row says what the roads and the other cars allow.

    python benchmarks/driver_reference.py --policies cloned expert constant --out driver.json
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from report import Report
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.agents.policy import Action, Observation

EXPERT = "expert"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Who drives where.

    Attributes:
        policies: Drivers: cloned, expert, constant, random or files of weights.
        drives: Drives of each, >= 1.
        seconds: Length of a drive [s], > 0.
        vehicles: Other cars near the own one, 0-12; 2 is light traffic.
        seed: First of the world seeds; far from all recordings (10 million times their seed).
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    policies: tuple[str, ...] = ("cloned",)
    drives: int = 50
    seconds: float = 60.0
    vehicles: int = 2
    seed: int = 900_020_000_000
    threads: int = 1
    out: Path | None = None


class Expert:
    """The good driver of an environment; it does not look."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._act = env.get_wrapper_attr("expert_action")

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> Action:
        """What is right in the environment's present state."""
        return np.asarray(self._act(), dtype=np.float32)[None]


def policy_of(env: gym.Env[Any, Any], name: str) -> Policy:
    return Expert(env) if name == EXPERT else load_policy(name)


def drive(env: gym.Env[Any, Any], policy: Policy, world_seed: int) -> dict[str, Any]:
    """One drive; what became of it."""
    seed = world_seed % 2**31
    observation, info = env.reset(seed=seed, options={"world_seed": world_seed})
    policy.reset([seed])
    on_road, offsets, terminated, truncated = True, [], False, False
    while not (terminated or truncated):
        action = policy.act({name: value[None] for name, value in observation.items()})[0]
        observation, _, terminated, truncated, info = env.step(action)
        on_road = on_road and bool(info["truth"]["on_road"])
        offsets.append(abs(info["truth"]["lane_offset"]))
    crashed = bool(info["truth"]["crashed"])
    return {
        "world_seed": world_seed,
        "kept_the_road": on_road and not crashed,
        "left_the_road": not on_road,
        "crashed": crashed,
        "seconds": float(info["time"]),
        "metres": float(info["distance"]),
        "lane_offset_m": float(np.mean(offsets)),
    }


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.96
    share, weight = hits / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return centre - half, centre + half


def row_of(policy: str, drives: list[dict[str, Any]]) -> list[str]:
    count = len(drives)
    kept = sum(one["kept_the_road"] for one in drives)
    low, high = wilson(kept, count)
    metres = float(np.mean([one["metres"] for one in drives]))
    return [
        policy,
        f"{kept} of {count} = {100 * kept / count:.0f} % ({100 * low:.0f} to {100 * high:.0f})",
        str(sum(one["left_the_road"] for one in drives)),
        str(sum(one["crashed"] for one in drives)),
        str(sum(one["metres"] < one["seconds"] for one in drives)),
        f"{metres:.0f} m, {np.mean([one['seconds'] for one in drives]):.0f} s",
        f"{metres / max(1e-9, float(np.mean([one['seconds'] for one in drives]))):.1f} m/s",
        f"{np.median([one['lane_offset_m'] for one in drives]):.2f} m",
    ]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    env = gym.make(
        "SanaWM-DriveReference-v0",
        horizon=options.seconds,
        num_vehicles=options.vehicles,
        disable_env_checker=True,
    )
    results: dict[str, list[dict[str, Any]]] = {}
    # An unknown driver is refused before anybody drives.
    drivers = {name: policy_of(env, name) for name in options.policies}
    for name, policy in drivers.items():
        results[name] = []
        bar = tqdm(range(options.drives), desc=name, unit="drive")
        for index in bar:
            results[name].append(drive(env, policy, options.seed + index))
            kept = sum(one["kept_the_road"] for one in results[name])
            bar.set_postfix(on_road=f"{kept}/{index + 1}")
    env.close()
    Report(
        title=f"Reference world, {options.seconds:g} s a drive, {options.vehicles} other cars",
        columns=[
            "driver",
            "whole drive on the road (95 %)",
            "left the road",
            "collided",
            "stood",
            "mean way and time",
            "speed",
            "off the lane's middle",
        ],
        rows=[row_of(policy, drives) for policy, drives in results.items()],
        figures={
            policy: {
                "share_on_road": float(np.mean([one["kept_the_road"] for one in drives])),
                "drives": drives,
            }
            for policy, drives in results.items()
        },
        notes=[f"World seeds {options.seed} to {options.seed + options.drives - 1}."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
