"""How well a driver drives: whole episodes from fixed seeds, and what they looked like."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np

from sanawm_gym.agents.policy import Policy
from sanawm_gym.agents.tasks import TaskConfig, is_batched, make_envs
from sanawm_gym.agents.vec_infos import split_infos
from sanawm_gym.video import VideoWriter

_CRF = 18
_FPS = 4.0  # of an environment that does not say


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How often and on what a driver in training is judged, by its most likely actions."""

    every: int = 20_000
    """Steps of training between two evaluations, >= 1; there is one at the end in any case."""
    at_start: bool = False
    """Judge the driver before it has learnt anything, too: of use where it begins as another."""
    episodes: int = 8
    """Episodes of one evaluation, driven together, >= 1."""
    videos: int = 1
    """How many of them are written as videos, 0 or more."""
    seed: int = 1_000_000
    """Seed of the first episode, counting up, >= 0; the same at every evaluation, and far from the
    seeds of the training."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.every, self.episodes) < 1 or min(self.videos, self.seed) < 0:
            raise ValueError(
                f"evaluation: got every={self.every}, episodes={self.episodes}, "
                f"videos={self.videos}, seed={self.seed}, expected the first two >= 1 and the "
                "others >= 0"
            )


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode of a driver."""

    seed: int
    """Of its start."""
    reward: float
    """Sum of the rewards."""
    decisions: int
    """Its length."""
    is_terminated: bool
    """Whether it ended by its outcome, not by time or failure."""
    end: str
    """Why it ended, in the environment's word if it has one."""
    metres: float | None
    """Way driven [m], where the environment says."""


class Evaluator:
    """Keeps the environments of the evaluations of one run.

    Args:
        task: What is driven.
        config: How much of it.
    """

    def __init__(self, task: TaskConfig, config: EvaluationConfig) -> None:
        self._config = config
        mode = _render_mode(task) if config.videos else None
        self._envs = make_envs(task, config.episodes, mode)
        self._num_films = 0 if mode is None else min(config.videos, config.episodes)

    def drive(self, policy: Policy, videos: Path) -> list[Episode]:
        """Drive every episode once.

        Args:
            policy: The driver.
            videos: Folder for `episode-0.mp4` and so on, as many as the config asks for.
        """
        seeds = [self._config.seed + row for row in range(self._config.episodes)]
        fps = float(self._envs.metadata.get("render_fps", _FPS))
        with ExitStack() as stack:
            films = [
                stack.enter_context(VideoWriter(videos / f"episode-{row}.mp4", fps, crf=_CRF))
                for row in range(self._num_films)
            ]
            return drive_episodes(self._envs, policy, seeds, films)

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()


def drive_episodes(
    envs: gym.vector.VectorEnv[Any, Any, Any],
    policy: Policy,
    seeds: Sequence[int],
    films: Sequence[VideoWriter] = (),
) -> list[Episode]:
    """Drive one episode a row to its end.

    Args:
        envs: As many rows as there are seeds; rows that end early may begin anew by themselves.
        policy: The driver.
        seeds: Of the episodes.
        films: Videos of the first rows, to which every rendered picture is added.
    """
    num_rows = len(seeds)
    observation, joined = envs.reset(seed=list(seeds))  # type: ignore[arg-type]
    infos = split_infos(joined, num_rows)
    policy.reset(list(seeds))
    rewards, lengths = np.zeros(num_rows), np.zeros(num_rows, dtype=np.int64)
    ends, is_terminated = [""] * num_rows, [False] * num_rows
    metres: list[float | None] = [None] * num_rows
    _film(envs, films, ends)
    while not all(ends):
        observation, reward, terminated, truncated, joined = envs.step(
            policy.act(observation, infos)
        )
        infos = split_infos(joined, num_rows)
        _film(envs, films, ends)
        for row, info in enumerate(infos):
            if ends[row]:
                continue
            rewards[row] += reward[row]
            lengths[row] += 1
            metres[row] = info.get("distance", metres[row])
            if terminated[row]:
                is_terminated[row] = True
                ends[row] = info.get("termination_reason") or "terminated"
            elif truncated[row]:
                ends[row] = info.get("truncation_reason") or "truncated"
    return [
        Episode(
            seed=seed,
            reward=float(rewards[row]),
            decisions=int(lengths[row]),
            is_terminated=is_terminated[row],
            end=ends[row],
            metres=metres[row],
        )
        for row, seed in enumerate(seeds)
    ]


def summary(episodes: Sequence[Episode]) -> dict[str, float]:
    """Means over episodes, and the share of them that ended before their time."""
    rewards = np.array([episode.reward for episode in episodes])
    found = {
        "reward": float(rewards.mean()),
        "reward_deviation": float(rewards.std(ddof=1)) if len(rewards) > 1 else 0.0,
        "decisions": float(np.mean([episode.decisions for episode in episodes])),
        "terminated": float(np.mean([episode.is_terminated for episode in episodes])),
    }
    metres = [episode.metres for episode in episodes if episode.metres is not None]
    return found | ({"metres": float(np.mean(metres))} if metres else {})


def _film(
    envs: gym.vector.VectorEnv[Any, Any, Any], films: Sequence[VideoWriter], ends: Sequence[str]
) -> None:
    """Add what was rendered since the last step to the videos of rows that go on."""
    # Gymnasium types what any render mode may return; these are pictures.
    rendered = cast("Sequence[Any] | None", envs.render()) if films else None
    for row, film in enumerate(films):
        if rendered is None or ends[row]:
            continue
        pictures = rendered[row] if isinstance(rendered[row], list) else [rendered[row]]
        for picture in pictures:
            film.append(picture)


def _render_mode(task: TaskConfig) -> str | None:
    """How videos are made: every raw frame where they are drawn anyway, else one a decision."""
    spec = gym.spec(task.env)
    modes = _modes(spec.entry_point)
    if is_batched(task) and "rgb_array_list" in modes:
        return "rgb_array_list"
    return "rgb_array" if "rgb_array" in modes else None


def _modes(entry_point: Any) -> Sequence[str]:
    """Render modes that an environment's class declares."""
    maker = (
        gym.envs.registration.load_env_creator(entry_point)
        if isinstance(entry_point, str)
        else entry_point
    )
    return tuple(getattr(maker, "metadata", {}).get("render_modes", ()))
