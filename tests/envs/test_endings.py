"""How drives end in generated worlds, what is paid there, and that it survives snapshots."""

import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sanawm_gym.envs.drift import DriftConfig
from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.envs.reward import CARL
from sanawm_gym.envs.terms import Progress

Make = Callable[..., Any]
AHEAD = np.zeros(2, np.float32)
OFF_ROAD = {"right_edge": (-3.0, 0.1), "on_road": (0.01, 0.0)}


@pytest.fixture(scope="session")
def off_road(with_heads: Callable[..., str]) -> str:
    """A world that always looks like the verge."""
    return with_heads(**OFF_ROAD)


@pytest.fixture(scope="session")
def unsure(with_heads: Callable[..., str]) -> str:
    """A world whose readings say nothing: their deviation is the spread of the quantity."""
    return with_heads(lane_offset=(0.0, 1.0), right_edge=(1.75, 1.0))


def test_a_world_that_reads_its_pictures_is_paid_by_what_it_reads(
    make: Make, with_heads: Callable[..., str]
) -> None:
    env = make(world=with_heads(lane_offset=(1.75, 0.1)), start="road-0", road_filter=None)
    _, info = env.reset(seed=0)
    assert info["reward_terms"] == CARL.blank() and info["termination_reason"] == ""
    before = info["distance"]
    _, reward, terminated, truncated, info = env.step(AHEAD)
    # half of the pay is left 1.75 m off the middle; a vehicle is there with 0.01 and far away
    assert reward == pytest.approx(0.1 * (info["distance"] - before) * 0.5, rel=1e-4)
    assert not terminated and not truncated and info["drift_score"] < 0.1


def test_leaving_the_drawn_road_terminates_at_the_third_decision(make: Make, off_road: str) -> None:
    env = make(world=off_road)
    env.reset(seed=0)
    steps = [env.step(AHEAD) for _ in range(3)]
    assert [step[2] for step in steps] == [False, False, True]
    assert [step[3] for step in steps] == [False] * 3
    assert [step[4]["termination_reason"] for step in steps] == ["", "", "off_road"]
    assert steps[-1][1] == -1.0 == steps[-1][4]["reward_terms"]["ending"]
    with pytest.raises(gym.error.ResetNeeded):
        env.step(AHEAD)
    env.reset()  # counting begins anew
    assert not env.step(AHEAD)[2]


@pytest.mark.parametrize(
    ("fixed", "reason"),
    [
        ({"heading_error": (2.0, 0.1)}, "wrong_way"),
        ({"lane_offset": (4.0, 0.1)}, "wrong_way"),
        ({"crashed": (0.95, 0.0)}, "collision"),
        ({"crashed": (0.8, 0.0)}, ""),
    ],
)
def test_other_outcomes_are_read_too(
    make: Make, with_heads: Callable[..., str], fixed: Any, reason: str
) -> None:
    env = make(world=with_heads(**fixed))
    env.reset(seed=0)
    assert [env.step(AHEAD)[4]["termination_reason"] for _ in range(3)] == ["", "", reason]


def test_rules_can_be_changed_or_left_out_for_an_episode(make: Make, off_road: str) -> None:
    env = make(world=off_road)
    env.reset(seed=0, options={"outcomes": OutcomeConfig(patience=1)})
    assert env.step(AHEAD)[2]
    env.reset(seed=0, options={"outcomes": None, "reward": (Progress(),)})
    steps = [env.step(AHEAD) for _ in range(5)]
    assert not any(step[2] for step in steps) and list(steps[0][4]["reward_terms"]) == ["progress"]


def test_counting_survives_snapshots_and_forks(make: Make, off_road: str) -> None:
    env = make(world=off_road).unwrapped
    env.reset(seed=0)
    env.step(AHEAD)
    _, _, _, _, second = env.step(AHEAD)
    snapshot = env.snapshot()
    forked = env.fork(2)
    third = env.step(AHEAD)
    assert third[2]
    _, again = env.restore(snapshot)
    assert again["drift_score"] == second["drift_score"]
    replayed = env.step(AHEAD)
    assert replayed[2] and replayed[1] == third[1]
    assert replayed[0]["camera"].tobytes() == third[0]["camera"].tobytes()
    assert replayed[4]["drift_score"] == third[4]["drift_score"]
    assert forked.step(np.stack([AHEAD, AHEAD]))[2].all()


