"""The batched environment: contracts, rows against scalar runs, and the three autoreset modes."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

Make = Callable[..., Any]
TOLERANCE = 2
"""Of 255: batched matrix products may round another way than those of one row."""


def batch(rng: np.random.Generator, num_rows: int) -> NDArray[np.float32]:
    return rng.uniform(-1, 1, (num_rows, 2)).astype(np.float32)


def worst(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_make_vec_finds_the_native_environment_and_its_spaces_are_batched(make_vec: Make) -> None:
    envs = make_vec(3)
    assert type(envs.unwrapped).__name__ == "SanaWMDriveVectorEnv"
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.single_action_space.shape == (2,) and envs.action_space.shape == (3, 2)
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
    assert observations in envs.observation_space
    assert rewards.shape == (3,) and rewards.dtype == np.float64
    assert terminated.dtype == truncated.dtype == np.bool_
    assert infos["world_from_camera"].shape == (3, 4, 4) and infos["_time"].all()
    assert infos["reward_terms"]["progress"].shape == (3,)


@pytest.mark.parametrize("observation", ["dict", "latent"])
def test_rows_equal_scalar_runs_with_their_seeds(
    make: Make, make_vec: Make, observation: str
) -> None:
    actions = np.random.default_rng(1).uniform(-1, 1, (8, 4, 2)).astype(np.float32)
    envs = make_vec(4, observation=observation)
    starts, infos = envs.reset(seed=20)
    steps = [envs.step(action) for action in actions]
    for row in range(4):
        env = make(observation=observation)
        start, info = env.reset(seed=20 + row)
        assert all((start[key] == starts[key][row]).all() for key in ("ego",))
        assert info["world_seed"] == infos["world_seed"][row]
        for action, (observations, rewards, *_, infos_then) in zip(actions, steps, strict=True):
            single, reward, _, _, info = env.step(action[row])
            assert (single["ego"] == observations["ego"][row]).all()
            assert reward == rewards[row]
            assert (info["world_from_camera"] == infos_then["world_from_camera"][row]).all()
            if observation == "dict":
                assert worst(single["camera"], observations["camera"][row]) <= TOLERANCE
            else:
                np.testing.assert_allclose(single["latent"], observations["latent"][row], atol=1e-3)


def test_seeds_may_be_given_one_by_one(make_vec: Make) -> None:
    envs = make_vec(2)
    counted = envs.reset(seed=5)[1]["world_seed"]
    assert envs.reset(seed=[6, 5])[1]["world_seed"].tolist() == counted[::-1].tolist()


def test_two_copies_are_equal_byte_for_byte_through_autoresets(make_vec: Make) -> None:
    rng = np.random.default_rng(2)
    actions = [batch(rng, 2) for _ in range(7)]
    first, second = (make_vec(2, horizon=0.75) for _ in range(2))
    assert first.reset(seed=1)[0]["camera"].tobytes() == second.reset(seed=1)[0]["camera"].tobytes()
    for action in actions:
        a, b = first.step(action), second.step(action)
        assert a[0]["camera"].tobytes() == b[0]["camera"].tobytes()
        assert a[1].tobytes() == b[1].tobytes()


def staggered(make_vec: Make, mode: str) -> Any:
    """Two rows of which row 0 ends after two decisions and row 1 after five, then after two."""
    envs = make_vec(2, horizon=0.5, autoreset_mode=mode, frames_in_info=True)
    envs.reset(seed=3, options={"horizon": [0.5, 1.25]})
    return envs


def test_next_step_resets_a_finished_row_on_the_following_step(make_vec: Make, make: Make) -> None:
    envs, zero = staggered(make_vec, "NextStep"), np.zeros((2, 2), np.float32)
    twin = make(horizon=0.5)
    twin.reset(seed=3)
    results = [envs.step(zero) for _ in range(7)]
    truncated = [result[3].tolist() for result in results]
    #              row 0: ends     reset            ends     reset   row 1: ends at 5, reset at 6
    assert [row[0] for row in truncated] == [False, True, False, False, True, False, False]
    assert [row[1] for row in truncated] == [False, False, False, False, True, False, False]
    observations, rewards, _, _, infos = results[2]
    assert rewards[0] == 0.0 and rewards[1] > 0.0
    assert infos["time"].tolist() == [0.0, 0.75]
    assert infos["_start"].tolist() == [True, False] and infos["_frames"].tolist() == [False, True]
    expected, info = twin.reset()  # goes on drawing from the row's seed
    assert worst(observations["camera"][0], expected["camera"]) == 0
    assert infos["world_seed"][0] == info["world_seed"]
    expected = twin.step(zero[0])[0]  # beside a row that is older by three decisions
    assert worst(results[3][0]["camera"][0], expected["camera"]) <= TOLERANCE


def test_same_step_resets_at_once_and_keeps_the_last_observation(
    make_vec: Make, make: Make
) -> None:
    envs, zero = staggered(make_vec, "SameStep"), np.zeros((2, 2), np.float32)
    twin = make(horizon=0.5)
    twin.reset(seed=3)
    twin.step(zero[0])
    last, reward, _, _, last_info = twin.step(zero[0])
    envs.step(zero)
    observations, rewards, terminated, truncated, infos = envs.step(zero)
    assert truncated.tolist() == [True, False] and not terminated.any()
    assert rewards[0] == reward
    assert worst(infos["final_obs"][0]["camera"], last["camera"]) <= TOLERANCE
    assert infos["final_obs"][1] is None and infos["_final_obs"].tolist() == [True, False]
    assert infos["final_info"]["truncation_reason"][0] == "horizon"
    assert infos["final_info"]["time"][0] == last_info["time"] == 0.5
    assert infos["time"].tolist() == [0.0, 0.5]
    expected, _ = twin.reset()
    assert worst(observations["camera"][0], expected["camera"]) == 0
    assert envs.step(zero)[4]["time"].tolist() == [0.25, 0.75]
    assert envs.step(zero)[3].tolist() == [True, False]


def test_disabled_leaves_finished_rows_to_the_reset_mask(make_vec: Make) -> None:
    envs, zero = staggered(make_vec, "Disabled"), np.zeros((2, 2), np.float32)
    envs.step(zero)
    before = envs.step(zero)
    assert before[3].tolist() == [True, False]
    with pytest.raises(ResetNeeded, match=r"finished episodes in rows \[0\]"):
        envs.step(zero)
    observations, infos = envs.reset(
        seed=[8, None], options={"reset_mask": np.array([True, False])}
    )
    assert infos["_time"].tolist() == [True, False]
    assert (observations["camera"][1] == before[0]["camera"][1]).all()
    after = envs.step(zero)
    assert after[4]["time"].tolist() == [0.25, 0.75] and not after[3].any()


@pytest.mark.parametrize(
    "mask",
    [[True, False], np.array([1, 0]), np.array([True]), np.array([False, False]), "all"],
    ids=str,
)
def test_reset_masks_that_are_none_are_refused(make_vec: Make, mask: Any) -> None:
    envs = make_vec(2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset_mask: got .*, expected a boolean array"):
        envs.reset(options={"reset_mask": mask})


def test_the_first_reset_must_be_of_all_rows(make_vec: Make) -> None:
    envs = make_vec(2, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded, match="expected a reset first"):
        envs.reset(options={"reset_mask": np.array([True, False])})


def test_a_mask_does_not_disturb_the_other_rows(make_vec: Make) -> None:
    rng = np.random.default_rng(4)
    actions = [batch(rng, 3) for _ in range(5)]
    envs, twin = (make_vec(3, autoreset_mode="Disabled") for _ in range(2))
    for one in (envs, twin):
        one.reset(seed=0)
        one.step(actions[0])
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    for action in actions[1:]:
        ours, theirs = envs.step(action)[0], twin.step(action)[0]
        for row in (0, 2):
            assert worst(ours["camera"][row], theirs["camera"][row]) <= TOLERANCE
            assert (ours["ego"][row] == theirs["ego"][row]).all()


def test_rows_with_different_cars_and_starts_equal_scalar_runs(make: Make, make_vec: Make) -> None:
    from sanawm_gym.vehicle import VehicleConfig

    cars = [VehicleConfig(), VehicleConfig(wheelbase=4.0, steer_tau=0.2), VehicleConfig()]
    starts = ["road-2", "road-0", np.full((40, 64, 3), 90, np.uint8)]  # clips of 9, 5, 1 frames
    envs = make_vec(3)
    envs.reset(seed=1, options={"vehicle": cars, "start": starts})
    action = np.array([0.6, 0.4], np.float32)
    for _ in range(3):
        observations = envs.step(np.stack([action] * 3))[0]
    for row in range(3):
        env = make(start=starts[row])
        env.reset(seed=1 + row, options={"vehicle": cars[row]})
        for _ in range(3):
            single = env.step(action)[0]
        assert (single["ego"] == observations["ego"][row]).all()
        assert worst(single["camera"], observations["camera"][row]) <= TOLERANCE


def test_max_episode_steps_shortens_the_horizon(world: str) -> None:
    envs = gym.make_vec("SanaWM-Drive-v0", 2, world=world, max_episode_steps=2)
    envs.reset(seed=0)
    zero = np.zeros((2, 2), np.float32)
    assert [envs.step(zero)[3].all() for _ in range(2)] == [False, True]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_wrappers_of_gymnasium_work_on_top(make_vec: Make, mode: AutoresetMode) -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(
        make_vec(2, horizon=0.5, autoreset_mode=mode)
    )
    envs.reset(seed=0)
    zero = np.zeros((2, 2), np.float32)
    envs.step(zero)
    *_, infos = envs.step(zero)
    final = (
        infos["final_info"] if mode is AutoresetMode.SAME_STEP and "final_info" in infos else infos
    )
    assert (final.get("episode", infos.get("episode"))["l"] == 2).all()


def test_infos_and_observations_are_not_shared_between_calls(make_vec: Make) -> None:
    envs = make_vec(2)
    first, _ = envs.reset(seed=0)
    kept = first["camera"].copy()
    first["camera"][:] = 0
    second = envs.step(np.zeros((2, 2), np.float32))[0]
    second["ego"][:] = 7
    again, _ = envs.reset(seed=0)
    assert (again["camera"] == kept).all()
