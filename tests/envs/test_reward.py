"""The reward terms against hand-computed motions."""

import numpy as np
import pytest

from sanawm_gym.envs.reward import KINEMATIC, Comfort, Motion, Progress, reward_terms, score
from sanawm_gym.vehicle import KinematicBicycle, VehicleConfig, vehicle_state

PROMPT = VehicleConfig(steer_tau=0.0, accel_tau=0.0)


def motion(speed: float, action: tuple[float, float], *, steer: float = 0.0) -> Motion:
    bicycle = KinematicBicycle(PROMPT)
    before = vehicle_state(speed=speed, steer=steer)[None]
    states = bicycle.advance(before, np.array([action]), 4)
    return Motion(before=before, states=states, bicycle=bicycle, fps=16.0)


def test_progress_is_the_way_driven_times_its_weight() -> None:
    assert Progress(weight=0.2)(motion(12.0, (0.0, 0.0)))[0] == pytest.approx(0.2 * 3.0)


def test_a_smooth_drive_is_paid_for_its_progress_alone() -> None:
    total, parts = score(KINEMATIC, motion(12.0, (0.0, 0.1)))
    assert total[0] == parts["progress"][0] > 0
    assert all(parts[name][0] == 0 for name in parts if name != "progress")


def test_full_braking_costs_what_its_excess_over_the_band_is_worth() -> None:
    _, parts = score(KINEMATIC, motion(20.0, (0.0, -1.0)))
    assert parts["acceleration"][0] == pytest.approx(-0.05 * (6.0 / 4.05 - 1.0))
    assert parts["jerk"][0] == -0.05  # 24 m/s^3 over the decision: beyond twice the band


def test_a_bend_at_the_tyre_limit_is_uncomfortable() -> None:
    _, parts = score(KINEMATIC, motion(10.0, (1.0, 0.0), steer=0.168))
    assert parts["lateral_acceleration"][0] == pytest.approx(-0.05 * (5.5 / 4.89 - 1), rel=1e-3)


def test_penalties_are_bounded_and_the_sum_is_the_sum_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        total, parts = score(KINEMATIC, motion(rng.uniform(0, 25), tuple(rng.uniform(-1, 1, 2))))
        assert total[0] == sum(part[0] for part in parts.values())
        assert all(-0.05 <= parts[name][0] <= 0 for name in parts if name != "progress")


def test_rows_are_scored_one_by_one() -> None:
    bicycle = KinematicBicycle()
    rng = np.random.default_rng(1)
    before = np.stack([vehicle_state(speed=speed) for speed in (3.0, 9.0, 21.0)])
    states = bicycle.advance(before, rng.uniform(-1, 1, (3, 2)), 4)
    total, _ = score(KINEMATIC, Motion(before=before, states=states, bicycle=bicycle, fps=16.0))
    for row in range(3):
        rows = slice(row, row + 1)
        one = Motion(before=before[rows], states=states[rows], bicycle=bicycle, fps=16.0)
        assert score(KINEMATIC, one)[0][0] == total[row]


def test_presets_are_found_by_name_and_own_terms_are_taken_as_they_are() -> None:
    assert reward_terms("kinematic") is KINEMATIC
    mine = [Progress(), Progress(name="again")]
    assert reward_terms(mine) == tuple(mine)


@pytest.mark.parametrize("bad", ["points", [Progress(), Progress()]])
def test_unknown_presets_and_doubled_names_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^reward: got .*, expected "):
        reward_terms(bad)  # type: ignore[arg-type]


def test_a_comfort_band_needs_a_known_quantity_and_two_sides() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        Comfort(name="smell", low=-1.0, high=1.0)
    with pytest.raises(ValueError, match="low < 0 < high"):
        Comfort(name="jerk", low=1.0, high=2.0)
