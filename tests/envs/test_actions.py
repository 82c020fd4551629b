"""Kinds of actions: spaces, controls, chunks that equal their parts, contracts of the checkers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from sanawm_gym.envs.actions import (
    ACTION_KINDS,
    Chunk,
    Discrete,
    Waypoints,
    action_kind,
)
from sanawm_gym.envs.commands import Held
from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.vehicle import VehicleConfig, vehicle_state

Make = Callable[..., Any]
CARS = [VehicleConfig()]
KINDS: list[Any] = ["discrete", Chunk(length=2), Waypoints(length=3, driven=2)]


@pytest.mark.parametrize("action", KINDS)
def test_gymnasiums_checker_is_content(make: Make, action: Any) -> None:
    env = make(action=action, horizon=9.0, reward="kinematic")
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("action", ["discrete", Chunk(length=2)])
def test_the_checker_of_stable_baselines_is_content(make: Make, action: Any) -> None:
    from stable_baselines3.common.env_checker import check_env as check_sb3_env

    check_sb3_env(make(action=action).unwrapped)


def test_spaces_are_those_of_the_page(make: Make, make_vec: Make) -> None:
    assert make(action="discrete").action_space == spaces.Discrete(15)
    assert make(action=Chunk(length=5)).action_space == spaces.Box(-1, 1, (5, 2), np.float32)
    waypoints = make(action="waypoints").action_space
    # eight points, the last after 2 s at 25 m/s
    assert waypoints.shape == (8, 3) and waypoints.high[-1].tolist() == [50, 50, np.float32(np.pi)]
    assert make_vec(3, action="discrete").action_space == spaces.MultiDiscrete([15, 15, 15])
    assert make_vec(3, action=Chunk(length=5)).action_space.shape == (3, 5, 2)


def test_a_meta_action_means_the_same_acceleration_at_every_speed() -> None:
    # index 3 of 15 is lateral[1] = 1 m/s^2 and longitudinal[0] = 2 m/s^2: at 10 m/s the wheels
    # turn by atan(L / 100), of 0.5 rad; 2 m/s^2 are 2 / 3.5 of the throttle
    kind = Discrete()
    for speed in (5.0, 10.0, 20.0):
        state = vehicle_state(speed=speed)[None]
        [command] = kind.commands(kind.read(3, None), state, CARS, 0.25)
        assert isinstance(command, Held)
        steer, pedal = command.actions[0]
        assert steer == pytest.approx(np.arctan(3.089 * 1.0 / speed**2) / 0.5)
        assert pedal == pytest.approx(2.0 / 3.5)
    # index 8 is straight on and -4 m/s^2, of 6
    [command] = kind.commands(kind.read(8, None), vehicle_state(speed=9.0)[None], CARS, 0.25)
    np.testing.assert_allclose(command.actions, [[0.0, -4.0 / 6.0]])
    # from a standstill the wheels turn as they would at 2.5 m/s, here to the stop
    [command] = kind.commands(kind.read(13, None), vehicle_state()[None], CARS, 0.25)
    np.testing.assert_allclose(command.actions, [[-1.0, 0.0]])


def test_a_chunk_equals_its_actions_one_by_one(make: Make, actions: Any) -> None:
    one, many = make(start="road-0"), make(start="road-0", action="chunk", frames_in_info=True)
    one.reset(seed=2)
    many.reset(seed=2)
    for chunk in actions[:4].reshape(1, 4, 2):
        steps = [one.step(action) for action in chunk]
        observation, reward, terminated, truncated, info = many.step(chunk)
        assert observation["camera"].tobytes() == steps[-1][0]["camera"].tobytes()
        assert observation["ego"].tobytes() == steps[-1][0]["ego"].tobytes()
        assert reward == pytest.approx(sum(step[1] for step in steps))
        for name, value in info["reward_terms"].items():
            assert value == pytest.approx(sum(step[4]["reward_terms"][name] for step in steps))
        assert info["time"] == steps[-1][4]["time"] and not terminated and not truncated
        assert info["frames"].shape[0] == info["frame_poses"].shape[0] == 16
        assert (info["frames"][-1] == observation["camera"]).all()


def test_all_frames_of_a_chunk_are_rendered(make: Make) -> None:
    chunk = np.zeros((2, 2), np.float32)
    for mode in ("rgb_array_list", "rgb_array"):
        env = make(action=Chunk(length=2), render_mode=mode)
        observation, _ = env.reset(seed=0)
        observation = env.step(chunk)[0]
        rendered = env.render()
        if mode == "rgb_array_list":
            assert len(rendered) == 1 + 2 * 4
            rendered = rendered[-1]
        assert (rendered == observation["camera"]).all()


def test_a_chunk_stops_where_the_episode_does(make: Make, make_vec: Make, actions: Any) -> None:
    chunks = actions[:8].reshape(2, 4, 2)
    envs = make_vec(2, action="chunk", frames_in_info=True, autoreset_mode="Disabled")
    envs.reset(seed=7, options={"horizon": [0.5, 30.0]})
    _, rewards, _, truncated, infos = envs.step(chunks)
    assert truncated.tolist() == [True, False] and infos["time"].tolist() == [0.5, 1.0]
    # the row that stood still shows its last frame until the other is through
    assert infos["frames"].shape[:2] == (2, 16)
    assert (infos["frames"][0, 8:] == infos["frames"][0, 7]).all()
    for row, count in enumerate((2, 4)):
        env = make()
        env.reset(seed=7 + row)
        steps = [env.step(action) for action in chunks[row, :count]]
        assert rewards[row] == pytest.approx(sum(step[1] for step in steps))
        position = steps[-1][4]["position"].tolist()
        assert infos["position"][row].tolist() == position


def test_a_chunk_stops_at_an_outcome(make: Make, with_heads: Callable[..., str]) -> None:
    env = make(world=with_heads(right_edge=(-3.0, 0.1)), action="chunk")
    env.reset(seed=0, options={"outcomes": OutcomeConfig(patience=2)})
    _, _, terminated, truncated, info = env.step(np.zeros((4, 2), np.float32))
    assert terminated and not truncated and info["time"] == 0.5
    assert info["termination_reason"] == "off_road" and info["reward_terms"]["ending"] == -1.0


def test_waypoints_take_the_car_where_they_lie(make: Make) -> None:
    env = make(start="road-0", action=Waypoints(length=8))
    env.reset(seed=0)
    time = np.arange(1, 9) * 0.25
    points = np.stack([6.0 * time, 0.15 * time**2, 0.05 * time], axis=1).astype(np.float32)
    _, _, _, _, info = env.step(points)
    assert info["time"] == 2.0
    np.testing.assert_allclose(info["position"], points[-1, :2], atol=0.3)
    assert info["yaw"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("action", KINDS)
def test_rows_equal_scalar_runs_and_copies_equal_each_other(
    make: Make, make_vec: Make, action: Any
) -> None:
    envs, twins = (make_vec(2, action=action) for _ in range(2))
    envs.action_space.seed(4)
    script = [envs.action_space.sample() for _ in range(2)]
    runs = []
    for one in (envs, twins):
        one.reset(seed=11)
        runs.append([one.step(sample) for sample in script])
    for ours, theirs in zip(*runs, strict=True):
        assert ours[0]["camera"].tobytes() == theirs[0]["camera"].tobytes()
        assert ours[1].tolist() == theirs[1].tolist()
    for row in range(2):
        env = make(action=action)
        env.reset(seed=11 + row)
        for sample, (observations, rewards, *_) in zip(script, runs[0], strict=True):
            observation, reward, *_ = env.step(sample[row])
            assert (observation["ego"] == observations["ego"][row]).all()
            assert reward == pytest.approx(rewards[row], rel=1e-12)


@pytest.mark.parametrize("action", KINDS)
def test_snapshots_and_forks_go_on_exactly(make: Make, action: Any) -> None:
    env = make(action=action).unwrapped
    env.action_space.seed(1)
    script = [env.action_space.sample() for _ in range(3)]
    env.reset(seed=0)
    env.step(script[0])
    snapshot, forked = env.snapshot(), env.fork(2)
    expected = [env.step(sample)[0]["camera"].tobytes() for sample in script[1:]]
    env.restore(snapshot)
    assert [env.step(sample)[0]["camera"].tobytes() for sample in script[1:]] == expected
    observations = forked.step(np.stack([script[1]] * 2))[0]
    assert (observations["camera"][0] == observations["camera"][1]).all()


def test_steps_are_counted_in_actions(world: str) -> None:
    import gymnasium as gym

    envs = gym.make_vec(
        "SanaWM-Drive-v0", 1, world=world, action=Chunk(length=2), max_episode_steps=2
    )
    envs.reset(seed=0)
    ends = [envs.step(np.zeros((1, 2, 2), np.float32)) for _ in range(2)]
    assert [end[3][0] for end in ends] == [False, True] and ends[1][4]["time"][0] == 1.0


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("discrete", 15),
        ("discrete", -1),
        ("discrete", 2.0),
        ("discrete", [1]),
        ("discrete", "left"),
        ("chunk", np.zeros((3, 2))),
        ("chunk", np.full((4, 2), np.nan)),
        ("waypoints", np.zeros((8, 2))),
        ("waypoints", np.full((8, 3), np.inf)),
    ],
)
def test_actions_that_do_not_fit_are_refused_before_anything_moves(
    make: Make, kind: str, action: Any
) -> None:
    env = make(action=kind).unwrapped
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"^action: got .*, expected .*; "):
        env.step(action)
    assert env.snapshot().state is before.state


@pytest.mark.parametrize(
    "make_kind",
    [
        lambda: Chunk(length=0),
        lambda: Waypoints(length=2, driven=3),
        lambda: Waypoints(length=True),
        lambda: Discrete(lateral=()),
        lambda: Discrete(longitudinal=(np.nan,)),
        lambda: action_kind("telepathy"),
    ],
)
def test_kinds_that_make_no_sense_are_refused(make_kind: Any) -> None:
    with pytest.raises(ValueError, match=r"action: got .*, expected"):
        make_kind()


def test_the_kind_is_fixed_when_the_environment_is_made(make: Make) -> None:
    env = make()
    with pytest.raises(ValueError, match=r"options: got action='chunk', expected Continuous"):
        env.reset(seed=0, options={"action": "chunk"})
    env.reset(seed=0, options={"action": "continuous"})


def test_kinds_are_values_with_names() -> None:
    assert all(action_kind(name) == kind for name, kind in ACTION_KINDS.items())
    assert action_kind("chunk") == Chunk() != Chunk(length=2)
