"""The truth of states whose answer is known."""

import dataclasses

import numpy as np
import pytest

from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import SceneConfig
from sanawm_gym.envs.reference.truth import LEAD_RANGE, Truth, distance_outside, measure
from sanawm_gym.vehicle import VehicleConfig, vehicle_state

CAR = VehicleConfig()
NOBODY = np.zeros((0, 6))


def truth_at(
    road: Road, s: float, d: float, turn: float = 0.0, others: np.ndarray = NOBODY
) -> Truth:
    """Truth of a car at (s, d), turned by an angle against the road, at 10 m/s."""
    x, y, heading = (float(value) for value in road.point(s, d))
    state = vehicle_state(x=x, y=y, yaw=heading + turn, speed=10.0)
    return measure(road, state, others, vehicle=CAR, crashed=False)


def test_offset_heading_and_edges_are_signed_to_the_left(road: Road) -> None:
    center = road.forward_lanes[0].center
    truth = truth_at(road, 120.0, center + 0.4, 0.1)
    assert truth.lane_offset == pytest.approx(0.4, abs=0.01)
    assert truth.heading_error == pytest.approx(0.1, abs=0.01)
    assert truth.right_edge == pytest.approx(road.scene.lane_width / 2 + 0.4, abs=0.01)
    assert truth.left_edge + truth.right_edge == pytest.approx(2 * road.scene.lane_width)
    assert truth.on_road and not truth.crashed


def test_curvature_ahead_is_the_mean_over_twenty_metres(road: Road) -> None:
    truth = truth_at(road, 150.0, -1.75)
    heading = np.interp([150.0, 170.0], road.s, road.heading)
    assert truth.curvature_ahead == pytest.approx(np.diff(heading)[0] / 20.0, abs=1e-3)


def test_beyond_the_edge_its_distance_is_negative_and_the_car_off_the_road(road: Road) -> None:
    truth = truth_at(road, 120.0, road.base_right - 2.0)
    assert truth.right_edge == pytest.approx(-2.0, abs=0.01)
    assert not truth.on_road


def test_a_vehicle_ahead_is_measured_from_bumper_to_bumper(scene: SceneConfig) -> None:
    road = Road(dataclasses.replace(scene, straightness=1.0), 400.0)
    center = road.forward_lanes[0].center
    x, y, heading = (float(value) for value in road.point(140.0, center))
    other = np.array([[x, y, heading, 7.0, 4.0, 1.8]])
    truth = truth_at(road, 100.0, center, others=other)
    front = 100.0 + CAR.rear_axle_to_center + CAR.length / 2
    assert truth.lead_distance == pytest.approx(140.0 - 2.0 - front, abs=0.01)
    assert truth.lead_speed == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(("s", "lane"), [(60.0, "forward"), (140.0, "oncoming")])
def test_vehicles_behind_or_in_the_other_lane_do_not_lead(
    scene: SceneConfig, s: float, lane: str
) -> None:
    road = Road(dataclasses.replace(scene, straightness=1.0), 400.0)
    lanes = road.forward_lanes if lane == "forward" else road.oncoming_lanes
    x, y, heading = (float(value) for value in road.point(s, lanes[0].center))
    truth = truth_at(
        road, 100.0, road.forward_lanes[0].center, others=np.array([[x, y, heading, 7, 4, 1.8]])
    )
    assert (truth.lead_distance, truth.lead_speed) == (LEAD_RANGE, 0.0)


def test_the_whole_car_is_off_the_road_only_when_every_corner_is(road: Road) -> None:
    for d, expected in ((road.base_right - 1.0, -1), (road.base_right - 3.0, 1)):
        x, y, heading = (float(value) for value in road.point(100.0, d))
        outside = distance_outside(vehicle_state(x=x, y=y, yaw=heading), CAR, road)
        assert np.sign(outside) == expected
