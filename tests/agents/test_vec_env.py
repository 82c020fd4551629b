"""The adapter to SB3: what SB3 promises for its own `DummyVecEnv` holds for it too."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor

import sanawm_gym  # noqa: F401  (registers the environments)
from sanawm_gym.agents.vec_env import SB3VecEnv
from sanawm_gym.agents.vec_infos import split_infos

NUM_ENVS = 3
MODES = list(AutoresetMode)


class Walk(gym.Env[Any, Any]):
    """A point that walks on a line of the length that its options say; the seed says from where."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, limit: int = 7) -> None:
        self.limit, self.label = limit, "walk"
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (40, 40, 3), np.uint8),
                "ego": spaces.Box(-100, 100, (2,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.time = float(self.np_random.uniform(-2, 2)), 0
        self.length = (options or {}).get("length", self.limit)
        return self._observe(), {"began": self.place, "given": self.length}

    def step(self, action: Any) -> Any:
        self.place += float(action[0])
        self.time += 1
        info = {"time": self.time, "parts": {"place": self.place}, "word": "on"}
        fallen, late = abs(self.place) > 3, self.time >= self.length
        return self._observe(), float(action[1]), fallen, late, info

    def _observe(self) -> dict[str, Any]:
        ego = np.array([self.place, self.time], np.float32)
        return {"camera": np.full((40, 40, 3), self.time, np.uint8), "ego": ego}

    def render(self) -> Any:
        return np.full((40, 40, 3), self.time, np.uint8)

    def times(self, factor: int, *, plus: int = 0) -> int:
        return factor * self.time + plus


def walks(mode: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> SB3VecEnv:
    return SB3VecEnv(SyncVectorEnv([Walk] * NUM_ENVS, autoreset_mode=mode), **kwargs)


def same(one: Any, other: Any, **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            same(value, other[key], **tolerance)
        elif isinstance(value, np.ndarray):
            np.testing.assert_allclose(value.astype(float), other[key].astype(float), **tolerance)
            assert value.dtype == other[key].dtype
        else:
            rounded = isinstance(value, float) and bool(tolerance)
            assert value == (pytest.approx(other[key], rel=1e-4) if rounded else other[key])
            assert type(value) is type(other[key])


@pytest.mark.parametrize("mode", MODES)
def test_every_autoreset_mode_gives_what_a_dummy_vec_env_gives(mode: AutoresetMode) -> None:
    ours, theirs = walks(mode), DummyVecEnv([Walk] * NUM_ENVS)
    for env in (ours, theirs):
        env.seed(4)
    same(ours.reset(), theirs.reset())
    rng, ends = np.random.default_rng(1), set()
    for _ in range(60):
        actions = rng.uniform(-1, 1, (NUM_ENVS, 2)).astype(np.float32)
        found, expected = ours.step(actions), theirs.step(actions)
        same(found[0], expected[0])
        for index in (1, 2):
            np.testing.assert_array_equal(found[index], expected[index])
            assert found[index].dtype == expected[index].dtype
        for row in range(NUM_ENVS):
            same(found[3][row], expected[3][row])
            same(ours.reset_infos[row], theirs.reset_infos[row])
            ends |= {found[3][row]["TimeLimit.truncated"]} if found[2][row] else set()
    assert ends == {True, False}, "both kinds of end must have been seen"


def test_an_episode_that_falls_at_its_last_step_counts_as_fallen() -> None:
    env = walks()
    env.set_options({"length": 1})
    env.reset()
    env.set_attr("place", 9.0)
    _, _, done, infos = env.step(np.zeros((NUM_ENVS, 2), np.float32))
    assert done.all() and not any(info["TimeLimit.truncated"] for info in infos)


def test_seeds_count_up_from_row_0_hold_for_one_reset_and_not_for_what_begins_by_itself() -> None:
    env = walks()
    assert list(env.seed(7)) == [7, 8, 9]
    first = env.reset()["ego"][:, 0]
    for row in range(NUM_ENVS):
        assert first[row] == pytest.approx(Walk().reset(seed=7 + row)[0]["ego"][0])
    assert (env.reset()["ego"][:, 0] != first).all()
    env.seed(7)
    for _ in range(7):
        env.step(np.zeros((NUM_ENVS, 2), np.float32))
    np.testing.assert_array_equal(env.reset()["ego"][:, 0], first)


def test_options_hold_for_one_reset_and_may_differ_by_row() -> None:
    env = walks()
    env.set_options([{"length": 2}, {}, {"length": 2}])
    env.seed(3)
    begun = env.reset()["ego"][:, 0]
    assert [info["given"] for info in env.reset_infos] == [2, 7, 2]
    for row in range(NUM_ENVS):
        assert begun[row] == pytest.approx(Walk().reset(seed=3 + row)[0]["ego"][0])
    env.step(np.zeros((NUM_ENVS, 2), np.float32))
    done = env.step(np.zeros((NUM_ENVS, 2), np.float32))[2]
    np.testing.assert_array_equal(done, [True, False, True])
    assert [env.reset_infos[row]["given"] for row in (0, 2)] == [7, 7]


def test_episode_options_hold_for_every_later_episode_and_can_be_changed() -> None:
    env = walks(episode_options={"length": 2})
    env.reset()
    hold = np.zeros((NUM_ENVS, 2), np.float32)
    assert [env.step(hold)[2].all() for _ in range(4)] == [False, True, False, True]
    env.episode_options = {"length": 1}
    env.step(hold)
    assert env.step(hold)[2].all() and env.step(hold)[2].all()
    with pytest.raises(ValueError, match="SameStep"):
        walks(AutoresetMode.SAME_STEP, episode_options={"length": 2}).reset()


def test_attributes_and_methods_reach_single_rows() -> None:
    env = walks()
    env.reset()
    assert env.env_method("times", 2, plus=1) == [1, 1, 1]
    for row in range(NUM_ENVS):
        env.set_attr("time", row, indices=row)
    assert env.get_attr("time") == [0, 1, 2]
    assert env.env_method("times", 10, indices=[0, 2]) == [0, 20]
    env.set_attr("time", 5, indices=[0, 1])
    assert env.get_attr("time", indices=[1, 2]) == [5, 2]
    assert env.has_attr("label") and not env.has_attr("imaginary")
    assert env.get_attr("time", indices=-1) == [2]


def test_wrappers_of_rows_are_found() -> None:
    wrapped = SyncVectorEnv([lambda: gym.wrappers.TimeLimit(Walk(), 3), Walk])
    env = SB3VecEnv(wrapped)
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [True, False]


def test_pictures_of_all_rows_are_tiled() -> None:
    env = walks()
    env.reset()
    picture = env.render()
    assert picture is not None and picture.shape == (80, 80, 3)


def test_environments_in_processes_of_their_own_behave_alike() -> None:
    ours, theirs = SB3VecEnv(AsyncVectorEnv([Walk] * 2)), SB3VecEnv(SyncVectorEnv([Walk] * 2))
    try:
        for env in (ours, theirs):
            env.seed(2)
        same(ours.reset(), theirs.reset())
        for index in range(9):
            actions = np.full((2, 2), 0.1 * index, np.float32)
            found, expected = ours.step(actions), theirs.step(actions)
            same(found[0], expected[0])
            np.testing.assert_array_equal(found[2], expected[2])
            for row in range(2):
                same(found[3][row], expected[3][row])
        ours.set_attr("label", "run", indices=1)
        assert ours.get_attr("label") == ["walk", "run"]
        assert ours.env_method("times", 0) == [0, 0]
        with pytest.raises(ValueError, match="one by one"):
            ours.env_method("times", 1, indices=0)
    finally:
        ours.close()


def test_what_is_no_vector_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="make_vec"):
        SB3VecEnv(Walk())
    silent = SyncVectorEnv([Walk])
    del silent.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match="autoreset_mode"):
        SB3VecEnv(silent)


@pytest.fixture
def make(world: str) -> Iterator[Callable[..., SB3VecEnv]]:
    """Makes the generated world of tiny random weights behind the adapter."""
    opened: list[SB3VecEnv] = []

    def build(num_envs: int = NUM_ENVS, **kwargs: Any) -> SB3VecEnv:
        kwargs = {"world": world, "dtype": "float32", "horizon": 0.75} | kwargs
        opened.append(SB3VecEnv(gym.make_vec("SanaWM-Drive-v0", num_envs, **kwargs)))
        return opened[-1]

    yield build
    for env in opened:
        env.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_generated_worlds_in_a_batch_are_what_single_ones_are_in_a_dummy_vec_env(
    make: Callable[..., SB3VecEnv], mode: str, world: str
) -> None:
    ours = make(autoreset_mode=mode)
    settings = {"world": world, "dtype": "float32", "horizon": 0.75}
    theirs = DummyVecEnv([lambda: gym.make("SanaWM-Drive-v0", **settings)] * NUM_ENVS)
    for env in (ours, theirs):
        env.seed(11)
    # Rows of a batch equal scalar runs up to rounding, which may turn a byte by 2.
    same(ours.reset(), theirs.reset(), atol=2)
    rng = np.random.default_rng(2)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (NUM_ENVS, 2)).astype(np.float32)
        found, expected = ours.step(actions), theirs.step(actions)
        same(found[0], expected[0], atol=2)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
        np.testing.assert_array_equal(found[2], expected[2])
        for row in range(NUM_ENVS):
            same(found[3][row], expected[3][row], atol=2)
            assert ours.reset_infos[row]["world_seed"] == theirs.reset_infos[row]["world_seed"]


def test_rows_of_one_batch_share_attributes_and_are_forked_one_by_one(
    make: Callable[..., SB3VecEnv],
) -> None:
    env = make()
    env.seed(0)
    env.set_options([{"speed": 2.0}, {"speed": 5.0}, {"horizon": 5.0}])
    assert env.reset()["ego"][:2, 0].tolist() == [2.0, 5.0]
    assert env.get_attr("num_envs") == [NUM_ENVS] * NUM_ENVS
    assert [kept.num_rows for kept in env.env_method("snapshot", indices=[0, 2])] == [1, 1]
    forks = env.env_method("fork", 2, indices=[1, 2])
    assert [fork.step(np.zeros((2, 2)))[0]["ego"][0, 0] > 4.9 for fork in forks] == [True, True]
    with pytest.raises(ValueError, match="one by one"):
        env.set_attr("max_episode_steps", 3, indices=0)


def test_the_reference_world_is_driven_through_the_same_adapter() -> None:
    envs = gym.make_vec("SanaWM-DriveReference-v0", 2, horizon=0.5, num_vehicles=0)
    env = VecMonitor(SB3VecEnv(envs))
    env.seed(5)
    env.reset()
    hold = np.zeros((2, 2), np.float32)
    env.step(hold)
    observations, _, done, infos = env.step(hold)
    assert done.all() and all(info["TimeLimit.truncated"] for info in infos)
    assert all(info["episode"]["l"] == 2 and "lane_offset" in info["truth"] for info in infos)
    assert infos[0]["terminal_observation"]["camera"].shape == (72, 128, 3)
    assert (observations["camera"][0] != infos[0]["terminal_observation"]["camera"]).any()
    assert env.env_method("expert_action", indices=1)[0].shape == (2,)
    env.close()


def test_sb3_wraps_the_adapter_and_learns_from_it(make: Callable[..., SB3VecEnv]) -> None:
    stacked = VecFrameStack(make(2), 2)
    model = PPO("MultiInputPolicy", stacked, n_steps=4, batch_size=4, n_epochs=1, seed=0)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(8)
    changed = [(a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True)]
    assert any(changed) and model.num_timesteps == 8


def test_infos_come_apart_as_they_were_joined() -> None:
    vector = SyncVectorEnv([Walk] * 2)
    joined: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [{"a": 1, "b": {"c": 2.5, "d": "x"}}, {"a": 3, "e": True}]
    for row, info in enumerate(rows):
        joined = vector._add_info(joined, info, row)
    assert split_infos(joined, 2) == rows
