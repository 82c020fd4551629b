"""What is believed of the road: exact motion, and pictures that err alike or insist."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sanawm_gym.envs.reading import QUANTITIES, Reading
from sanawm_gym.envs.road_filter import KEPT, RoadBelief, RoadFilterConfig, motion_between

SPREAD = np.array([1.3, 0.15, 0.007, 3.2, 2.8, 11.0, 4.6])
SURE = {"lane_offset": 0.1, "left_edge": 0.1, "right_edge": 0.1, "heading_error": 0.01,
        "curvature_ahead": 1e-4}  # fmt: skip
SILENT = dict(zip(QUANTITIES, SPREAD, strict=False))


def reading(deviation: dict[str, float], rows: int = 1, **means: float) -> Reading:
    values = {"left_edge": 5.25, "right_edge": 1.75, "on_road": 1.0} | means
    mean = np.array([[values.get(name, 0.0) for name in QUANTITIES]] * rows)
    spread = np.array([[deviation.get(name, 1.0) for name in QUANTITIES]] * rows)
    return Reading(mean=mean, deviation=spread)


def along(*waypoints: tuple[float, float, float]) -> np.ndarray:
    """Motions (1, 3) of one car from each x, y, yaw to the next."""
    states = np.array(waypoints)[:, None]
    return np.stack([motion_between(a, b) for a, b in itertools.pairwise(states)])


def driven(path: np.ndarray, said: Reading, belief: RoadBelief, **rules: float) -> RoadBelief:
    for moved in path:
        belief = RoadFilterConfig(**rules).follow(belief, moved, said, SPREAD)
    return belief


def value(belief: RoadBelief, name: str) -> float:
    return float(belief.mean[0, KEPT.index(name)])


def test_where_pictures_say_nothing_the_motion_is_believed() -> None:
    path = along((0, 0, 0.0), (3, 0.2, 0.1), (6, 0.8, 0.3), (8, 1.9, 0.5))
    belief = driven(path, reading(SILENT), RoadBelief.begin(reading(SURE)))
    assert value(belief, "lane_offset") == pytest.approx(1.9)
    assert value(belief, "left_edge") == pytest.approx(5.25 - 1.9)
    assert value(belief, "right_edge") == pytest.approx(1.75 + 1.9)
    assert value(belief, "heading_error") == pytest.approx(0.5)
    told = belief.told(reading(SILENT), np.zeros(1))
    assert told["lane_offset"][0] == pytest.approx(1.9)
    assert told.deviation[0, QUANTITIES.index("lane_offset")] > SURE["lane_offset"]


def test_a_car_that_follows_the_bend_stays_in_its_lane() -> None:
    radius, steps = 100.0, np.arange(21) * 2.5 / 100.0
    circle = [(radius * np.sin(a), radius * (1 - np.cos(a)), a) for a in steps]
    said = reading(SILENT | {"curvature_ahead": 1e-4}, curvature_ahead=1 / radius)
    begun = RoadBelief.begin(reading(SURE, curvature_ahead=1 / radius))
    belief = driven(along(*circle), said, begun, curvature_repeats=1.0)
    assert abs(value(belief, "lane_offset")) < 0.1
    assert abs(value(belief, "heading_error")) < 0.01
    straight = driven(along(*circle), reading(SILENT), RoadBelief.begin(reading(SURE)))
    assert value(straight, "lane_offset") > 5.0  # where no bend is seen, it has left the road


def test_a_new_road_is_believed_if_the_pictures_insist_but_not_at_once() -> None:
    """The car turns off by 0.2 rad; every picture goes on showing it in the middle of a lane."""
    at = np.arange(200) * 2.5
    path = along(*((x * np.cos(0.2), x * np.sin(0.2), 0.2) for x in at))
    said, begun = reading({name: 3 * dev for name, dev in SURE.items()}), reading(SURE)
    start = RoadBelief.begin(begun)
    start.mean[:, KEPT.index("heading_error")] = 0.2
    soon = driven(path[:6], said, start)
    assert value(soon, "lane_offset") > 1.5 and value(soon, "heading_error") > 0.1
    late = driven(path, said, start)
    assert abs(value(late, "lane_offset")) < 0.5 and abs(value(late, "heading_error")) < 0.03


def test_errors_that_pictures_share_are_not_averaged_away() -> None:
    still = np.zeros((100, 1, 3))
    said = reading({"lane_offset": 0.5})
    begun = RoadBelief.begin(said)
    trusting = driven(still, said, begun, place_repeats=1.0).covariance[0, 0, 0]
    careful = driven(still, said, begun, place_repeats=100.0).covariance[0, 0, 0]
    assert np.sqrt(trusting) < 0.1 and 0.3 < np.sqrt(careful) < 0.5


def test_the_next_lane_counts_where_the_road_has_one() -> None:
    """2 m to the left, and on in the next lane; pictures tell the truth of a wide road."""
    offsets = [0.0, 0.4, 0.8, 1.2, 1.6, -1.5, -1.5, -1.5]
    path = along(*((4.0 * k, 0.4 * min(k, 5), 0.0) for k in range(8)))

    def believed(left_edge: float) -> float:
        belief = RoadBelief.begin(reading(SURE, left_edge=left_edge))
        for moved, offset in zip(path, offsets[1:], strict=True):
            said = reading(SILENT | {"lane_offset": 0.6}, lane_offset=offset)
            belief = RoadFilterConfig().follow(belief, moved, said, SPREAD)
        return value(belief, "lane_offset")

    assert believed(left_edge=5.25) == pytest.approx(-1.5, abs=0.1)
    assert believed(left_edge=1.75) > 0.0  # no lane there: the picture is doubted


def test_it_knows_recorded_roads_better_than_single_pictures_do() -> None:
    """A drive of the reference world off its road, read with errors that last."""
    env = gym.make("SanaWM-DriveReference-v0", num_vehicles=0, outcomes=None, horizon=12.0)
    _, info = env.reset(seed=7, options={"world_seed": 861_000_000_000})
    generator, error, config = np.random.default_rng(0), np.zeros(len(QUANTITIES)), None
    columns = [QUANTITIES.index(name) for name in KEPT]
    deviation = {name: 0.7 * spread for name, spread in SILENT.items()}
    spread = reading(deviation).deviation
    belief, before, errors = None, None, []
    for step in range(40):
        truth = Reading.of_truth(info["truth"])
        error = 0.9 * error + np.sqrt(1 - 0.81) * generator.normal(size=len(error)) * spread[0]
        said = Reading(mean=truth.mean + error, deviation=spread)
        state = np.array([[*info["position"], info["yaw"]]])
        if belief is None or before is None:
            belief = RoadBelief.begin(said)
        else:
            config = RoadFilterConfig()
            belief = config.follow(belief, motion_between(before, state), said, SPREAD)
        before = state
        errors.append([belief.mean[0] - truth.mean[0, columns], error[columns]])
        steer = 0.06 if 8 <= step < 24 else 0.0
        *_, info = env.step(np.array([steer, 0.0], np.float32))
    env.close()
    assert min(info["truth"]["left_edge"], info["truth"]["right_edge"]) < -2.0
    filtered, single = np.sqrt(np.mean(np.square(errors), axis=0))
    assert (filtered[[0, 3]] < 0.8 * single[[0, 3]]).all()


def test_cars_are_believed_apart_and_a_picture_without_numbers_is_passed_over() -> None:
    generator = np.random.default_rng(3)
    said = reading(SURE, rows=7)
    said.mean[:] += generator.normal(size=said.mean.shape) * 0.3
    begun = RoadBelief.begin(said)
    moved = generator.normal(size=(7, 3)) * [1.0, 0.1, 0.05]
    together = RoadFilterConfig().follow(begun, moved, said, SPREAD)
    for row in range(7):
        alone = RoadFilterConfig().follow(
            begun.select([row]), moved[row : row + 1], said.select([row]), SPREAD
        )
        assert alone.mean.tobytes() == together.mean[row : row + 1].tobytes()
        assert alone.covariance.tobytes() == together.covariance[row : row + 1].tobytes()
    joined = RoadBelief.concat([together.select([3]), together.select([1])])
    assert np.array_equal(joined.mean, together.mean[[3, 1]])
    said.mean[2] = said.deviation[2] = np.nan
    after = RoadFilterConfig().follow(begun, moved, said, SPREAD)
    assert np.isfinite(after.mean).all() and np.isfinite(after.covariance).all()


def test_an_environment_tells_what_it_believes_or_what_it_reads(
    make: Callable[..., Any], with_heads: Callable[..., str]
) -> None:
    world = with_heads(lane_offset=(0.5, 0.1))
    turn = np.array([1.0, 0.0], np.float32)

    def last(env: Any) -> list[float]:
        env.reset(seed=0)
        return [env.step(turn)[4]["perceived"]["lane_offset"]["mean"] for _ in range(6)]

    read = last(make(world=world, road_filter=None))
    assert read == pytest.approx([0.5] * 6)
    env = make(world=world).unwrapped
    believed = last(env)
    assert believed[0] < believed[-1] and believed[-1] > 1.0
    snapshot = env.snapshot()
    following = env.step(turn)[4]["perceived"]
    env.restore(snapshot)
    assert env.step(turn)[4]["perceived"] == following
    env.restore(snapshot)
    forked = env.fork(2).step(np.stack([turn, turn]))[4]["perceived"]["lane_offset"]["mean"]
    assert forked == pytest.approx([following["lane_offset"]["mean"]] * 2, abs=1e-3)


def test_numbers_that_are_no_rules_are_refused() -> None:
    with pytest.raises(ValueError, match=r"road_filter: got .*expected repeats of at least 1"):
        RoadFilterConfig(place_repeats=0.5)
    with pytest.raises(ValueError, match="all finite"):
        RoadFilterConfig(surprise=float("inf"))
