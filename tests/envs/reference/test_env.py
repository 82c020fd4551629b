"""The reference world as a Gymnasium environment."""

import dataclasses
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.envs.actions import Chunk, Waypoints
from sanawm_gym.envs.reference.env import ReferenceDriveEnv
from sanawm_gym.envs.reference.scene import SceneConfig
from sanawm_gym.envs.reference.truth import TRUTH_NAMES
from sanawm_gym.envs.reference.world import StartState
from sanawm_gym.vehicle import VehicleConfig

ID = "SanaWM-DriveReference-v0"
STRAIGHT = SceneConfig(seed=1, straightness=1.0, num_vehicles=0, min_radius=300.0)
AHEAD = np.zeros(2, np.float32)


@pytest.fixture
def env() -> ReferenceDriveEnv:
    """A short environment on a straight empty road."""
    return ReferenceDriveEnv(scene=STRAIGHT, horizon=5.0, frames_in_info=True)


def test_gymnasium_and_sb3_find_nothing_wrong() -> None:
    env = gym.make(ID, horizon=3.0, scene=STRAIGHT).unwrapped
    check_env(env, skip_render_check=True)
    check_env_for_sb3(env)


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list"])
def test_it_renders_what_it_shows(mode: str) -> None:
    env = ReferenceDriveEnv(scene=STRAIGHT, render_mode=mode, horizon=5.0)
    env.reset(seed=0)
    observation = env.step(AHEAD)[0]
    rendered = env.render()
    if mode == "rgb_array_list":
        assert len(rendered) == 5
        rendered = rendered[-1]
    np.testing.assert_array_equal(rendered, observation["camera"])


def test_spaces_and_info_keys_are_those_of_the_generated_world(world: str) -> None:
    generated = gym.make("SanaWM-Drive-v0", world=world, dtype="float32").unwrapped
    height, width, _ = generated.observation_space["camera"].shape
    lens = Intrinsics.from_fov(70.0, width, height)
    # The tiny world has no heads; `auto` would mean another reward where the truth is known.
    env = ReferenceDriveEnv(scene=STRAIGHT, intrinsics=lens, horizon=5.0, reward="kinematic")
    assert env.observation_space == generated.observation_space
    assert env.action_space == generated.action_space
    pairs = [(env.reset(seed=0)[1], generated.reset(seed=0)[1])]
    pairs.append((env.step(AHEAD)[4], generated.step(AHEAD)[4]))
    for own, other in pairs:
        assert set(own) == {*other, "truth"}
        assert set(own["reward_terms"]) == set(other["reward_terms"])


def test_truth_has_all_its_fields(env: ReferenceDriveEnv) -> None:
    _, info = env.reset(seed=0)
    assert tuple(info["truth"]) == TRUTH_NAMES


def test_the_same_seed_and_actions_give_the_same_bytes() -> None:
    actions = np.random.default_rng(0).uniform(-0.3, 0.5, (6, 2)).astype(np.float32)
    runs: list[list[Any]] = []
    for _ in range(2):
        env = ReferenceDriveEnv(horizon=5.0)
        shown = [env.reset(seed=11)[0]["camera"]]
        for action in actions:
            observation, reward, _, _, info = env.step(action)
            shown += [observation["camera"], observation["ego"], reward, info["truth"]]
        runs.append(shown)
    for first, second in zip(*runs, strict=True):
        np.testing.assert_equal(first, second)


def test_seeds_give_different_worlds_and_none_goes_on_drawing() -> None:
    env = ReferenceDriveEnv(horizon=5.0)
    seeds = [env.reset(seed=1)[1]["world_seed"]]
    seeds += [env.reset()[1]["world_seed"] for _ in range(2)]
    assert len(set(seeds)) == 3
    assert env.reset(seed=1)[1]["world_seed"] == seeds[0]


