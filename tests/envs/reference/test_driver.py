"""The good driver stays in its lane, slows for bends and vehicles, and finds back."""

import dataclasses

import numpy as np
import pytest

from sanawm_gym.envs.reference.driver import GoodDriver
from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import SceneConfig, sample_scene
from sanawm_gym.envs.reference.truth import Truth, measure
from sanawm_gym.vehicle import SPEED, KinematicBicycle, vehicle_state

NOBODY = np.zeros((0, 6))


def drive(
    scene: SceneConfig, *, seconds: float, offset: float = 0.0, turn: float = 0.0
) -> tuple[list[Truth], list[float]]:
    """Truths and speeds of a drive without traffic, four decisions a second."""
    road = Road(scene, 25.0 * seconds + 300.0)
    bicycle = KinematicBicycle()
    driver = GoodDriver(road, bicycle.config)
    x, y, heading = (float(v) for v in road.point(75.0, road.forward_lanes[0].center + offset))
    state = vehicle_state(x=x, y=y, yaw=heading + turn, speed=6.0)
    truths, speeds = [], []
    for _ in range(int(4 * seconds)):
        action = driver.act(state, NOBODY, speed_limit=scene.speed_limit)
        state = bicycle.advance(state[None], action[None], 4)[0, -1]
        truths.append(measure(road, state, NOBODY, vehicle=bicycle.config, crashed=False))
        speeds.append(float(state[SPEED]))
    return truths, speeds


@pytest.mark.parametrize("seed", range(6))
def test_it_keeps_within_half_a_metre_of_the_middle(seed: int) -> None:
    truths, speeds = drive(sample_scene(seed), seconds=15)
    assert max(abs(truth.lane_offset) for truth in truths) < 0.5
    assert np.mean(speeds) > 3.0


@pytest.mark.parametrize(("offset", "turn"), [(2.5, 0.3), (-3.0, -0.5), (0.0, 0.8)])
def test_it_finds_back_from_beside_and_across_the_lane(
    scene: SceneConfig, offset: float, turn: float
) -> None:
    truths, _ = drive(scene, seconds=12, offset=offset, turn=turn)
    assert all(abs(truth.lane_offset) < 0.3 for truth in truths[-8:])


def test_it_takes_the_tightest_bend_below_its_lateral_comfort() -> None:
    scene = SceneConfig(seed=2, min_radius=15.0, straightness=0.0, speed_limit=20.0)
    road = Road(scene, 800.0)
    truths, speeds = drive(scene, seconds=20)
    bend = np.array([abs(truth.curvature_ahead) for truth in truths])
    assert bend.max() > 1 / 40
    assert (np.array(speeds) ** 2 * bend).max() < 4.0
    assert np.abs(road.curvature).max() > 1 / 40


def test_it_stops_behind_a_standing_vehicle(scene: SceneConfig) -> None:
    straight = dataclasses.replace(scene, straightness=1.0)
    road = Road(straight, 600.0)
    bicycle = KinematicBicycle()
    driver = GoodDriver(road, bicycle.config)
    center = road.forward_lanes[0].center
    x, y, heading = (float(value) for value in road.point(180.0, center))
    other = np.array([[x, y, heading, 0.0, 4.5, 1.8]])
    x, y, heading = (float(value) for value in road.point(75.0, center))
    state = vehicle_state(x=x, y=y, yaw=heading, speed=14.0)
    for _ in range(80):
        action = driver.act(state, other, speed_limit=14.0)
        state = bicycle.advance(state[None], action[None], 4)[0, -1]
    truth = measure(road, state, other, vehicle=bicycle.config, crashed=False)
    assert state[SPEED] < 0.2
    assert 1.0 < truth.lead_distance < 8.0
