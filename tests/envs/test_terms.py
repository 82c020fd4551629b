"""Every reward term against cases computed by hand; the computation stands in the test."""

import math
from typing import Any

import numpy as np
import pytest

from sanawm_gym.envs.reading import QUANTITIES, Reading
from sanawm_gym.envs.terms import (
    Chance,
    Comfort,
    ComfortBounds,
    LaneOffset,
    LaneProgress,
    Progress,
    Speed,
    SpeedLimit,
    TimeToCollision,
)
from sanawm_gym.envs.transition import Transition
from sanawm_gym.vehicle import KinematicBicycle, VehicleConfig, vehicle_state
from sanawm_gym.worldmodel import heads

PROMPT = VehicleConfig(steer_tau=0.0, accel_tau=0.0)
ROAD: dict[str, Any] = {
    "lane_offset": 0.0, "heading_error": 0.0, "curvature_ahead": 0.0, "left_edge": 5.0,
    "right_edge": 1.75, "lead_distance": 100.0, "lead_speed": 0.0, "on_road": True,
    "crashed": False,
}  # fmt: skip


def drive(
    speed: float,
    action: tuple[float, float] = (0.0, 0.0),
    *,
    steer: float = 0.0,
    reading: Reading | None = None,
    **truth: Any,
) -> Transition:
    """A decision of 0.25 s by a car without lag, on a straight road unless told otherwise."""
    bicycle = KinematicBicycle(PROMPT)
    before = vehicle_state(speed=speed, steer=steer)[None]
    return Transition(
        before=before,
        states=bicycle.advance(before, np.array([action]), 4),
        bicycle=bicycle,
        fps=16.0,
        reading=reading or Reading.of_truth(ROAD | truth),
    )


def unsure(**given: tuple[float, float]) -> Reading:
    """A reading with the given means and deviations; the rest is the truth."""
    truth = Reading.of_truth(ROAD)
    mean, deviation = truth.mean.copy(), truth.deviation.copy()
    for name, pair in given.items():
        column = QUANTITIES.index(name)
        mean[0, column], deviation[0, column] = pair
    return Reading(mean=mean, deviation=deviation)


def test_readings_have_the_columns_of_the_heads() -> None:
    assert tuple(heads.QUANTITIES) == QUANTITIES


def test_progress_is_the_way_driven_times_its_weight() -> None:
    # 12 m/s x 0.25 s = 3 m
    assert Progress(weight=0.2)(drive(12.0))[0] == pytest.approx(0.2 * 3.0)


@pytest.mark.parametrize(
    ("error", "metres"),
    [(0.0, 3.0), (math.pi / 3, 1.5), (-math.pi / 3, 1.5), (math.pi / 2, 0.0), (math.pi, 0.0)],
)
def test_progress_along_the_lane_is_the_way_times_the_cosine(error: float, metres: float) -> None:
    # 3 m driven; at 60 degrees to the lane half of it counts, against the lane nothing
    paid = LaneProgress(weight=0.1)(drive(12.0, heading_error=error))[0]
    assert paid == pytest.approx(0.1 * metres, abs=1e-12)


def test_progress_against_a_reference_speed_is_a_share_of_at_most_one() -> None:
    # 10 m/s would cover 2.5 m: 5 m/s cover half of that, 20 m/s not more than all of it
    term = LaneProgress(weight=0.4, full_speed=10.0)
    assert term(drive(5.0))[0] == pytest.approx(0.4 * 0.5)
    assert term(drive(20.0))[0] == pytest.approx(0.4)


def test_speed_is_paid_by_the_second() -> None:
    # 0.25 s at 12.5 of 25 m/s
    assert Speed(weight=1.0)(drive(12.5))[0] == pytest.approx(0.25 * 0.5)


def test_full_braking_costs_what_its_excess_over_the_band_is_worth() -> None:
    # -6 m/s^2 against a bound of -4.05; the change by 6 m/s^2 in 0.25 s is a jerk of 24 m/s^3,
    # beyond twice the bound of 4.13
    braking = drive(20.0, (0.0, -1.0))
    band = Comfort(name="acceleration", low=-4.05, high=2.40)
    assert band(braking)[0] == pytest.approx(-0.05 * (6.0 / 4.05 - 1.0))
    assert Comfort(name="jerk", low=-4.13, high=4.13)(braking)[0] == -0.05


def test_broken_comfort_bounds_cost_their_share() -> None:
    # full braking breaks acceleration (-6 < -4.05), jerk (24 > 4.13) and jerk's magnitude (24 >
    # 8.37), three of six, so half of the penalty; steady driving breaks none
    assert ComfortBounds()(drive(12.0))[0] == 1.0
    assert ComfortBounds(penalty=0.5)(drive(20.0, (0.0, -1.0)))[0] == pytest.approx(1 - 0.5 * 3 / 6)
    strict = ComfortBounds(penalty=1.0, graded=False, weight=2 / 12)
    assert strict(drive(20.0, (0.0, -1.0)))[0] == 0.0
    assert strict(drive(12.0))[0] == pytest.approx(2 / 12)


