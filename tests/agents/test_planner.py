"""Planning in forks: what a plan promises is what driving it brings."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents import Policy
from sanawm_gym.agents.planner import CEMPlanner, PlannerConfig

CONFIG = PlannerConfig(candidates=6, elites=2, rounds=2, decisions=4, hold=2, discount=1.0)


@pytest.fixture
def env(world: str) -> Iterator[Any]:
    """The tiny world, two decisions into a drive."""
    made = gym.make(
        "SanaWM-Drive-v0", world=world, dtype="float32", reward="kinematic", horizon=3.0
    )
    made.reset(seed=1)
    for _ in range(2):
        made.step(np.array([0.1, 0.2], np.float32))
    yield made
    made.close()


def seen() -> dict[str, np.ndarray]:
    return {"ego": np.zeros((1, 4), np.float32)}


def test_a_plan_brings_what_it_promises(env: Any) -> None:
    planner = CEMPlanner(env, CONFIG)
    assert isinstance(planner, Policy)
    first = planner.act(seen())
    assert first.shape == (1, 2) and first.dtype == np.float32
    np.testing.assert_allclose(first[0], planner.plan[0], rtol=1e-6)
    gained = sum(
        float(env.step(planner.plan[step // CONFIG.hold].astype(np.float32))[1])
        for step in range(CONFIG.decisions)
    )
    assert gained == pytest.approx(planner.value, rel=1e-9)


def test_a_plan_is_better_than_holding_still_and_than_one_round_alone(env: Any) -> None:
    moment = env.unwrapped.snapshot()
    still = sum(float(env.step(np.zeros(2, np.float32))[1]) for _ in range(CONFIG.decisions))
    env.unwrapped.restore(moment)
    planner = CEMPlanner(env, CONFIG)
    planner.act(seen())
    assert planner.value > still
    # The same drawings first: a further round can only find something better.
    short = CEMPlanner(env, PlannerConfig(**vars(CONFIG) | {"rounds": 1}))
    short.act(seen())
    assert planner.value >= short.value > still


def test_planning_leaves_the_drive_as_it_was_and_follows_its_seed(env: Any) -> None:
    moment = env.unwrapped.snapshot()
    action = np.array([0.0, 0.5], np.float32)
    without = env.step(action)[0]["camera"]
    env.unwrapped.restore(moment)
    planner = CEMPlanner(env, PlannerConfig(candidates=3, elites=1, rounds=2, decisions=2, hold=1))
    found = []
    for seed in (5, 5, 6):
        planner.reset([seed])
        found.append(planner.act(seen()))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    np.testing.assert_array_equal(env.step(action)[0]["camera"], without)


def test_the_next_plan_begins_where_the_last_one_led(env: Any) -> None:
    planner = CEMPlanner(env, CONFIG)
    env.step(planner.act(seen())[0])
    promised = planner.value
    planner.act(seen())
    # Three of the four decisions were planned already: little can be lost by looking again.
    assert planner.value > 0.7 * promised


class Places:
    """Where the points of a :class:`Cliff` are, as a value."""

    def __init__(self, places: np.ndarray) -> None:
        self.places = places

    def select(self, rows: list[int]) -> "Places":
        return Places(self.places[rows])


class Cliff(gym.Env[Any, Any]):
    """A point on a line that is paid for how far right it is, and falls beyond 1."""

    action_space = gym.spaces.Box(-0.5, 0.5, (1,), np.float32)
    observation_space = gym.spaces.Box(-9, 9, (1,), np.float32)

    def __init__(self, num_rows: int = 1) -> None:
        self.places, self.fallen = np.zeros(num_rows), np.zeros(num_rows, dtype=bool)

    def snapshot(self) -> Places:
        return Places(self.places.copy())

    def restore(self, moment: Places) -> None:
        self.places, self.fallen = moment.places.copy(), np.zeros(len(moment.places), dtype=bool)

    def fork(self, n: int) -> "Cliff":
        return Cliff(n)

    def step(self, action: Any) -> Any:
        assert not self.fallen.any(), "a finished row was stepped"
        self.places = self.places + np.asarray(action)[:, 0]
        self.fallen = self.places > 1
        late = np.zeros(len(self.places), dtype=bool)
        return self.places, self.places.copy(), self.fallen, late, {"at": self.places.copy()}


def test_plans_end_where_the_reward_does_and_not_beyond_the_cliff() -> None:
    config = PlannerConfig(
        candidates=64, elites=8, rounds=10, decisions=4, hold=1, end_cost=10.0, deviation=(0.4,)
    )
    planner = CEMPlanner(Cliff(), config)
    planner.act(seen())
    # As fast to the edge as it goes, and no further: 0.5, 1, 1, 1, discounted.
    assert planner.value == pytest.approx(0.5 + 0.97 + 0.97**2 + 0.97**3, abs=0.2)
    assert np.cumsum(planner.plan).max() <= 1.0
    # Where falling costs nothing, one more step is taken for its reward.
    free = CEMPlanner(Cliff(), PlannerConfig(**vars(config) | {"end_cost": 0.0}))
    free.act(seen())
    assert np.cumsum(free.plan).max() > 1.0


def test_what_counts_can_be_said() -> None:
    config = PlannerConfig(candidates=16, decisions=3, hold=3, deviation=(0.4,))
    planner = CEMPlanner(
        Cliff(), config, lambda rewards, infos: -np.array([i["at"] for i in infos])
    )
    assert planner.act(seen())[0, 0] < -0.3


def test_what_cannot_be_forked_or_planned_for_is_refused(env: Any) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        CEMPlanner(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="expected one"):
        CEMPlanner(env, CONFIG).reset([1, 2])
    with pytest.raises(ValueError, match="one for each"):
        CEMPlanner(env, PlannerConfig(deviation=(0.1, 0.2, 0.3)))
    with pytest.raises(ValueError, match="elites"):
        PlannerConfig(candidates=3, elites=4)
