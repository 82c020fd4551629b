"""The scalar environment: contracts, determinism, horizon, observations and infos."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from sanawm_gym.camera import CameraRig
from sanawm_gym.geometry import is_rigid
from sanawm_gym.vehicle import KinematicBicycle, X, Y, vehicle_state

Make = Callable[..., Any]
Actions = NDArray[np.float32]


def drive(env: gym.Env[Any, Any], actions: Actions, seed: int = 0) -> list[Any]:
    results: list[Any] = [env.reset(seed=seed)]
    results += [env.step(action) for action in actions]
    return results


@pytest.mark.parametrize("observation", ["dict", "camera", "latent"])
def test_gymnasiums_checker_is_content(make: Make, observation: str) -> None:
    env = make(observation=observation, horizon=5.0)
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("observation", ["dict", "camera"])
def test_the_checker_of_stable_baselines_is_content(make: Make, observation: str) -> None:
    from stable_baselines3.common.env_checker import check_env as check_sb3_env

    check_sb3_env(make(observation=observation).unwrapped)


def test_two_copies_with_one_seed_and_actions_are_equal_byte_for_byte(
    make: Make, actions: Actions
) -> None:
    for (*first, info_1), (*second, info_2) in zip(
        drive(make(), actions[:12], seed=3), drive(make(), actions[:12], seed=3), strict=True
    ):
        assert first[0]["camera"].tobytes() == second[0]["camera"].tobytes()
        assert first[0]["ego"].tobytes() == second[0]["ego"].tobytes()
        assert first[1:] == second[1:]
        assert info_1.keys() == info_2.keys() and info_1["reward_terms"] == info_2["reward_terms"]


def test_another_seed_is_another_world_from_the_same_start(make: Make, actions: Actions) -> None:
    env = make(start="road-0")
    first, second = (drive(env, actions[:2], seed=seed)[-1][0]["camera"] for seed in (1, 2))
    assert (first != second).any()


def test_naming_the_start_by_hand_keeps_the_seeds_world(make: Make, actions: Actions) -> None:
    drawn = drive(make(), actions[:3], seed=4)
    named = drive(make(start=drawn[0][1]["start"]), actions[:3], seed=4)
    assert (drawn[-1][0]["camera"] == named[-1][0]["camera"]).all()


def test_without_a_seed_the_next_episode_is_drawn_from_where_the_last_one_left_off(
    make: Make,
) -> None:
    def worlds(env: Any) -> list[int]:
        first = env.reset(seed=9)[1]["world_seed"]
        return [first, *(env.reset()[1]["world_seed"] for _ in range(3))]

    once, again = worlds(make()), worlds(make())
    assert once == again and len(set(once)) == 4


def test_steering_and_prompt_reach_the_picture(make: Make) -> None:
    env = make(start="road-0")
    last = []
    for prompt, steer in (("a dry road", -1.0), ("a dry road", 1.0), ("a wet road", 1.0)):
        env.reset(seed=0, options={"prompt": prompt})
        last.append(env.step(np.array([steer, 0.0], np.float32))[0]["camera"])
    assert (last[0] != last[1]).any() and (last[1] != last[2]).any()


def test_the_car_moves_by_its_equations(make: Make, actions: Actions) -> None:
    env = make(start="road-0")
    results = drive(env, actions[:10])
    bicycle, state = KinematicBicycle(), vehicle_state(speed=6.0, steer=0.02)[None]
    for action, (observation, _, _, _, info) in zip(actions, results[1:], strict=False):
        state = bicycle.advance(state, action[None], 4)[:, -1]
        assert info["position"].tolist() == state[0, [X, Y]].tolist()
        assert observation["ego"][0] == np.float32(state[0, 3])
        assert observation in env.observation_space
    assert info["time"] == 2.5
    assert info["distance"] == pytest.approx(
        sum(r[4]["reward_terms"]["progress"] * 10 for r in results[1:])
    )


def test_frames_and_their_poses_are_given_on_request(make: Make, actions: Actions) -> None:
    env = make(start="road-0", frames_in_info=True, rig=CameraRig(x=1.0, z=1.2))
    (_, reset_info), *steps = drive(env, actions[:3])
    assert "frames" not in reset_info
    for observation, _, _, _, info in steps:
        assert info["frames"].shape == (4, 40, 64, 3) and is_rigid(info["frame_poses"]).all()
        assert (info["frames"][-1] == observation["camera"]).all()
        assert (info["frame_poses"][-1] == info["world_from_camera"]).all()
    np.testing.assert_allclose(steps[0][4]["frame_poses"][:, 2, 3], 1.2)


@pytest.mark.parametrize(("horizon", "decisions"), [(0.25, 1), (1.0, 4), (1.1, 5)])
def test_the_episode_is_truncated_at_the_horizon(
    make: Make, horizon: float, decisions: int
) -> None:
    env = make(horizon=horizon)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32)) for _ in range(decisions)]
    assert [end[3] for end in ends] == [False] * (decisions - 1) + [True]
    assert not any(end[2] for end in ends)
    assert [end[4]["truncation_reason"] for end in ends] == [""] * (decisions - 1) + ["horizon"]
    with pytest.raises(ResetNeeded, match="expected them to be reset first"):
        env.step(np.zeros(2, np.float32))
    env.reset()
    env.step(np.zeros(2, np.float32))


def test_stepping_before_the_first_reset_is_refused(make: Make) -> None:
    env = make().unwrapped
    for call in (lambda: env.step(np.zeros(2, np.float32)), env.snapshot, env.render):
        with pytest.raises(ResetNeeded, match="expected a reset first"):
            call()


def test_a_world_that_turns_to_nan_truncates_the_episode(make: Make) -> None:
    env = make(observation="latent").unwrapped
    env.reset(seed=0)
    snapshot = env.snapshot()
    snapshot.state.world.picture.fill_(float("nan"))
    env.restore(snapshot)
    observation, _, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert truncated and not terminated and info["truncation_reason"] == "world_failure"
    assert observation in env.observation_space


def test_a_bare_picture_drives(make: Make, picture: Any, actions: Actions) -> None:
    results = drive(make(start=picture), actions[:4])
    assert results[0][1]["start"] == str(picture) and results[-1][0]["camera"].std() > 0


def test_environments_of_a_process_share_the_weights(make: Make) -> None:
    first, second = (make().unwrapped._vector._rows.core.world for _ in range(2))
    assert first is second


def test_stable_baselines_learns_on_it(make: Make) -> None:
    from stable_baselines3 import PPO

    model = PPO("MultiInputPolicy", make(horizon=1.0), n_steps=8, batch_size=8, n_epochs=1)
    model.learn(16)
    assert model.num_timesteps == 16
