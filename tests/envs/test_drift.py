"""The drift score by hand: uncertainty, contrast, smoothing."""

import math
from typing import Any

import numpy as np
import pytest

from sanawm_gym.envs.drift import DriftConfig, contrast_of, uncertainty_of
from tests.envs.test_terms import unsure

SPREAD = np.array([2.0, 0.2, 0.01, 4.0, 3.0, 10.0, 5.0])
INSTANT = DriftConfig(memory=0.0)


def score(
    config: DriftConfig, contrast: float, uncertainty: float | None, before: float = 0.0
) -> float:
    seen = None if uncertainty is None else np.array([uncertainty])
    return float(config.score(np.array([before]), np.array([contrast]), seen, 0.25)[0])


def test_uncertainty_is_the_mean_share_of_the_spread_each_at_most_one() -> None:
    # lane offset 1 of 2 m, right edge 6 of 3 m: (0.5 + 1) / 2; what else is unsure does not count
    reading = unsure(lane_offset=(0.0, 1.0), right_edge=(2.0, 6.0), left_edge=(2.0, 99.0))
    assert uncertainty_of(reading, SPREAD)[0] == pytest.approx(0.75)


def test_contrast_is_measured_against_the_start_or_against_that_of_a_usual_road() -> None:
    at_start = np.array([0.8, 0.01, 1.6])  # a road, one colour, a city by night
    assert contrast_of(np.array([0.4, 0.4, 0.45]), at_start).tolist() == [0.5, 0.8, 0.5]


@pytest.mark.parametrize(
    ("contrast", "uncertainty", "expected"),
    [
        (1.0, None, 0.0),
        (0.5, None, 1.0),  # the lower limit
        (math.sqrt(0.5), None, 0.5),  # half of the way there, by its logarithm
        (3.0, None, 1.0),  # the upper limit
        (0.0, None, 1.5),  # no decision says more than this
        (1.0, 0.9, 1.0),
        (1.0, 0.45, 0.5),
        (0.5, 0.45, 1.0),  # the worse of both
        (math.nan, None, 1.5),
    ],
)
def test_one_is_reached_at_the_limits(
    contrast: float, uncertainty: float | None, expected: float
) -> None:
    assert score(INSTANT, contrast, uncertainty) == pytest.approx(expected)


def test_a_single_odd_picture_counts_little_and_a_lost_world_is_given_up_in_two_seconds() -> None:
    # with 2 s of memory a decision of 0.25 s weighs 1 - exp(-1/8) = 0.1175; at 1.5 a decision the
    # score is 1.5 (1 - exp(-t / 2)) and passes 1 at t = 2 ln 3 = 2.197 s, the ninth decision
    config, now, scores = DriftConfig(), 0.0, []
    for _ in range(9):
        now = score(config, 0.0, None, now)
        scores.append(now)
    assert scores[0] == pytest.approx(1.5 * 0.117503, abs=1e-6)
    assert [value >= 1 for value in scores] == [False] * 8 + [True]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"uncertainty": 0.0},
        {"low_contrast": 1.0},
        {"high_contrast": 1.0},
        {"memory": -1.0},
        {"memory": math.inf},
    ],
)
def test_limits_that_make_no_sense_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"drift: got .*, expected"):
        DriftConfig(**kwargs)