def test_steering_left_turns_the_car_and_the_picture_left(env: ReferenceDriveEnv) -> None:
    _, before = env.reset(seed=0)
    for _ in range(3):
        observation, _, _, _, info = env.step(np.array([0.3, 0.0], np.float32))
    assert info["yaw"] > before["yaw"] and observation["ego"][3] > 0
    assert info["truth"]["heading_error"] > 0.05
    assert info["frames"].shape == (4, 72, 128, 3)
    np.testing.assert_array_equal(info["frame_poses"][-1], info["world_from_camera"])


def test_leaving_the_road_terminates(env: ReferenceDriveEnv) -> None:
    env.reset(seed=0, options={"start": StartState(speed=10.0), "horizon": 12.0})
    for _ in range(40):
        *_, terminated, truncated, info = env.step(np.array([-0.1, 0.0], np.float32))
        if terminated:
            break
    assert terminated and not truncated and not info["truth"]["on_road"]
    assert info["termination_reason"] == "off_road"
    with pytest.raises(ResetNeeded):
        env.step(AHEAD)


def test_a_crash_terminates() -> None:
    busy = SceneConfig(
        seed=4, num_forward=1, num_oncoming=0, num_vehicles=8, min_radius=300.0, straightness=1.0,
        speed_limit=7.0,
    )  # fmt: skip
    env = ReferenceDriveEnv(scene=busy, start=StartState(speed=20.0), horizon=30.0)
    env.reset(seed=0)
    for _ in range(120):
        steer = env.expert_action()[0]
        *_, terminated, _, info = env.step(np.array([steer, 0.5], np.float32))
        if terminated:
            break
    assert info["truth"]["crashed"] and terminated
    assert info["termination_reason"] == "collision" and info["reward_terms"]["ending"] == -1.0


def test_an_oncoming_lane_is_the_wrong_way_after_three_decisions() -> None:
    two_way = dataclasses.replace(STRAIGHT, num_forward=1, num_oncoming=1)
    env = ReferenceDriveEnv(scene=two_way, horizon=5.0)
    env.reset(seed=0, options={"start": StartState(speed=8.0, offset=3.3)})
    steps = [env.step(AHEAD) for _ in range(3)]
    assert [step[2] for step in steps] == [False, False, True]
    assert [step[4]["termination_reason"] for step in steps] == ["", "", "wrong_way"]
    assert steps[-1][1] == -1.0


def test_nothing_ends_a_drive_without_outcomes(env: ReferenceDriveEnv) -> None:
    env.reset(seed=0, options={"start": StartState(offset=-12.0), "outcomes": None})
    *_, terminated, _, info = env.step(AHEAD)
    assert not terminated and not info["truth"]["on_road"]


def test_rewards_are_computed_from_the_truth(env: ReferenceDriveEnv) -> None:
    # 8 m/s for 0.25 s along the lane, 1.75 m off its middle: 0.1 x 2 m x 0.5
    start = StartState(speed=8.0, offset=1.75)
    env.reset(seed=0, options={"start": start})
    _, reward, _, _, info = env.step(AHEAD)
    truth, terms = info["truth"], info["reward_terms"]
    along = 2.0 * np.cos(truth["heading_error"])
    assert terms["progress"] == pytest.approx(0.1 * along, rel=1e-6)
    assert terms["lane_offset"] == pytest.approx((3.0 - abs(truth["lane_offset"])) / 2.5)
    assert reward == pytest.approx(terms["progress"] * terms["lane_offset"])
    assert reward == pytest.approx(0.1, rel=0.02)


def test_a_chunk_drives_like_its_actions_one_by_one() -> None:
    controls = np.array([[0.1, 0.4], [-0.1, 0.2], [0.0, -0.5]], np.float32)
    one = ReferenceDriveEnv(scene=STRAIGHT, horizon=5.0, render_mode="rgb_array_list")
    chunked = ReferenceDriveEnv(
        scene=STRAIGHT,
        horizon=5.0,
        render_mode="rgb_array_list",
        action=Chunk(length=3),
        frames_in_info=True,
    )
    one.reset(seed=0)
    steps = [one.step(control) for control in controls]
    assert chunked.reset(seed=0)[0] in chunked.observation_space
    observation, reward, _, _, info = chunked.step(controls)
    np.testing.assert_array_equal(observation["camera"], steps[-1][0]["camera"])
    assert reward == pytest.approx(sum(step[1] for step in steps)) and info["time"] == 0.75
    np.testing.assert_array_equal(one.render(), chunked.render())
    assert info["frames"].shape == (12, 72, 128, 3)


