"""The free camera: the contracts of the driving environment, and exact motion in every axis."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from scipy.spatial.transform import Rotation

from sanawm_gym.camera import CameraRig
from sanawm_gym.geometry import is_rigid, relative_poses
from sanawm_gym.paths.camera_path import CameraPath, from_steps
from sanawm_gym.paths.key_words import key_path
from sanawm_gym.paths.keys import find_mapping

Make = Callable[..., Any]
ENV_ID = "SanaWM-Explore-v0"


@pytest.fixture
def explore(world: str) -> Make:
    """Makes scalar environments in the tiny world."""
    return lambda **kwargs: gym.make(ENV_ID, **{"world": world, "dtype": "float32"} | kwargs)


@pytest.fixture
def explore_vec(world: str) -> Make:
    """Makes vector environments in the tiny world."""
    settings = {"world": world, "dtype": "float32"}
    return lambda num_envs, **kwargs: gym.make_vec(ENV_ID, num_envs, **settings | kwargs)


@pytest.fixture
def wander() -> np.ndarray:
    """Actions in every axis, none at its limit."""
    return np.random.default_rng(6).uniform(-0.9, 0.9, (12, 6)).astype(np.float32)


def same(first: Any, second: Any) -> bool:
    """Whether observations or infos are equal bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return np.array_equal(first, second)


@pytest.mark.parametrize(
    ("observation", "action"),
    [("dict", "continuous"), ("camera", "key"), ("latent", "keys")],
)
def test_the_checkers_of_gymnasium_and_stable_baselines_are_content(
    explore: Make, observation: str, action: str
) -> None:
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = explore(observation=observation, action=action)
    with warnings.catch_warnings():
        # Gymnasium asks for fields of a spec that only a registered default would have.
        warnings.filterwarnings("ignore", message=".*render modes.*|.*same world.*")
        check_env(env.unwrapped, skip_render_check=True)
        if observation != "latent":  # latents are pictures to nobody
            sb3_check_env(env, skip_render_check=True)


def test_a_continuous_action_moves_the_camera_in_its_own_axes(explore: Make) -> None:
    env = explore(max_speed=4.0, max_turn_deg=40.0, rig=CameraRig(z=2.0, pitch_deg=10.0))
    unit, expected = np.eye(6, dtype=np.float32), np.zeros((6, 6))
    # Way to the right, down and forward, and the turn about them, of a quarter of a second.
    for axis, (place, sign) in enumerate([(2, 1), (0, -1), (1, -1), (4, -1), (3, 1), (5, 1)]):
        expected[axis, place] = sign * (1.0 if axis < 3 else np.radians(10.0))
    for axis in range(6):
        _, info = env.reset(seed=1)
        before = info["world_from_camera"]
        observation, reward, terminated, _, info = env.step(unit[axis])
        moved = np.linalg.inv(before) @ info["world_from_camera"]
        turn = Rotation.from_matrix(moved[:3, :3]).as_rotvec()
        np.testing.assert_allclose(np.append(moved[:3, 3], turn), expected[axis], atol=1e-12)
        limits = np.repeat([4.0, np.radians(40.0)], 3)
        np.testing.assert_allclose(observation["motion"], limits * unit[axis], atol=1e-6)
        assert (reward, terminated) == (0.0, False)
        assert info["distance"] == pytest.approx(1.0 if axis < 3 else 0.0)


def test_the_poses_of_a_walk_are_a_path_that_makes_it_again(
    explore: Make, wander: np.ndarray
) -> None:
    env = explore(frames_in_info=True, max_speed=2.0, rig=CameraRig(z=9.0))
    _, info = env.reset(seed=2)
    poses, frames = [info["world_from_camera"][None]], []
    for action in wander[:6]:
        *_, info = env.step(action)
        poses.append(info["frame_poses"])
        frames.append(info["frames"])
    path = CameraPath(np.concatenate(poses))
    assert path.num_frames == 1 + len(np.concatenate(frames)) == 25
    assert is_rigid(path.poses, 1e-9).all()
    ways, turns = path.steps()
    np.testing.assert_allclose(from_steps(ways, turns).poses, relative_poses(path.poses), atol=1e-9)
    shares = np.column_stack([ways[:, 2], -ways[:, 0], -ways[:, 1]]) * 16 / 2.0
    np.testing.assert_allclose(shares, np.repeat(wander[:6, :3], 4, axis=0), atol=1e-6)