def test_rows_of_a_batch_end_as_they_would_alone(make_vec: Make, make: Make, seeing: str) -> None:
    rules = [OutcomeConfig(patience=2), OutcomeConfig(), None]
    rewards = ["carl", "metadrive", "carl"]
    envs = make_vec(3, world=seeing, autoreset_mode="Disabled", horizon=1.0)
    envs.reset(seed=5, options={"outcomes": rules, "reward": rewards})
    batched = [envs.step(np.tile(AHEAD, (3, 1))) for _ in range(2)]
    for row in range(3):
        env = make(world=seeing, horizon=1.0)
        env.reset(seed=5 + row, options={"outcomes": rules[row], "reward": rewards[row]})
        for _, values, terminated, truncated, infos in batched:
            _, reward, done, cut, info = env.step(AHEAD)
            assert reward == pytest.approx(values[row], abs=1e-3)
            assert (done, cut) == (terminated[row], truncated[row])
            assert info["termination_reason"] == infos["termination_reason"][row]
            assert info["drift_score"] == pytest.approx(infos["drift_score"][row], abs=1e-3)
            for name, value in info["reward_terms"].items():
                assert value == pytest.approx(infos["reward_terms"][name][row], abs=1e-3)


def test_a_world_that_no_longer_says_anything_truncates(make: Make, unsure: str) -> None:
    env = make(world=unsure, drift=DriftConfig(memory=0.5))
    env.reset(seed=0)
    scores, reasons = [], []
    for _ in range(5):
        *_, terminated, truncated, info = env.step(AHEAD)
        scores.append(info["drift_score"])
        reasons.append(info["truncation_reason"])
        assert not terminated and truncated == (info["drift_score"] >= 1.0)
    # 1 / 0.9 of the limit, reached by 1 - exp(-t / 0.5): passes 1 at t = 0.5 ln 10 = 1.151 s
    assert scores[0] == pytest.approx((1 - np.exp(-0.5)) / 0.9, rel=1e-5)
    assert reasons == ["", "", "", "", "drift"]
    env.reset(seed=0, options={"drift": None})
    assert env.step(AHEAD)[4]["drift_score"] == 0.0


def test_what_is_read_off_a_failed_world_terminates_nothing(make: Make, off_road: str) -> None:
    env = make(world=off_road).unwrapped
    env.reset(seed=0)
    for _ in range(2):
        env.step(AHEAD)
    snapshot = env.snapshot()
    snapshot.state.drift[:] = 8.0
    env.restore(snapshot)
    _, reward, terminated, truncated, info = env.step(AHEAD)
    assert truncated and not terminated and info["truncation_reason"] == "drift"
    assert reward != -1.0


def test_a_picture_of_no_numbers_is_worth_nothing(make: Make, seeing: str) -> None:
    env = make(world=seeing).unwrapped
    env.reset(seed=0)
    snapshot = env.snapshot()
    snapshot.state.world.picture.fill_(float("nan"))
    env.restore(snapshot)
    _, reward, terminated, truncated, info = env.step(AHEAD)
    assert info["truncation_reason"] == "world_failure" and truncated and not terminated
    assert reward == 0.0 and not any(info["reward_terms"].values())
    assert np.isfinite(info["drift_score"])


def test_a_world_without_heads_says_once_that_nobody_looks(
    make: Make, seeing: str, tmp_path: Any, world: str, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    blind = str(tmp_path / "blind")
    shutil.copytree(world, blind)
    with caplog.at_level(logging.WARNING):
        make(world=seeing)
        make(world=world, reward="kinematic")
        said = [record.getMessage() for record in caplog.records if "blind" in record.getMessage()]
        assert not any(seeing in line for line in said)
        caplog.clear()
        for _ in range(2):
            env = make(world=blind)
    said = [record.getMessage() for record in caplog.records if blind in record.getMessage()]
    assert len(said) == 1 and "blind to the road" in said[0] and "train heads" in said[0].lower()
    assert next(iter(env.reset(seed=0)[1]["reward_terms"])) == "progress"


@pytest.mark.parametrize("reward", ["carl", "pdm", "metadrive"])
def test_a_reward_that_reads_is_refused_by_a_world_that_cannot(make: Make, reward: str) -> None:
    with pytest.raises(ValueError, match=r"reward: got .*, which reads the road, in a world"):
        make(reward=reward)
    env = make().unwrapped
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"reward: got .*, which reads the road"):
        env.reset(options={"reward": reward})
    assert env.snapshot().state is before.state
