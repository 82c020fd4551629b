"""Following waypoints: closed forms, and how near a car stays to what it can drive."""

import math

import numpy as np
import pytest

from sanawm_gym.envs.commands import Tracked
from sanawm_gym.envs.tracking import Plan, PursuitConfig, plan_from, pursue
from sanawm_gym.vehicle import KinematicBicycle, VehicleConfig, vehicle_state

PERIOD = 0.25
PURSUIT = PursuitConfig()


def drive(states: np.ndarray, plan: Plan, bicycle: KinematicBicycle, decisions: int) -> np.ndarray:
    """States at the end of every decision."""
    ends = []
    for index in range(decisions):
        command = Tracked(plan=plan, time=index * PERIOD, pursuit=PURSUIT)
        states = command.drive(bicycle, states, 4, 16.0)[:, -1]
        ends.append(states)
    return np.stack(ends, axis=1)


def test_a_plan_is_given_in_the_frame_of_the_car() -> None:
    # a car in (10, 5) that looks north: ahead is +y, left is -x
    car = vehicle_state(x=10.0, y=5.0, yaw=math.pi / 2)[None]
    plan = plan_from(car, np.array([[[2.0, 0.5, 0.1], [4.0, 1.0, 0.2]]]), PERIOD)
    expected = [
        [10.0, 5.0, math.pi / 2],
        [9.5, 7.0, math.pi / 2 + 0.1],
        [9.0, 9.0, math.pi / 2 + 0.2],
    ]
    np.testing.assert_allclose(plan.points[0], expected)


def test_between_waypoints_it_goes_straight_and_after_the_last_on_at_its_pace() -> None:
    car = vehicle_state()[None]
    plan = plan_from(car, np.array([[[2.0, 0.0, 0.0], [4.0, 0.0, math.pi / 2]]]), PERIOD)
    np.testing.assert_allclose(plan.at(0.125), [[1.0, 0.0]])
    np.testing.assert_allclose(plan.at(0.375), [[3.0, 0.0]])
    np.testing.assert_allclose(plan.at(0.5), [[4.0, 0.0]])
    # 2 m in the last 0.25 s, so 4 m in 0.5 s, in the direction of the last yaw
    np.testing.assert_allclose(plan.at(1.0), [[4.0, 4.0]], atol=1e-12)


def test_it_steers_along_the_circle_through_the_point_ahead() -> None:
    # 0.5 s ahead the plan is at (8, 2): curvature 2 y / d^2 = 4 / 68, wheel angle atan(L / 17)
    bicycle = KinematicBicycle()
    point = np.array([[[4.0, 1.0, 0.0], [8.0, 2.0, 0.0]]])
    car = vehicle_state(speed=16.0)[None]
    steer, _ = pursue(plan_from(car, point, PERIOD), 0.0, car, bicycle, PURSUIT)[0]
    assert steer == pytest.approx(math.atan(3.089 * 4.0 / 68.0) / 0.5)


def test_it_asks_for_the_acceleration_that_makes_up_the_distance() -> None:
    # straight on at 9 m/s for 1 s while driving 8: 2 (9 - 8) / 1^2 = 2 m/s^2 of 3.5
    bicycle = KinematicBicycle()
    car = vehicle_state(speed=8.0)[None]
    points = np.stack([np.arange(1, 5) * 9.0 * PERIOD, np.zeros(4), np.zeros(4)], axis=1)[None]
    controls = pursue(plan_from(car, points, PERIOD), 0.0, car, bicycle, PURSUIT)[0]
    np.testing.assert_allclose(controls, [0.0, 2.0 / 3.5])


def test_a_plan_to_stay_stops_the_car_without_turning_it() -> None:
    car = vehicle_state(speed=6.0)[None]
    plan = plan_from(car, np.zeros((1, 8, 3)), PERIOD)
    end = drive(car, plan, KinematicBicycle(), 16)[0, -1]
    assert end[3] == 0.0 and end[2] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("speed", [4.0, 10.0, 18.0])
def test_what_a_car_can_drive_is_followed_closely(speed: float) -> None:
    # the plan is a drive: gentle turns and changes of speed, as a policy's would be
    bicycle = KinematicBicycle()
    rng = np.random.default_rng(0)
    states = np.tile(vehicle_state(speed=speed), (16, 1))
    actions = 0.25 * rng.uniform(-1, 1, (16, 2)) * np.array([min(1.0, 50 / speed**2), 1.0])
    path = np.stack([bicycle.advance(states, actions, 4 * n)[:, -1] for n in range(1, 9)], axis=1)
    driven = drive(states, plan_from(states, path[..., :3], PERIOD), bicycle, 8)
    apart = np.hypot(*np.moveaxis(driven[..., :2] - path[..., :2], -1, 0))
    assert apart.max() < 0.15
    assert np.abs(driven[..., 2] - path[..., 2]).max() < 0.05


def test_a_car_beside_its_plan_comes_back_to_it_and_stays() -> None:
    # 1 m to the left of a straight plan at 10 m/s
    bicycle = KinematicBicycle()
    car = vehicle_state(speed=10.0)[None]
    time = np.arange(1, 33) * PERIOD
    points = np.stack([10.0 * time, np.full(32, -1.0), np.zeros(32)], axis=1)[None]
    driven = drive(car, plan_from(car, points, PERIOD), bicycle, 32)[0]
    assert np.abs(driven[12:, 1] + 1.0).max() < 0.1 and abs(driven[-1, 1] + 1.0) < 0.02
    assert np.abs(driven[-1, 0] - 80.0) < 0.2


def test_cars_follow_their_plans_bit_by_bit_as_they_would_alone() -> None:
    rng = np.random.default_rng(3)
    states = np.stack([vehicle_state(speed=v, yaw=v) for v in (0.0, 7.0, 12.0, 20.0, 3.0)])
    points = rng.uniform(-5, 20, (5, 6, 3))
    bicycle = KinematicBicycle(VehicleConfig(wheelbase=2.9))
    together = drive(states, plan_from(states, points, PERIOD), bicycle, 4)
    assert np.isfinite(together).all()
    for row in range(5):
        own = [row]
        alone = drive(states[own], plan_from(states[own], points[own], PERIOD), bicycle, 4)
        assert (alone[0] == together[row]).all()


@pytest.mark.parametrize("kwargs", [{"steer_ahead": 0.0}, {"pace_ahead": math.inf}])
def test_times_that_are_none_are_refused(kwargs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"waypoints: got .*, expected times above 0"):
        PursuitConfig(**kwargs)
