"""What an agent learns to do: which environment, how many of it and with which settings."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents.workers import WorkerVectorEnv


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The environment an agent learns in."""

    env: str = "SanaWM-Drive-v0"
    """Gymnasium id: `SanaWM-Drive-v0` is the generated world, `SanaWM-DriveReference-v0` the
    simulator that knows the truth."""
    num_envs: int = 8
    """Cars that drive at once, >= 1."""
    horizon: float | None = 16.0
    """Length of an episode [s], above 0; None leaves it to the environment. Short episodes begin
    more often at real pictures, where the drawn world is at its best."""
    first_horizon: float | None = None
    """Length of the first episodes [s], above 0, from which it grows evenly to `horizon` over the
    first half of the training; None drives the full length from the beginning."""
    world: str | None = None
    """World model: a bundled name, a folder or a hub id; None takes the bundled one. Only of the
    generated world."""
    reward: str | None = None
    """Preset of the reward; None takes the environment's own default."""
    settings: tuple[str, ...] = ()
    """Further arguments of the environment, each `name=value` with the value as json or plain text,
    such as `start=000` or `num_vehicles=0`."""
    workers: int = 1
    """Processes over which the cars are spread, each a batch of its own on one thread, 1 to
    `num_envs`. As many as there are idle cores are quickest; 1 steps them in this process."""

    def __post_init__(self) -> None:
        """Check the numbers and the form of the settings."""
        if self.num_envs < 1:
            raise ValueError(f"task.num_envs: got {self.num_envs}, expected 1 or more; try 8")
        if not 1 <= self.workers <= self.num_envs:
            raise ValueError(
                f"task.workers: got {self.workers} for {self.num_envs} cars, expected 1 to "
                f"{self.num_envs}; take the number of idle cores"
            )
        for name in ("horizon", "first_horizon"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"task.{name}: got {value}, expected seconds above 0; try 16")
        if self.first_horizon is not None and (
            self.horizon is None or self.first_horizon > self.horizon
        ):
            raise ValueError(
                f"task.first_horizon: got {self.first_horizon}, expected at most the horizon of "
                f"{self.horizon}; give a shorter one or leave it out"
            )
        read_settings(self.settings)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `gymnasium.make_vec`."""
        named = {"horizon": self.horizon, "world": self.world, "reward": self.reward}
        given = {name: value for name, value in named.items() if value is not None}
        return given | read_settings(self.settings)

    def horizon_at(self, progress: float) -> float | None:
        """Length of the episodes that begin at a share of the training, 0 to 1; None: unchanged."""
        if self.first_horizon is None or self.horizon is None:
            return None
        share = min(2.0 * progress, 1.0)
        return self.first_horizon + share * (self.horizon - self.first_horizon)


def read_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Arguments out of `name=value` words.

    Raises:
        ValueError: If a word has no name.
    """
    read: dict[str, Any] = {}
    for word in settings:
        name, sign, value = word.partition("=")
        if not (sign and name.isidentifier()):
            raise ValueError(
                f"task.settings: got {word!r}, expected name=value; write for example start=000"
            )
        try:
            # A number may be meant as a name: "000" is one, 0 is not written like that.
            read[name] = json.loads(value)
        except json.JSONDecodeError:
            read[name] = value
    return read


def make_envs(
    task: TaskConfig, num_envs: int, render_mode: str | None = None
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """The environments of a task, resetting finished rows on the next step.

    Args:
        task: Which environment.
        num_envs: Rows, >= 1.
        render_mode: What is rendered; None renders nothing.

    Raises:
        ValueError: If the id or an argument is unknown.
    """
    try:
        gym.spec(task.env)
    except gym.error.Error as error:
        raise ValueError(
            f"task.env: got {task.env!r}, expected a registered id such as SanaWM-Drive-v0 or "
            f"SanaWM-DriveReference-v0 ({error})"
        ) from error
    arguments = task.arguments() | ({} if render_mode is None else {"render_mode": render_mode})
    workers = min(task.workers, num_envs)
    try:
        if workers > 1:
            return WorkerVectorEnv(task.env, num_envs, workers, arguments)
        return gym.make_vec(task.env, num_envs, **arguments)
    except TypeError as error:
        raise ValueError(
            f"task.settings: {task.env} does not take {sorted(arguments)} ({error}); leave out "
            "what it does not know"
        ) from error


def is_batched(task: TaskConfig) -> bool:
    """Whether an environment steps all its rows as one batch."""
    return gym.spec(task.env).vector_entry_point is not None
