"""Correlations, rank violations, intervals and endings, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sanawm_gym.validate.statistics import (
    STATISTICS,
    count_endings,
    interval,
    interval_over_drives,
    mmrv,
    pearson,
    spearman,
)

TRUE = np.array([0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([0.1, 0.2, 0.3], 0.0),
        # The first two are mistaken for each other: each loses 0.5, the third nothing.
        ([0.5, 0.0, 1.0], 1.0 / 3.0),
        # The whole order is turned round: the ends lose 1, the middle 0.5.
        ([3.0, 2.0, 1.0], 2.5 / 3.0),
        # A tie of the first two puts the first, which is worse, beside the second.
        ([0.2, 0.2, 0.9], 0.5 / 3.0),
    ],
)
def test_the_mean_maximum_rank_violation_is_that_worked_out_by_hand(
    seen: list[float], expected: float
) -> None:
    assert mmrv(TRUE, np.array(seen)) == pytest.approx(expected)
    assert mmrv(7.0 * TRUE - 3.0, np.array(seen)) == pytest.approx(expected), "no scale of its own"


def test_correlations_know_lines_ranks_ties_and_constants() -> None:
    assert pearson(TRUE, np.array([1.0, 0.8, 0.6])) == pytest.approx(-1.0)
    assert spearman(TRUE, np.array([0.0, 10.0, 11.0])) == pytest.approx(1.0)
    # Ranks 1, 2, 3 and 1.5, 1.5, 3: covariance 1.5, variances 2 and 1.5.
    assert spearman(TRUE, np.array([4.0, 4.0, 9.0])) == pytest.approx(1.5 / np.sqrt(3.0))
    assert np.isnan(pearson(TRUE, np.full(3, 0.1)))
    assert np.isnan(mmrv(np.ones(3), TRUE))


def test_starts_are_drawn_alike_for_all_policies_and_both_worlds() -> None:
    """Where every policy scores alike in both worlds, no draw of starts may tell them apart."""
    rng = np.random.default_rng(0)
    returns = 0.1 * np.arange(5)[:, None] + 10 * rng.standard_normal(30)
    for name, best in (("pearson", 1.0), ("spearman", 1.0), ("mmrv", 0.0)):
        found = interval(returns, returns, STATISTICS[name], resamples=50, seed=0)
        assert found == pytest.approx((best, best)), name


def test_intervals_are_narrower_the_more_episodes_there_are() -> None:
    rng = np.random.default_rng(1)

    def width(episodes: int) -> float:
        true = np.arange(6.0)[:, None] + 3 * rng.standard_normal((6, episodes))
        seen = np.arange(6.0)[:, None] + 3 * rng.standard_normal((6, episodes))
        low, high = interval(true, seen, pearson, resamples=200, seed=0) or (0.0, 0.0)
        assert low < pearson(true.mean(axis=1), seen.mean(axis=1)) < high
        return high - low

    assert width(200) < 0.5 * width(8)
    assert interval(np.ones((3, 4)), np.ones((3, 4)), pearson, resamples=5, seed=0) is None


def test_decisions_of_a_drive_do_not_count_as_if_they_were_drives() -> None:
    """Two drives of a thousand equal decisions each say no more than two decisions."""
    drives = [(np.full(1000, x), np.full(1000, y)) for x, y in ((0.0, 0.0), (1.0, 1.0), (2.0, 0.0))]
    low, high = interval_over_drives(drives, pearson, resamples=100, seed=0) or (0.0, 0.0)
    assert high - low > 1.0


def test_endings_are_counted_drive_by_drive() -> None:
    happened = [3.0, 3.0, 3.0, 9.5, 9.5, None, None]
    announced = [4.0, None, 8.0, None, 9.75, 2.0, None]
    found = count_endings(happened, announced, length=10.0, tolerance=2.0)
    assert (found.hits, found.undecided, found.quiet) == (2, 1, 1)
    # The third was announced too late: once missed, and once announced for nothing.
    assert (found.misses, found.false_alarms) == (2, 2)
    assert found.precision == found.recall == 0.5
    assert found.delays == (1.0, 0.25)
    nothing = count_endings([None], [None], length=10.0, tolerance=2.0)
    assert nothing.precision is None and nothing.recall is None
