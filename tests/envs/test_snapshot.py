"""Snapshots, forks and pickles: what follows a restored moment equals what followed it before."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Make = Callable[..., Any]
Actions = NDArray[np.float32]


def pictures(env: Any, actions: Actions) -> list[bytes]:
    return [env.step(action)[0]["camera"].tobytes() for action in actions]


def test_going_on_from_a_restored_snapshot_is_byte_identical(make: Make, actions: Actions) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    pictures(env, actions[:5])
    snapshot = env.snapshot()
    expected = pictures(env, actions[5:10])
    env.reset(seed=77)
    pictures(env, actions[:3])
    observation, info = env.restore(snapshot)
    assert info["time"] == 1.25 and observation in env.observation_space
    assert pictures(env, actions[5:10]) == expected


def test_a_snapshot_can_be_restored_any_number_of_times_in_any_equal_environment(
    make: Make, actions: Actions
) -> None:
    env, other = make().unwrapped, make().unwrapped
    env.reset(seed=0)
    snapshot = env.snapshot()
    expected = pictures(env, actions[:4])
    for _ in range(2):
        other.restore(snapshot)  # no reset needed before
        assert pictures(other, actions[:4]) == expected


def test_a_snapshot_survives_pickling(make: Make, actions: Actions, tmp_path: Path) -> None:
    env = make().unwrapped
    env.reset(seed=1)
    pictures(env, actions[:2])
    path = tmp_path / "moment.pkl"
    path.write_bytes(pickle.dumps(env.snapshot()))
    expected = pictures(env, actions[2:5])
    env.restore(pickle.loads(path.read_bytes()))
    assert pictures(env, actions[2:5]) == expected


def test_later_episodes_are_restored_too(make: Make, actions: Actions) -> None:
    env = make(horizon=0.5).unwrapped
    env.reset(seed=2)
    snapshot = env.snapshot()

    def two_episodes() -> list[bytes]:
        seen = pictures(env, actions[:2])
        return [*seen, env.reset()[0]["camera"].tobytes(), *pictures(env, actions[2:4])]

    expected = two_episodes()
    env.restore(snapshot)
    assert two_episodes() == expected


def test_a_finished_episode_is_still_finished_after_restoring(make: Make) -> None:
    from gymnasium.error import ResetNeeded

    env = make(horizon=0.25).unwrapped
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    snapshot = env.snapshot()
    env.reset()
    env.restore(snapshot)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))


def test_a_fork_goes_on_like_the_original_and_the_original_is_untouched(
    make_vec: Make, actions: Actions
) -> None:
    envs = make_vec(2).unwrapped
    envs.reset(seed=0)
    envs.step(actions[:2])
    before = envs.snapshot()
    forked = envs.fork(3, row=1)
    assert forked.num_envs == 3
    scripts = np.stack([actions[10:14], actions[20:24], actions[10:14]], axis=1)
    seen = [forked.step(script) for script in scripts]
    assert envs.snapshot().state is before.state
    assert all((s[0]["camera"][0] == s[0]["camera"][2]).all() for s in seen)
    assert any((s[0]["camera"][0] != s[0]["camera"][1]).any() for s in seen)
    for script, step in zip(scripts, seen, strict=True):
        ours = envs.step(np.stack([script[1], script[0]]))
        assert (ours[0]["ego"][1] == step[0]["ego"][0]).all()
        difference = ours[0]["camera"][1].astype(int) - step[0]["camera"][0]
        assert np.abs(difference).max() <= 2


def test_a_scalar_environment_forks_into_rows(make: Make, actions: Actions) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    env.step(actions[0])
    forked = env.fork(2)
    observation = env.step(actions[1])[0]
    observations = forked.step(np.stack([actions[1], actions[2]]))[0]
    assert (observations["ego"][0] == observation["ego"]).all()
    assert np.abs(observations["camera"][0].astype(int) - observation["camera"]).max() <= 2


def test_a_row_can_be_put_back_into_a_scalar_environment(
    make: Make, make_vec: Make, actions: Actions
) -> None:
    envs = make_vec(3).unwrapped
    envs.reset(seed=0)
    envs.step(actions[:3])
    env = make().unwrapped
    observation, _ = env.restore(envs.snapshot().select([2]))
    assert (observation["camera"] == envs.step(actions[:3])[0]["camera"][2]).any()
    assert observation in env.observation_space


@pytest.mark.parametrize("rows", [[0, 1], [0, 1, 2, 2]])
def test_a_snapshot_of_other_rows_is_refused(make_vec: Make, rows: list[int]) -> None:
    envs = make_vec(3).unwrapped
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"snapshot: got pictures .*; fit the rows with"):
        envs.restore(envs.snapshot().select(rows))


@pytest.mark.parametrize("rows", [[], [3], [-1]])
def test_rows_that_are_not_there_cannot_be_selected(make_vec: Make, rows: list[int]) -> None:
    envs = make_vec(3).unwrapped
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"snapshot: got rows .*, expected at least one of 0 to 2"):
        envs.snapshot().select(rows)


def test_forking_needs_a_row_that_is_there(make_vec: Make) -> None:
    envs = make_vec(2).unwrapped
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="got rows"):
        envs.fork(2, row=5)
    with pytest.raises(ValueError, match="num_envs: got 0"):
        envs.fork(0)
