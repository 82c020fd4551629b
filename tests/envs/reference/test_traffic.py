"""Other vehicles: they keep to their lanes, see the ego, crash into it and come back."""

import dataclasses

import numpy as np
import pytest

from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import SceneConfig, sample_scene
from sanawm_gym.envs.reference.traffic import Traffic

LENGTH, WIDTH = 5.176, 2.297


def run(
    scene: SceneConfig, *, seconds: float, speed: float, seed: int = 0, lane: int = 0
) -> tuple[Road, Traffic, list[np.ndarray]]:
    """Traffic around an ego that glides along its lane."""
    road = Road(scene, 1500.0)
    traffic = Traffic(scene, road, seed, LENGTH, WIDTH)
    s, states = 120.0, []
    center = road.forward_lanes[lane].center

    def ego() -> np.ndarray:
        x, y, heading = (float(value) for value in road.point(s, center))
        return np.array([x, y, heading, speed])

    traffic.reset(ego())
    for _ in range(int(16 * seconds)):
        s += speed / 16
        traffic.step(ego(), 1 / 16)
        states.append(traffic.states())
    return road, traffic, states


@pytest.fixture
def busy() -> SceneConfig:
    """A highway of three lanes and ten vehicles."""
    return SceneConfig(
        seed=4, kind="highway", num_forward=3, num_oncoming=0, min_radius=200.0, num_vehicles=10,
        speed_limit=18.0,
    )  # fmt: skip


def test_vehicles_keep_to_the_road_and_move(busy: SceneConfig) -> None:
    road, _, states = run(busy, seconds=5, speed=15.0)
    for rows in states:
        assert len(rows) >= 6
        assert (road.outside(rows[:, 0], rows[:, 1]) < 0.0).all()
    assert np.mean([rows[:, 3].mean() for rows in states]) > 8.0


def test_oncoming_vehicles_come_towards_the_ego() -> None:
    scene = dataclasses.replace(sample_scene(0), num_forward=1, num_oncoming=1, num_vehicles=8)
    road, _, states = run(scene, seconds=3, speed=10.0)
    s, d = road.project(states[-1][:, 0], states[-1][:, 1])
    heading = np.interp(s, road.s, road.heading)
    facing = np.cos(states[-1][:, 2] - heading)
    assert (np.sign(facing) == -np.sign(d)).all() and (facing < 0).any()


def test_the_same_seed_gives_the_same_traffic(busy: SceneConfig) -> None:
    first, second = (run(busy, seconds=4, speed=12.0, seed=7)[2] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    other = run(busy, seconds=4, speed=12.0, seed=8)[2]
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


def test_vehicles_behind_brake_for_a_standing_ego() -> None:
    scene = SceneConfig(
        seed=4, num_forward=1, num_oncoming=0, num_vehicles=6, min_radius=300.0, speed_limit=14.0
    )
    _, traffic, _ = run(scene, seconds=15, speed=0.0)
    assert not traffic.crashed


def test_driving_into_a_vehicle_is_a_crash() -> None:
    scene = SceneConfig(
        seed=4, num_forward=1, num_oncoming=0, num_vehicles=6, min_radius=300.0, speed_limit=8.0
    )
    _, traffic, _ = run(scene, seconds=15, speed=24.0)
    assert traffic.crashed


def test_vehicles_left_behind_come_back_ahead(busy: SceneConfig) -> None:
    slow = dataclasses.replace(busy, speed_limit=9.0, num_vehicles=5)
    road, _, states = run(slow, seconds=14, speed=24.0, lane=2)
    s, _ = road.project(states[-1][:, 0], states[-1][:, 1])
    ego_s = 120.0 + 14 * 24.0
    assert len(s) >= 3 and (s > ego_s - 75).all() and (s < ego_s + 210).all()
