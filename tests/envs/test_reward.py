"""Presets and own terms: how named parts make one number."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float64

from sanawm_gym.envs.reading import Reading
from sanawm_gym.envs.reward import (
    AUTO,
    CARL,
    KINEMATIC,
    METADRIVE,
    PDM,
    REWARD_PRESETS,
    RewardConfig,
    RewardTerm,
    reward_config,
)
from sanawm_gym.envs.terms import Comfort, LaneProgress, Progress
from sanawm_gym.envs.transition import Transition
from sanawm_gym.vehicle import KinematicBicycle, vehicle_state
from tests.envs.test_terms import drive

ON, OVER = np.array([False]), np.array([True])


def test_a_smooth_drive_is_paid_for_its_progress_alone() -> None:
    total, parts = KINEMATIC.score(drive(12.0, (0.0, 0.1)), ON)
    assert total[0] == parts["progress"][0] > 0
    assert all(parts[name][0] == 0 for name in parts if name != "progress")


def test_carl_multiplies_what_progress_earns() -> None:
    # 0.1 x 15 m/s x 0.25 s along the lane = 0.375; 15 m/s are 1.1111 above 50 km/h, which leaves
    # 1 - 1.1111 / 2.23; 1.75 m off the middle leave 0.5; 10 m behind a car 11 m/s slower leave 0.5
    seen = {"lane_offset": 1.75, "lead_distance": 10.0, "lead_speed": 11.0}
    total, parts = CARL.score(drive(15.0, **seen), ON)
    assert list(parts) == [
        "progress", "speed_limit", "lane_offset", "time_to_collision", "comfort", "ending",
    ]  # fmt: skip
    slow = 1 - (15 - 50 / 3.6) / 2.23
    assert parts["speed_limit"][0] == pytest.approx(slow)
    assert total[0] == pytest.approx(0.375 * slow * 0.5 * 0.5 * 1.0)


def test_metadrive_adds_metres_along_the_lane_and_speed() -> None:
    # 1 x 2.5 m + 1 a second x 0.25 s x 10 / 25
    assert METADRIVE.score(drive(10.0), ON)[0][0] == pytest.approx(2.5 + 0.25 * 10 / 25)


def test_pdm_is_the_score_of_navsim() -> None:
    # EP: 6.9444 m/s are half of 50 km/h; TTC 0 (5 m, closing at 6 m/s); C 1: (5/2 + 0 + 2) / 12;
    # off the road DAC makes it 0
    seen: dict[str, Any] = {"lead_distance": 5.0, "lead_speed": 6.0}
    assert PDM.score(drive(25 / 3.6, **seen), ON)[0][0] == pytest.approx((2.5 + 0 + 2) / 12)
    assert PDM.score(drive(50 / 3.6), ON)[0][0] == pytest.approx(1.0)
    assert PDM.score(drive(50 / 3.6, on_road=False), ON)[0][0] == 0.0


@pytest.mark.parametrize(("preset", "worth"), [("carl", -1.0), ("metadrive", -5.0), ("pdm", 0.0)])
def test_the_end_of_a_drive_is_worth_what_the_preset_says_and_nothing_else(
    preset: str, worth: float
) -> None:
    total, parts = REWARD_PRESETS[preset].score(drive(12.0), OVER)
    assert total[0] == parts["ending"][0] == worth
    assert REWARD_PRESETS[preset].score(drive(12.0), ON)[1]["ending"][0] == 0.0


def test_a_reward_without_an_ending_pays_the_last_decision_like_any_other() -> None:
    total, parts = KINEMATIC.score(drive(12.0), OVER)
    assert total[0] == pytest.approx(0.3) and "ending" not in parts


def test_penalties_are_bounded_and_the_sum_is_the_sum_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = drive(rng.uniform(0, 25), tuple(rng.uniform(-1, 1, 2)))
        total, parts = KINEMATIC.score(moved, ON)
        assert total[0] == sum(part[0] for part in parts.values())
        assert all(-0.05 <= parts[name][0] <= 0 for name in parts if name != "progress")


@pytest.mark.parametrize("preset", REWARD_PRESETS)
def test_rows_are_scored_one_by_one(preset: str) -> None:
    bicycle = KinematicBicycle()
    rng = np.random.default_rng(1)
    before = np.stack([vehicle_state(speed=speed) for speed in (3.0, 9.0, 21.0)])
    states = bicycle.advance(before, rng.uniform(-1, 1, (3, 2)), 4)
    reading = Reading(mean=rng.uniform(0, 1, (3, 10)), deviation=rng.uniform(0, 1, (3, 10)))
    every = Transition(before=before, states=states, bicycle=bicycle, fps=16.0, reading=reading)
    ended = np.array([False, True, False])
    total, parts = REWARD_PRESETS[preset].score(every, ended)
    for row in range(3):
        own = [row]
        alone = replace(every, before=before[own], states=states[own], reading=reading.select(own))
        single, single_parts = REWARD_PRESETS[preset].score(alone, ended[own])
        assert single[0] == total[row]
        assert all(single_parts[name][0] == parts[name][row] for name in parts)


class Brightness:
    """A term that reads the picture itself."""

    name = "brightness"

    def __call__(self, transition: Transition) -> Float64[np.ndarray, " b"]:
        assert transition.picture is not None
        return transition.picture.mean(axis=(1, 2, 3)) / 255.0


def test_own_terms_are_added_up_and_may_look_at_the_picture() -> None:
    assert isinstance(Brightness(), RewardTerm)
    config = reward_config([Progress(weight=1.0), Brightness()], can_read=False)
    grey = replace(drive(12.0), picture=np.full((1, 4, 6, 3), 51, np.uint8))
    assert config.score(grey, ON)[0][0] == pytest.approx(3.0 + 0.2)


def test_auto_reads_the_road_where_it_can() -> None:
    assert reward_config(AUTO, can_read=True) is CARL
    assert reward_config(AUTO, can_read=False) is KINEMATIC
    own = RewardConfig(gains=(Progress(),))
    assert reward_config(own, can_read=False) is own


@pytest.mark.parametrize("reward", ["carl", "metadrive", "pdm", CARL, [LaneProgress()]])
def test_what_reads_the_road_is_refused_where_nothing_is_read(reward: Any) -> None:
    with pytest.raises(ValueError, match=r"reward: got .*, in a world without heads; expected"):
        reward_config(reward, can_read=False)


def test_a_term_that_does_not_say_that_it_reads_is_told_so_when_it_does() -> None:
    blind = replace(drive(12.0), reading=None)
    with pytest.raises(ValueError, match=r"reward: got a world that does not read its pictures"):
        LaneProgress()(blind)


@pytest.mark.parametrize(
    "reward",
    [
        "points",
        [],
        [Progress(), Progress()],
        [Progress(name="ending")],
        [Progress(), Comfort(name="jerk", low=-1, high=1), Progress(name="jerk")],
    ],
)
def test_rewards_that_are_none_are_refused(reward: Any) -> None:
    with pytest.raises(ValueError, match=r"reward: got .*, expected"):
        reward_config(reward, can_read=True)
