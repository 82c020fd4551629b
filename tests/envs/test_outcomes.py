"""When a drive ends by its own doing: probabilities by hand, and how long they must last."""

import math
from typing import Any

import numpy as np
import pytest

from sanawm_gym.envs.outcomes import OUTCOMES, OutcomeConfig, reason
from sanawm_gym.envs.reading import Reading
from tests.envs.test_terms import ROAD, unsure

WIDTH = 2.3
RULES = OutcomeConfig()


def chances(reading: Reading, rules: OutcomeConfig = RULES) -> dict[str, float]:
    row = rules.chances(reading, WIDTH)[0]
    return dict(zip(OUTCOMES, row.tolist(), strict=True))


def truth(**given: Any) -> dict[str, float]:
    return chances(Reading.of_truth(ROAD | given))


def test_a_car_in_its_lane_does_nothing_wrong() -> None:
    assert truth() == {"collision": 0.0, "off_road": 0.0, "wrong_way": 0.0}


def test_the_road_is_left_when_all_of_the_car_is_half_a_metre_beyond_its_edge() -> None:
    # half of the width and the margin: 1.15 + 0.5 = 1.65 m beyond either edge
    assert truth(right_edge=-1.64)["off_road"] == 0.0
    assert truth(right_edge=-1.66)["off_road"] == 1.0
    assert truth(left_edge=-1.66)["off_road"] == 1.0


def test_an_unsure_edge_is_left_with_its_probability() -> None:
    # right edge read at -0.65 +- 1: beyond -1.65 with the probability of a Gaussian below -1
    # deviation, 0.158655; the left edge at -1.65 +- 2 with 0.5; either of both
    reading = unsure(right_edge=(-0.65, 1.0), left_edge=(-1.65, 2.0))
    expected = 1 - (1 - 0.158655) * 0.5
    assert chances(reading)["off_road"] == pytest.approx(expected, abs=1e-6)


def test_the_wrong_way_is_against_the_lane_or_in_an_oncoming_one() -> None:
    assert truth(heading_error=math.radians(89))["wrong_way"] == 0.0
    assert truth(heading_error=math.radians(91))["wrong_way"] == 1.0
    assert truth(heading_error=math.radians(-170))["wrong_way"] == 1.0
    assert truth(lane_offset=3.1, left_edge=1.9)["wrong_way"] == 1.0
    assert truth(lane_offset=-3.1)["wrong_way"] == 0.0  # to the right lies the verge
    assert truth(lane_offset=3.1, left_edge=-1.3)["wrong_way"] == 0.0  # beyond a one-way road


def test_an_outcome_must_be_read_at_three_decisions_in_a_row() -> None:
    counts = np.zeros((1, 3), dtype=np.int64)
    ends = []
    for chance in (0.9, 0.8, 0.49, 0.5, 0.9, 0.7):
        counts = RULES.count(np.array([[0.0, chance, 0.0]]), counts)
        ends.append(reason(RULES.reached(counts)[0]))
    assert ends == ["", "", "", "", "", "off_road"]


def test_a_collision_must_be_read_with_more_certainty() -> None:
    counts = np.full((1, 3), 2, dtype=np.int64)
    assert not RULES.reached(RULES.count(np.array([[0.89, 0.0, 0.0]]), counts)).any()
    assert reason(RULES.reached(RULES.count(np.array([[0.9, 0.0, 0.0]]), counts))[0]) == "collision"


def test_what_is_known_ends_a_drive_at_once_but_the_wrong_way_takes_its_time() -> None:
    first = RULES.count(np.array([[0.0, 1.0, 1.0]]), np.zeros((1, 3), dtype=np.int64))
    assert RULES.reached(first, sure=True)[0].tolist() == [False, True, False]
    third = np.full((1, 3), 3, dtype=np.int64)
    assert RULES.reached(third, sure=True).all() and reason(third[0] > 0) == "collision"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"chance": 0.0},
        {"collision_chance": 1.1},
        {"patience": 0},
        {"off_road_margin": -1.0},
        {"turned": 4.0},
        {"oncoming": 0.0},
        {"chance": math.nan},
    ],
)
def test_rules_that_make_no_sense_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"outcomes: got .*, expected"):
        OutcomeConfig(**kwargs)
