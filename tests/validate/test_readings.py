"""What a report says of readings, rewards and endings, out of drives whose figures are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sanawm_gym.envs.reading import QUANTITIES
from sanawm_gym.validate import paired, perception, reward, termination
from sanawm_gym.validate.job import ValidateJob
from sanawm_gym.validate.run import write_report
from sanawm_gym.validate.setup import Setup

STEPS = 16
FREE = dict(zip(QUANTITIES, (0.0, 0.0, 0.0, 5.0, 1.75, np.nan, np.nan, 0, 1, 0), strict=True))


def _column(name: str) -> int:
    return QUANTITIES.index(name)


def _drive(number: int, off_from: int | None, said_from: int | None) -> dict[str, Any]:
    """A drive whose lane offset is read 0.1 m too high, every other time too surely.

    Args:
        number: Of the drive; its offset swings with it.
        off_from: Decision from which the car is off the road, if it is.
        said_from: Decision from which the generated world reads that.
    """
    truth = np.tile(np.array([*FREE.values()], dtype=float), (STEPS, 1))
    truth[:, 0] = 0.3 * np.sin(np.arange(STEPS) + number)
    off_road = np.zeros(STEPS, dtype=bool)
    if off_from is not None:
        off_road[off_from:] = True
        truth[off_from:, _column("right_edge")] = -4.0
        truth[off_from:, _column("on_road")] = 0.0
    mean = np.where(np.isnan(truth), 30.0, truth)
    mean[:, 0] += 0.1
    deviation = np.full(mean.shape, 0.2)
    deviation[::2, 0] = 0.04
    drawn = mean.copy()
    drawn[:, _column("right_edge")] = 1.75
    if said_from is not None:
        drawn[said_from:, _column("right_edge")] = -4.0
    paid = 0.3 - 0.1 * np.abs(truth[:, 0])
    return {
        "truth": truth,
        "off_road": off_road,
        "far_off": np.zeros(STEPS, dtype=bool),
        "yaw": np.stack([truth[:, 0], truth[:, 0]], axis=1),
        "reward": paid,
        "terms": [{"progress": one} for one in paid],
        "clean_mean": mean,
        "clean_deviation": deviation,
        "generated": {
            "reward": paid + 0.02,
            "terms": [{"progress": one} for one in paid],
            "mean": drawn,
            "deviation": deviation,
            "yaw": np.stack([truth[:, 0], 0.5 * truth[:, 0]], axis=1),
        },
    }


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A report whose paired drives are there already: two of each manner."""
    out = tmp_path_factory.mktemp("known")
    setup = Setup(ValidateJob(out=out, starts=2, seconds=STEPS / 4, parts=("reward",)))
    endings = {"leaving": [(2, 4), (2, None)], "trembling": [(None, 3), (None, None)]}
    for manner in paired.MANNERS:
        drives = [_drive(i, *one) for i, one in enumerate(endings.get(manner, [(None, None)] * 2))]
        shown = np.zeros((2, 4, 72, 128, 3), dtype=np.uint8)
        unit = f"pairs-{manner}-000"
        setup.store.save(unit, {"drives": drives}, {"reference": shown, "generated": shown})
    return setup


def test_readings_are_scored_on_the_road_with_their_calibration(setup: Setup) -> None:
    found = perception.figures(setup)
    offset = found["reference_video"]["lane_offset"]
    # Two of eight drives leave the road after two decisions.
    assert offset["moments"] == 6 * STEPS + 2 * 2
    assert offset["error"] == pytest.approx(0.1, abs=1e-5)
    assert offset["within_1"] == 0.5 and offset["within_2"] == 0.5
    assert offset["correlation"] == pytest.approx(1.0, abs=1e-6)
    assert found["reference_video"]["on_road"]["moments"] == 8 * STEPS
    assert "lead_distance" not in found["reference_video"], "nothing drove ahead"
    assert found["seconds"].keys() == {"1", "2", "4"}
    assert found["seconds"]["1"]["generated"]["lane_offset"]["moments"] == 6


def test_endings_need_their_decisions_in_a_row_and_are_matched_in_time(setup: Setup) -> None:
    found = termination.figures(setup)["off_road"]
    drawn, video = found["generated"], found["clean"]
    # Off the road at 0.75 s; read from 1.25 s on, three times in a row until 1.75 s.
    assert drawn["delays"] == (1.0,)
    assert (drawn["hits"], drawn["misses"], drawn["false_alarms"], drawn["quiet"]) == (1, 1, 1, 5)
    assert drawn["precision"] == drawn["recall"] == 0.5
    assert (video["hits"], video["misses"], video["false_alarms"]) == (2, 0, 0)
    assert drawn["chance_while"] == pytest.approx(12 / 28, abs=1e-6)


def test_rewards_agree_by_manner_and_by_time(setup: Setup) -> None:
    found = reward.figures(setup)
    assert found["all"]["pearson"] == pytest.approx(1.0)
    assert found["all"]["absolute_error"] == pytest.approx(0.02)
    assert found["manners"].keys() == set(paired.MANNERS)
    assert [*found["seconds"]] == ["0 to 1", "1 to 2", "2 to 4"]
    assert found["seconds"]["2 to 4"]["decisions"] == 8 * 8


def test_the_page_shows_counts_beside_ratios(setup: Setup) -> None:
    page = write_report(setup).read_text()
    assert "off road: precision (1 of 2 announced)" in page
    assert "collision: recall (0 of 0 happened)" in page
    for title in ("Side by side", "Steering", "Perceived state", "Reward", "Endings"):
        assert f"<h2>{title}</h2>" in page
    assert "--parts policies" in page, "what was not measured is named"