@pytest.mark.parametrize("mapping", ["release-1", "release-2", "sglang"])
def test_keys_lead_where_the_written_keys_lead(explore: Make, mapping: str) -> None:
    env = explore(
        action="keys", mapping=mapping, max_speed=3.0, max_turn_deg=30.0, frames_in_info=True,
        rig=CameraRig(pitch_deg=8.0),
    )  # fmt: skip
    _, info = env.reset(seed=3)
    poses = [info["world_from_camera"][None]]
    # w; w with d; nothing; i with j
    for action in ([1, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]):
        *_, info = env.step(np.array(action))
        poses.append(info["frame_poses"])
    expected = key_path(
        "w4 wd4 none4 ij4", find_mapping(mapping).at_speed(3.0, 30.0), pitch=-np.radians(8.0)
    ).beginning_at(poses[0][0])
    np.testing.assert_allclose(np.concatenate(poses), expected.poses, atol=1e-9)
    assert np.ptp(expected.poses[:, 2, 3]) < 1e-12  # level, although the camera looks down


def test_one_key_is_the_same_as_that_key_held(explore: Make) -> None:
    one, many = explore(action="key"), explore(action="keys")
    pairs = {1: [1, 0, 0, 0], 4: [0, 2, 0, 0], 5: [0, 0, 1, 0], 8: [0, 0, 0, 2], 0: [0, 0, 0, 0]}
    for env in (one, many):
        env.reset(seed=4)
    for number, held in pairs.items():  # w, d, i, l and none
        first, second = one.step(number), many.step(np.array(held))
        assert same(first[0], second[0]) and same(first[4], second[4])


def test_the_ground_holds_the_camera(explore: Make) -> None:
    env = explore(lowest=0.5, rig=CameraRig(z=1.5), max_speed=8.0)
    env.reset(seed=5)
    heights = [
        env.step(np.float32([0.5, 0, -1, 0, 0, 0]))[4]["world_from_camera"][2, 3] for _ in range(3)
    ]
    assert heights == pytest.approx([0.5, 0.5, 0.5])
    assert env.step(np.float32([0, 0, 0.5, 0, 0, 0]))[4]["world_from_camera"][2, 3] > 1.4


def test_two_copies_are_equal_and_actions_and_seeds_reach_the_picture(
    explore: Make, wander: np.ndarray
) -> None:
    def look(seed: int, actions: np.ndarray) -> list[Any]:
        env = explore(start="road-1")
        return [env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)]

    wander = wander[:5]
    first, again = look(1, wander), look(1, wander)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    for other in (look(2, wander), look(1, -wander)):
        assert same(first[0], other[0]) and not np.array_equal(
            first[-1]["camera"], other[-1]["camera"]
        )


def test_an_episode_ends_at_its_horizon_and_asks_for_a_reset(explore: Make) -> None:
    env = explore(horizon=0.7)
    with pytest.raises(ResetNeeded):
        env.unwrapped.step(np.zeros(6))
    env.reset(seed=0)
    ends = [env.step(np.zeros(6))[3] for _ in range(3)]
    assert ends == [False, False, True]
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(6))
    _, info = env.reset(options={"horizon": 0.25, "start": "road-2"})
    assert info["start"] == "road-2"
    *_, truncated, info = env.step(np.zeros(6))
    assert truncated and info["truncation_reason"] == "horizon"


def test_rows_equal_scalar_runs_with_their_seeds(
    explore: Make, explore_vec: Make, wander: np.ndarray
) -> None:
    envs = explore_vec(3)
    batch, _ = envs.reset(seed=10)
    alone = [explore() for _ in range(3)]
    singles = [env.reset(seed=10 + row)[0] for row, env in enumerate(alone)]
    for actions in wander.reshape(4, 3, 6)[:2]:
        for row, single in enumerate(singles):
            off = np.abs(batch["camera"][row].astype(int) - single["camera"]).max()
            assert off <= 2 and np.array_equal(batch["motion"][row], single["motion"])
        batch, rewards, terminated, _, infos = envs.step(actions)
        steps = [env.step(action) for env, action in zip(alone, actions, strict=True)]
        singles = [step[0] for step in steps]
        assert not rewards.any() and not terminated.any()
        for row, step in enumerate(steps):
            poses = infos["world_from_camera"][row], step[4]["world_from_camera"]
            np.testing.assert_array_equal(*poses)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_keeps_its_promise(explore_vec: Make, mode: AutoresetMode) -> None:
    envs = explore_vec(2, autoreset_mode=mode)
    envs.reset(seed=0, options={"horizon": [0.25, 1.0]})
    still = np.zeros((2, 6), np.float32)
    observation, _, _, truncated, infos = envs.step(still)
    assert truncated.tolist() == [True, False]
    if mode is AutoresetMode.SAME_STEP:
        assert infos["final_info"]["truncation_reason"][0] == "horizon"
        assert infos["time"].tolist() == [0.0, 0.25]
        assert not np.array_equal(infos["final_obs"][0]["camera"], observation["camera"][0])
        return
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ResetNeeded, match="rows \\[0\\]"):
            envs.step(still)
        _, infos = envs.reset(options={"reset_mask": np.array([True, False])})
        assert infos["time"].tolist() == [0.0, 0.0] and infos["_time"].tolist() == [True, False]
        *_, infos = envs.step(still)
        assert infos["time"].tolist() == [0.25, 0.5]
        return
    *_, truncated, infos = envs.step(still)
    assert infos["time"].tolist() == [0.0, 0.5] and not truncated.any()


