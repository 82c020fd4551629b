"""Drives on held-out roads of the reference world, and how good each was.

A road belongs to a world seed that no recording and no training uses. All drivers take the same
roads from the same starts. What is measured of a drive:

* **route completion**: way along the lane, up to where the car left the road or collided, as a
  share of what the good driver covers on that road in the same time; at most 1.
* **off the road**: how often the middle of the car left it; **collisions**; both for each km.
* **comfort**: share of the decisions in which jerk, accelerations and yaw stayed within the bounds
  of nuPlan (`sanawm_gym.envs.terms.COMFORT_BOUNDS`), and the 95th percentile of the jerk and of the
  lateral acceleration.
* **return**: sum of the reward `carl`, from the truth.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.agents.loading import SCRIPTED, weights_file
from sanawm_gym.agents.policy import Action, Infos, Observation
from sanawm_gym.envs.spaces import FPS, FRAMES_PER_DECISION
from sanawm_gym.envs.terms import COMFORT_BOUNDS
from sanawm_gym.envs.transition import MOTIONS, Transition

REFERENCE = "SanaWM-DriveReference-v0"
GOOD = "good driver"
"""Name of the driver that knows the truth; its way is the route."""
_LOW, _HIGH = np.array([COMFORT_BOUNDS[name] for name in MOTIONS]).T


@dataclass(frozen=True, kw_only=True)
class RoadConfig:
    """Which roads, and for how long."""

    roads: int
    """Number of drives, each on a road of its own."""
    seconds: float
    """Length of a drive [s]."""
    vehicles: int
    """Other cars near the own one."""
    first_road: int
    """World seed of the first road; the others count up."""


class _GoodDriver:
    """The simulator's own driver."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._act = env.get_wrapper_attr("expert_action")

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation, infos: Infos | None = None) -> Action:
        """What is right in the present state."""
        return np.asarray(self._act(), dtype=np.float32)[None]


def drive_all(driver: str, config: RoadConfig, keep: Path, label: str) -> list[dict[str, Any]]:
    """One drive a road; what is in the folder already is read from it.

    Args:
        driver: A name, a file of weights, or `GOOD`.
        config: Which roads.
        keep: Folder for the drives of finished drivers.
        label: Name of the file and on the bar.

    Returns:
        What :func:`drive_road` says of every road.
    """
    wanted = {"driver": _identity(driver), **asdict(config)}
    path = keep / f"{label.replace(' ', '-')}.json"
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["of"] == wanted:
            drives: list[dict[str, Any]] = kept["drives"]
            return drives
    env = make_env(config)
    policy = _GoodDriver(env) if driver == GOOD else load_policy(driver)
    bar = tqdm(range(config.roads), desc=label, unit="road")
    found = [drive_road(env, policy, config.first_road + road) for road in bar]
    env.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"of": wanted, "drives": found}, indent=1) + "\n")
    os.replace(partial, path)
    return found


def make_env(config: RoadConfig, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """The reference world for such drives."""
    return gym.make(
        REFERENCE,
        horizon=config.seconds,
        num_vehicles=config.vehicles,
        reward="carl",
        render_mode=render_mode,
        disable_env_checker=True,
    )


def drive_road(env: gym.Env[Any, Any], policy: Policy, world_seed: int) -> dict[str, Any]:
    """Drive one road to the end of the time or to the end that the driver made."""
    observation, info = env.reset(seed=world_seed % 2**31, options={"world_seed": world_seed})
    policy.reset([world_seed % 2**31])
    base: Any = env.unwrapped
    along = rewards = driven = 0.0
    exits, was_on_road, comfortable = 0, True, []
    jerks: list[NDArray[np.float64]] = []
    laterals: list[NDArray[np.float64]] = []
    terminated = truncated = False
    while not (terminated or truncated):
        seen = {name: value[None] for name, value in observation.items()}
        action, before = policy.act(seen, [info])[0], base.world.state[None]
        path = base.world.bicycle.advance(before, action[None], FRAMES_PER_DECISION, FPS)
        observation, reward, terminated, truncated, info = env.step(action)
        motion = Transition(before=before, states=path, bicycle=base.world.bicycle, fps=FPS)
        jerks.append(np.abs(motion.motion("jerk")).ravel())
        laterals.append(np.abs(motion.motion("lateral_acceleration")).ravel())
        comfortable.append(bool(motion.breaks(_LOW, _HIGH)[0] == 0))
        rewards += float(reward)
        on_road = bool(info["truth"]["on_road"])
        exits += was_on_road and not on_road
        was_on_road = on_road
        step = float(info["distance"]) - driven
        driven = float(info["distance"])
        if exits == 0:
            along += max(step * float(np.cos(info["truth"]["heading_error"])), 0.0)
    return {
        "world_seed": world_seed,
        "end": info["termination_reason"] or info["truncation_reason"],
        "seconds": float(info["time"]),
        "metres": driven,
        "along": along,
        "off_road": exits,
        "collisions": int(info["truth"]["crashed"]),
        "return": rewards,
        "comfort": float(np.mean(comfortable)),
        "jerk": float(np.quantile(np.concatenate(jerks), 0.95)),
        "lateral": float(np.quantile(np.concatenate(laterals), 0.95)),
    }


def figures(drives: Sequence[dict[str, Any]], route: Sequence[float]) -> dict[str, float]:
    """Figures of one driver over all its roads.

    Args:
        drives: Of :func:`drive_all`.
        route: Way of the good driver on every road [m].
    """
    km = max(sum(drive["metres"] for drive in drives) / 1e3, 1e-9)
    return {
        "completion": float(np.mean(completion(drives, route))),
        "off_road_per_km": sum(drive["off_road"] for drive in drives) / km,
        "collisions_per_km": sum(drive["collisions"] for drive in drives) / km,
        "speed": 1e3 * km / sum(drive["seconds"] for drive in drives),
        **{
            name: float(np.mean([drive[name] for drive in drives]))
            for name in ("comfort", "jerk", "lateral", "return")
        },
    }


def completion(drives: Sequence[dict[str, Any]], route: Sequence[float]) -> NDArray[np.float64]:
    """Share of the route that was driven, road by road."""
    along = np.array([drive["along"] for drive in drives])
    return np.minimum(along / np.maximum(route, 1e-9), 1.0)


def _identity(driver: str) -> str:
    """What tells a driver from another: its name, or a hash of its file."""
    if driver == GOOD or driver in SCRIPTED:
        return driver
    return hashlib.sha256(weights_file(driver).read_bytes()).hexdigest()
