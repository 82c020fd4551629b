"""Scripted drivers on a road whose offsets follow from plane geometry."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.agents.evaluation import drive_episodes
from sanawm_gym.agents.loading import SCRIPTED
from sanawm_gym.agents.road import FREE_DISTANCE
from sanawm_gym.agents.road_drivers import IDM, LaneKeeper, PurePursuit
from sanawm_gym.vehicle import KinematicBicycle, VehicleConfig, vehicle_state

READERS = ("lane-keeper", "pure-pursuit", "idm", "reckless")


def truth(state: np.ndarray, bend: float, parked_at: float | None) -> dict[str, float]:
    """Of a lane that begins at the origin heading east and bends left, with a parked vehicle."""
    x, y, yaw, speed = state[:4]
    if bend:
        radius = 1 / bend
        offset = radius - np.hypot(x, y - radius) * np.sign(radius)
        heading = np.arctan2(x * np.sign(bend), (radius - y) * np.sign(bend))
    else:
        offset, heading = y, 0.0
    gap = FREE_DISTANCE if parked_at is None else min(max(parked_at - x, 0.0), FREE_DISTANCE)
    return {
        "lane_offset": float(offset),
        "heading_error": float((yaw - heading + np.pi) % (2 * np.pi) - np.pi),
        "curvature_ahead": bend,
        "lead_distance": float(gap),
        "lead_speed": float(speed) if gap < FREE_DISTANCE else 0.0,
    }


def ego(state: np.ndarray) -> dict[str, np.ndarray]:
    return {"ego": np.array([[state[3], state[4], state[5], 0.0]], np.float32)}


def run(
    policy: Policy, *, bend: float = 0.0, parked_at: float | None = None, seconds: float = 16.0
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Drive the exact car from 1.5 m left of the middle, turned away by 0.1 rad."""
    bicycle = KinematicBicycle(VehicleConfig())
    state = vehicle_state(speed=8.0)
    state[1], state[2] = 1.5, 0.1
    policy.reset([3])
    past = []
    for _ in range(round(4 * seconds)):
        known = truth(state, bend, parked_at)
        past.append(known)
        action = policy.act(ego(state), [{"truth": known}])
        assert action.dtype == np.float32 and np.abs(action).max() <= 1
        state = bicycle.advance(state[None], action, 4, 16.0)[0, -1]
    return state, past


@pytest.mark.parametrize("make", [LaneKeeper, PurePursuit, IDM])
@pytest.mark.parametrize("bend", [0.0, 1 / 60, -1 / 60])
def test_lane_drivers_come_to_the_middle_and_stay(make: Callable[[], Policy], bend: float) -> None:
    state, past = run(make(), bend=bend)
    late = np.abs([known["lane_offset"] for known in past[-20:]])
    assert late.max() < 0.25, late.max()
    assert max(abs(known["lane_offset"]) for known in past) < 2.5
    # In the bend no faster than comfort allows, on the straight as fast as wanted.
    expected = min(12.0, np.sqrt(2.2 / (abs(bend) + 1e-4)))
    assert state[3] == pytest.approx(expected, abs=0.3)


def test_only_the_idm_driver_stops_behind_a_parked_vehicle() -> None:
    state, past = run(IDM(), parked_at=120.0)
    assert state[3] < 0.3 and 2.0 < past[-1]["lead_distance"] < 8.0
    assert run(LaneKeeper(), parked_at=120.0)[1][-1]["lead_distance"] == 0.0


def test_the_reckless_driver_is_fast_weaves_and_follows_its_seed() -> None:
    state, past = run(load_policy("reckless"))
    offsets = np.array([known["lane_offset"] for known in past[-32:]])
    assert state[3] > 20.0 and offsets.max() > 0.3 and offsets.min() < -0.3
    policy = load_policy("reckless")
    policy.reset([0, 1, 0])
    known = [{"truth": truth(vehicle_state(speed=8.0), 0.0, None)}] * 3
    steer = policy.act({"ego": np.full((3, 4), 8, np.float32)}, known)[:, 0]
    assert steer[0] == steer[2] != steer[1]


@pytest.mark.parametrize("name", READERS)
def test_what_is_perceived_serves_as_the_truth_does(name: str) -> None:
    known = truth(np.array([0, 0.7, 0.05, 9.0, 0, 0]), 0.01, 30.0)
    read = {key: {"mean": value, "deviation": 0.1} for key, value in known.items()}
    seen = {"perceived": read | {"has_lead": {"mean": 0.9, "deviation": 0.3}}}
    unseen = {"perceived": read | {"has_lead": {"mean": 0.1, "deviation": 0.3}}}
    free = {"truth": known | {"lead_distance": FREE_DISTANCE, "lead_speed": 0.0}}
    policy = load_policy(name)
    policy.reset([0, 0, 0, 0])
    observation = {"ego": np.full((4, 4), 9, np.float32)}
    actions = policy.act(observation, [{"truth": known}, seen, free, unseen])
    np.testing.assert_array_equal(actions[0], actions[1])
    np.testing.assert_array_equal(actions[2], actions[3])
    assert (actions[0, 1] < actions[2, 1]) == (name == "idm")


@pytest.mark.parametrize("name", READERS)
def test_a_world_without_readings_is_refused_with_what_to_do(name: str) -> None:
    policy = load_policy(name)
    policy.reset([0])
    observation = {"ego": np.zeros((1, 4), np.float32)}
    with pytest.raises(ValueError, match=r"heads.*SanaWM-DriveReference-v0"):
        policy.act(observation, [{"time": 0.0}])
    with pytest.raises(ValueError, match=r"act\(observation, infos\)"):
        policy.act(observation)


def test_every_scripted_driver_is_known_by_name_and_is_a_policy() -> None:
    assert set(READERS) < SCRIPTED.keys()
    assert all(isinstance(load_policy(name), Policy) for name in SCRIPTED)


def test_the_lane_keeper_keeps_its_lane_in_the_reference_world() -> None:
    envs: Any = gym.make_vec("SanaWM-DriveReference-v0", 1, horizon=3.0, num_vehicles=0)
    offsets: list[float] = []

    class Watched(LaneKeeper):
        def act(self, observation: Any, infos: Any = None) -> Any:
            offsets.extend(info["truth"]["lane_offset"] for info in infos)
            return super().act(observation, infos)

    episodes = drive_episodes(envs, Watched(), [5])
    envs.close()
    assert [episode.end for episode in episodes] == ["horizon"]
    assert np.abs(offsets).max() < 0.8
    assert all(episode.metres and episode.metres > 12 for episode in episodes)