def test_going_on_from_a_snapshot_is_byte_identical_also_through_later_episodes(
    explore: Make, wander: np.ndarray, tmp_path: Path
) -> None:
    def go_on(env: Any) -> list[Any]:
        seen = [env.step(action) for action in wander[4:8]]
        seen.append(env.reset())
        return [*seen, env.step(wander[8])]

    env = explore(action="continuous").unwrapped
    env.reset(seed=7)
    for action in wander[:4]:
        env.step(action)
    (tmp_path / "kept").write_bytes(pickle.dumps(env.snapshot()))
    first = go_on(env)
    other = explore(action="continuous").unwrapped
    other.restore(pickle.loads((tmp_path / "kept").read_bytes()))
    for one, two in zip(first, go_on(other), strict=True):
        assert same(one[0], two[0]) and same(one[-1], two[-1])


def test_keys_that_were_down_are_part_of_a_snapshot(explore: Make) -> None:
    env = explore(action="key", mapping="release-2").unwrapped
    env.reset(seed=8)
    env.step(1)
    kept = env.snapshot()
    coasted = env.step(0)[4]["world_from_camera"]
    assert env.step(0)[4]["distance"] > 0.5
    env.restore(kept)
    np.testing.assert_array_equal(env.step(0)[4]["world_from_camera"], coasted)


def test_a_fork_goes_on_like_the_original(explore: Make, wander: np.ndarray) -> None:
    env = explore().unwrapped
    env.reset(seed=9)
    env.step(wander[0])
    forked = env.fork(2)
    batch, *_ = forked.step(np.stack([wander[1], -wander[1]]))
    single, *_ = env.step(wander[1])
    assert np.abs(batch["camera"][0].astype(int) - single["camera"]).max() <= 2
    assert not np.array_equal(batch["camera"][0], batch["camera"][1])
    with pytest.raises(ValueError, match="expected what snapshot"):
        env.restore(forked.snapshot())


def test_every_raw_frame_can_be_rendered(explore: Make, wander: np.ndarray) -> None:
    env = explore(render_mode="rgb_array_list")
    assert env.metadata["render_fps"] == 16
    observation, _ = env.reset(seed=1)
    assert np.array_equal(env.render()[0], observation["camera"])
    last = [env.step(action)[0] for action in wander[:2]][-1]
    frames = env.render()
    assert len(frames) == 8 and np.array_equal(frames[-1], last["camera"])
    env = explore(render_mode="rgb_array")
    assert env.metadata["render_fps"] == 4
    observation, _ = env.reset(seed=1)
    assert np.array_equal(env.render(), observation["camera"])


@pytest.mark.parametrize(
    ("kind", "action", "named"),
    [
        ("continuous", np.zeros(5), r"shape \(5,\), expected \(6,\)"),
        ("continuous", np.full(6, np.nan), "finite"),
        ("keys", [0, 0, 3, 0], "from 0 to 2"),
        ("key", 9, "from 0 to 8"),
        ("key", 1.5, "whole numbers"),
    ],
)
def test_actions_outside_their_space_are_refused(
    explore: Make, kind: str, action: Any, named: str
) -> None:
    env = explore(action=kind).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=named):
        env.step(action)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"action": "steer"}, "expected one of .*'continuous', 'keys', 'key'"),
        ({"mapping": "wasd"}, "release-2"),
        ({"max_speed": 0.0}, "max_speed: got 0.0"),
        ({"lowest": 0.01}, "of at least 0.1"),
        ({"horizon": float("nan")}, "horizon: got nan"),
        ({"vehicle": None}, r"options: got \['vehicle'\]"),
    ],
)
def test_impossible_settings_are_named(explore: Make, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        explore(**settings)


def test_what_belongs_to_the_environment_is_not_changed_by_a_reset(explore: Make) -> None:
    env = explore().unwrapped
    before, _ = env.reset(seed=1)
    with pytest.raises(ValueError, match=r"got \['action', 'max_speed'\].*make another one"):
        env.reset(options={"max_speed": 2.0, "action": "key"})
    assert same(env.restore(env.snapshot())[0], before)
