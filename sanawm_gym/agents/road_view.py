"""What a critic may know beyond what its actor sees: where the car stands on the road.

A critic is thrown away after the training, so it may read what no camera shows: a driver that looks
is judged by one that knows (an asymmetric actor-critic, Pinto et al. 2017). The reference world
says where the car is (`info["truth"]`), a generated world with heads says what it reads off its own
pictures (`info["perceived"]`). Both stand beside the observation under `ROAD`, in equal units.

Axes: b cars, n numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvObs,
    VecEnvStepReturn,
    VecEnvWrapper,
)

from sanawm_gym.agents.features import ALONE

ROAD = "road"
"""Name of the road's numbers in an observation."""
UNITS = {"lane_offset": 1.0, "heading_error": 0.1, "curvature_ahead": 0.02}
"""Readings that are shown, and by what they are divided: metres, radians, one over metres."""
LIMIT = 5.0
"""Largest magnitude of a number that is shown: a car that is lost is lost."""


class RoadVecEnv(VecEnvWrapper):
    """Environments whose observations hold the road's numbers as well.

    An observation that is no dictionary becomes one.

    Args:
        envs: As SB3 sees them.

    Raises:
        ValueError: If an observation has a part of that name already.
    """

    def __init__(self, envs: VecEnv) -> None:
        space = envs.observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {ALONE: space}
        if ROAD in parts:
            raise ValueError(
                f"critic_road: got an observation with a part {ROAD!r} of its own, expected none "
                "of that name; rename it, or give --no-critic-road"
            )
        numbers = spaces.Box(-LIMIT, LIMIT, (len(UNITS),), np.float32)
        super().__init__(envs, spaces.Dict({**parts, ROAD: numbers}))

    def reset(self) -> VecEnvObs:
        """Begin new episodes.

        Raises:
            ValueError: If the infos do not tell of the road.
        """
        seen = self.venv.reset()
        self.reset_infos = self.venv.reset_infos
        return _beside(seen, np.stack([road_numbers(info) for info in self.reset_infos]))

    def step_wait(self) -> VecEnvStepReturn:
        """Step; an episode that has ended ends with its own road, not with that of the next one."""
        seen, rewards, done, infos = self.venv.step_wait()
        self.reset_infos = self.venv.reset_infos
        roads = []
        for row, info in enumerate(infos):
            road = road_numbers(info)
            if done[row]:
                info["terminal_observation"] = _beside(info["terminal_observation"], road)
                road = road_numbers(self.reset_infos[row])
            roads.append(road)
        return _beside(seen, np.stack(roads)), rewards, done, infos


def road_numbers(info: Mapping[str, Any]) -> Float32[np.ndarray, " n"]:
    """What the info of a car tells of its road, in the order of `UNITS`.

    Raises:
        ValueError: If it holds neither the truth nor what is perceived.
    """
    if "truth" in info:
        values = [float(info["truth"][name]) / unit for name, unit in UNITS.items()]
    elif "perceived" in info:
        values = [float(info["perceived"][name]["mean"]) / unit for name, unit in UNITS.items()]
    else:
        raise ValueError(
            "critic_road: got infos without 'truth' and 'perceived', expected one of them, by "
            "which the critic knows where the road is. Give the world heads (`sanawm-gym train-wm "
            "heads`), learn in SanaWM-DriveReference-v0, or let the critic read the observed "
            "numbers alone (--no-critic-road)"
        )
    # Nothing can be read off a picture that broke: a straight road, then, as good as any.
    known = np.nan_to_num(np.array(values), nan=0.0, posinf=LIMIT, neginf=-LIMIT)
    return np.asarray(np.clip(known, -LIMIT, LIMIT), np.float32)


def _beside(seen: Any, road: np.ndarray) -> dict[str, Any]:
    """An observation with the road's numbers as one more part."""
    return {**(seen if isinstance(seen, dict) else {ALONE: seen}), ROAD: road}