def test_waypoints_pass_the_checker() -> None:
    env = ReferenceDriveEnv(scene=STRAIGHT, horizon=9.0, action=Waypoints(length=2))
    check_env(env, skip_render_check=True)


def test_a_meta_action_brakes_here_too() -> None:
    braking = ReferenceDriveEnv(scene=STRAIGHT, horizon=5.0, action="discrete")
    braking.reset(seed=0, options={"start": StartState(speed=10.0)})
    observation, *_ = braking.step(8)  # straight on at -4 m/s^2, with 0.2 s of lag
    assert 9.2 < observation["ego"][0] < 9.7 and observation["ego"][1] == 0.0


def test_time_runs_out_at_the_horizon(env: ReferenceDriveEnv) -> None:
    env.reset(seed=0)
    for step in range(20):
        *_, terminated, truncated, info = env.step(env.expert_action().astype(np.float32))
        assert not terminated
        assert truncated == (step == 19)
    assert info["truncation_reason"] == "horizon" and info["time"] == 5.0


def test_depth_comes_on_request() -> None:
    env = ReferenceDriveEnv(scene=STRAIGHT, depth_in_info=True, horizon=5.0)
    depth = env.reset(seed=0)[1]["depth"]
    assert depth.shape == (72, 128) and (depth > 0).all() and np.isfinite(depth[-1]).all()


def test_traffic_lens_and_mount_can_be_set() -> None:
    lens, rig = Intrinsics.from_fov(90.0, 128, 72), CameraRig(z=1.25)
    env = ReferenceDriveEnv(horizon=5.0, num_vehicles=0, intrinsics=lens, rig=rig)
    _, info = env.reset(seed=3)
    np.testing.assert_allclose(info["intrinsics"], lens.as_array())
    assert info["world_from_camera"][2, 3] == pytest.approx(1.25)
    assert len(env.world.traffic.states()) == 0


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"observation": "latent"}, "observation"),
        ({"render_mode": "ansi"}, "render_mode"),
        ({"horizon": float("nan")}, "horizon"),
        ({"num_vehicles": 40}, "num_vehicles"),
        ({"speed": 3}, "options"),
    ],
)
def test_impossible_settings_are_refused(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}: got"):
        ReferenceDriveEnv(**kwargs)


def test_what_fixes_the_spaces_cannot_change_at_a_reset(env: ReferenceDriveEnv) -> None:
    with pytest.raises(ValueError, match="fixed when the environment is made"):
        env.reset(options={"vehicle": VehicleConfig()})


@pytest.mark.parametrize("action", [[np.nan, 0.0], [0.0], [[0.0, 0.0]]])
def test_bad_actions_are_refused(env: ReferenceDriveEnv, action: list[Any]) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: got"):
        env.step(np.array(action))


def test_stepping_before_a_reset_is_refused() -> None:
    with pytest.raises(ResetNeeded):
        ReferenceDriveEnv().step(AHEAD)


@pytest.mark.parametrize("package", ["cv2", "highway_env"])
def test_a_missing_package_is_named_with_its_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; import gymnasium, sanawm_gym; "
        f"gymnasium.make({ID!r}, disable_env_checker=True).reset(seed=0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "pip install 'sanawm-gym[reference]'" in done.stderr


def test_gymnasium_can_step_two_of_them_side_by_side() -> None:
    envs = gym.make_vec(ID, 2, horizon=3.0, scene=STRAIGHT)
    observations, _ = envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(np.zeros((2, 2), np.float32))
    assert observations["camera"].shape == (2, 72, 128, 3) and rewards.shape == (2,)
    assert infos["truth"]["lane_offset"].shape == (2,)
    envs.close()
