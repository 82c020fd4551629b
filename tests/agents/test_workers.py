"""Rows spread over processes do what they do in one."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents.evaluation import drive_episodes
from sanawm_gym.agents.scripted import RandomPolicy
from sanawm_gym.agents.tasks import TaskConfig, make_envs
from sanawm_gym.agents.vec_env import SB3VecEnv
from sanawm_gym.agents.vec_infos import split_infos
from sanawm_gym.agents.workers import WorkerVectorEnv

SMALL = {"reward": "kinematic", "horizon": 0.75}
ROWS = 3


def equal(one: Any, other: Any) -> None:
    """Whether infos say the same, up to the last bits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            equal(one[name], other[name])
    elif isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            equal(mine, theirs)
    elif isinstance(one, np.ndarray | float):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    else:
        assert one == other


def test_two_workers_draw_what_one_process_draws(world: str) -> None:
    """Through starts, autoresets of single rows, and new episodes with other options."""
    together: Any = gym.make_vec("SanaWM-Drive-v0", ROWS, world=world, **SMALL)
    apart = WorkerVectorEnv("SanaWM-Drive-v0", ROWS, 2, {"world": world, **SMALL})
    assert apart.single_observation_space == together.single_observation_space
    assert apart.metadata == together.metadata
    rng, both = np.random.default_rng(0), (together, apart)

    def check(one: Any, other: Any, infos: Any, other_infos: Any) -> None:
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=2 if name == "camera" else 1e-6)
        equal(split_infos(infos, ROWS), split_infos(other_infos, ROWS))

    options = {"horizon": [0.25, 0.5, 0.75], "speed": [5.0, 6.0, 7.0]}
    begun = [envs.reset(seed=11, options=options) for envs in both]
    check(begun[0][0], begun[1][0], begun[0][1], begun[1][1])
    assert begun[1][0]["ego"][:, 0].tolist() == [5.0, 6.0, 7.0]
    for _ in range(4):
        actions = rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32)
        (one, *kept, infos), (other, *others, other_infos) = (envs.step(actions) for envs in both)
        check(one, other, infos, other_infos)
        for mine, theirs in zip(kept, others, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
    mask = np.array([True, False, False])
    again = [envs.reset(seed=5, options={"reset_mask": mask, "speed": 9.0}) for envs in both]
    check(again[0][0], again[1][0], again[0][1], again[1][1])
    assert again[1][0]["ego"][0, 0] == 9.0
    # What one worker refuses, all have answered.
    with pytest.raises(ValueError, match="horizon"):
        apart.reset(seed=0, options={"horizon": [1.0, 1.0, -1.0]})
    with pytest.raises(ValueError, match=r"shape \(2, 2\), expected 3 rows"):
        apart.step(np.zeros((2, 2)))
    assert apart.reset(seed=11)[1]["time"].tolist() == [0.0] * ROWS
    apart._workers[1]._process.kill()
    with pytest.raises(RuntimeError, match="ended by itself"):
        apart.step(np.zeros((ROWS, 2)))
    for envs in both:
        envs.close()
    assert not any(worker._process.is_alive() for worker in apart._workers)


def test_a_training_takes_them_and_episodes_come_out_alike() -> None:
    one, two = (
        TaskConfig(
            env="SanaWM-DriveReference-v0", num_envs=2, horizon=0.5, workers=workers,
            settings=("num_vehicles=0",),
        )
        for workers in (1, 2)
    )  # fmt: skip
    found = []
    for task in (one, two):
        envs = make_envs(task, 2, "rgb_array_list")
        assert isinstance(envs, WorkerVectorEnv) == (task is two)
        found.append(drive_episodes(envs, RandomPolicy(), seeds=[3, 4]))
        pictures: Any = envs.render()
        assert len(pictures) == 2
        adapter = SB3VecEnv(envs)
        adapter.seed(3)
        adapter.reset()
        adapter.step(np.zeros((2, 2), np.float32))
        _, _, done, infos = adapter.step(np.zeros((2, 2), np.float32))
        assert done.all() and infos[1]["TimeLimit.truncated"]
        adapter.close()
    assert found[0] == found[1]


def test_what_a_worker_refuses_is_said_here() -> None:
    with pytest.raises(ValueError, match=r"task\.workers: got 9 for 8 cars"):
        TaskConfig(workers=9)
    task = TaskConfig(env="SanaWM-DriveReference-v0", num_envs=2, workers=2, settings=("wheels=4",))
    with pytest.raises(ValueError, match="wheels"):
        make_envs(task, 2)