def test_a_bend_at_the_tyre_limit_breaks_the_lateral_bound_alone() -> None:
    # wheels at 10 m/s held where v^2 tan(steer) / L = 5.5 m/s^2: beyond 4.89; yaw rate 0.55 < 0.95
    steer = math.atan(3.089 * 5.5 / 10.0**2)
    bend = drive(10.0, (steer / 0.5, 0.0), steer=steer)
    assert ComfortBounds(penalty=1.0)(bend)[0] == pytest.approx(1 - 1 / 6)
    band = Comfort(name="lateral_acceleration", low=-4.89, high=4.89)
    assert band(bend)[0] == pytest.approx(-0.05 * (5.5 / 4.89 - 1.0), rel=1e-3)


@pytest.mark.parametrize(
    ("speed", "left"), [(13.0, 1.0), (14.0, 1.0), (15.115, 0.5), (16.23, 0.0), (25.0, 0.0)]
)
def test_the_speed_limit_is_soft_over_two_and_a_bit_metres_a_second(
    speed: float, left: float
) -> None:
    # limit 14, tolerance 2.23: at 15.115 half of the tolerance is used up
    assert SpeedLimit(limit=14.0)(drive(speed))[0] == pytest.approx(left, abs=1e-9)


def test_the_excess_is_averaged_over_the_frames() -> None:
    # from 14 m/s at 3.5 m/s^2 the four frames end 0.21875, 0.4375, 0.65625, 0.875 m/s above the
    # limit, 0.546875 in the mean
    term = SpeedLimit(limit=14.0)
    assert term(drive(14.0, (0.0, 1.0)))[0] == pytest.approx(1 - 0.546875 / 2.23)


@pytest.mark.parametrize(
    ("offset", "left"),
    [(0.0, 1.0), (0.5, 1.0), (-0.5, 1.0), (1.75, 0.5), (-1.75, 0.5), (3.0, 0.0), (9.0, 0.0)],
)
def test_the_lane_offset_counts_between_half_a_metre_and_three(offset: float, left: float) -> None:
    # (3 - 1.75) / (3 - 0.5) = 0.5
    assert LaneOffset()(drive(10.0, lane_offset=offset))[0] == pytest.approx(left)


@pytest.mark.parametrize(
    ("distance", "closing", "left"),
    [(9.9, 10.0, 0.5), (10.1, 10.0, 1.0), (5.0, -3.0, 1.0), (60.0, 100.0, 1.0)],
)
def test_the_time_to_collision_halves_below_a_second(
    distance: float, closing: float, left: float
) -> None:
    # 9.9 m at 10 m/s are 0.99 s; a gap that grows never closes; beyond 50 m there is no vehicle
    near = drive(10.0, lead_distance=distance, lead_speed=closing)
    assert TimeToCollision()(near)[0] == pytest.approx(left)


def test_an_unsure_time_to_collision_counts_by_its_probability() -> None:
    # gap after a second 12 - 10 = 2 m, deviation hypot(3, 4) = 5 m: below 0 with the probability
    # of a Gaussian beyond -0.4 deviations, 0.344578; a vehicle is there with 0.5
    reading = unsure(lead_distance=(12.0, 3.0), lead_speed=(10.0, 4.0), has_lead=(0.5, 0.5))
    value = TimeToCollision(penalty=1.0)(drive(10.0, reading=reading))[0]
    assert value == pytest.approx(1 - 0.5 * 0.344578, abs=1e-6)


def test_a_standing_car_runs_into_nothing() -> None:
    near = drive(0.0, lead_distance=1.0, lead_speed=5.0)
    assert TimeToCollision()(near)[0] == 1.0


def test_chances_count_by_their_probability() -> None:
    reading = unsure(crashed=(0.25, 0.4), on_road=(0.9, 0.3))
    assert Chance(quantity="on_road")(drive(5.0, reading=reading))[0] == 0.9
    unhurt = Chance(quantity="crashed", wanted=False)
    assert unhurt.name == "not_crashed" and unhurt(drive(5.0, reading=reading))[0] == 0.75


@pytest.mark.parametrize(
    "make",
    [
        lambda: Comfort(name="jerk", low=1.0, high=2.0),
        lambda: Comfort(name="smell", low=-1.0, high=1.0),
        lambda: SpeedLimit(limit=0.0),
        lambda: LaneOffset(free=3.0, full=1.0),
        lambda: Chance(quantity="lane_offset"),
    ],
)
def test_terms_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"reward: got .*, expected"):
        make()


def test_terms_are_values() -> None:
    assert LaneOffset() == LaneOffset() and hash(SpeedLimit()) == hash(SpeedLimit())
    assert Chance(quantity="on_road") != Chance(quantity="crashed")
