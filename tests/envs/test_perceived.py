"""What a world with heads says of its pictures in the info, row by row and after a restore."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.worldmodel.heads import QUANTITIES


def make(world: str, **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make("SanaWM-Drive-v0", world=world, dtype="float32", **kwargs)


def flat(perceived: dict[str, dict[str, float]]) -> np.ndarray:
    assert list(perceived) == list(QUANTITIES)
    return np.array([[reading["mean"], reading["deviation"]] for reading in perceived.values()])


def test_gymnasiums_checker_is_content_with_a_world_that_sees(seeing: str) -> None:
    check_env(make(seeing, horizon=2.0).unwrapped, skip_render_check=True)


def test_readings_follow_the_picture_from_the_reset_on(seeing: str, world: str) -> None:
    env = make(seeing)
    _, info = env.reset(seed=0)
    first = flat(info["perceived"])
    *_, info = env.step(np.array([0.5, 1.0], dtype=np.float32))
    assert np.isfinite(first).all() and (first[:, 1] > 0).all()
    assert not np.allclose(first, flat(info["perceived"]))
    assert "perceived" not in make(world).reset(seed=0)[1]


def test_rows_of_a_batch_read_as_they_would_alone(seeing: str) -> None:
    envs = gym.make_vec("SanaWM-Drive-v0", 2, world=seeing, dtype="float32")
    envs.reset(seed=[3, 4])
    *_, infos = envs.step(np.zeros((2, 2), dtype=np.float32))
    env = make(seeing)
    env.reset(seed=4)
    *_, info = env.step(np.zeros(2, dtype=np.float32))
    for name, reading in info["perceived"].items():
        for kind, value in reading.items():
            assert infos["perceived"][name][kind][1] == pytest.approx(value, abs=1e-3)


def test_a_restored_drive_reads_the_same(seeing: str) -> None:
    env = make(seeing)
    env.reset(seed=0)
    *_, info = env.step(np.zeros(2, dtype=np.float32))
    snapshot = env.unwrapped.snapshot()  # type: ignore[attr-defined]
    env.step(np.ones(2, dtype=np.float32))
    _, again = env.unwrapped.restore(snapshot)  # type: ignore[attr-defined]
    assert np.array_equal(flat(again["perceived"]), flat(info["perceived"]))
