"""The road beside what is observed: of the right episode, in units, and only for the critic."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor, VecTransposeImage

from sanawm_gym.agents.features import FeaturesConfig, entries_of
from sanawm_gym.agents.hyperparameters import WARM_PPO
from sanawm_gym.agents.learned import Actor, ActorConfig, save_actor
from sanawm_gym.agents.ppo import PPOConfig, WarmPPOLearner
from sanawm_gym.agents.road_view import LIMIT, ROAD, RoadVecEnv, road_numbers
from sanawm_gym.agents.training import resolved
from sanawm_gym.agents.vec_env import SB3VecEnv


class Way(gym.Env[Any, Any]):
    """Episode number k begins k metres beside its lane and moves off by 0.1 m a decision."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.episode = space, 0
        space.seed(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return self.observation_space.sample(), self._infos()

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.observation_space.sample(), 0.0, False, self.time >= 3, self._infos()

    def _infos(self) -> dict[str, Any]:
        offset = self.episode + 0.1 * self.time
        return {"truth": {"lane_offset": offset, "heading_error": 0.2, "curvature_ahead": -0.01}}


PICTURE = spaces.Box(0, 255, (72, 128, 3), np.uint8)
SEEN = spaces.Dict({"camera": PICTURE, "ego": spaces.Box(-2, 2, (4,), np.float32)})


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_last_observation_has_the_road_of_the_episode_that_ended(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([lambda: Way(SEEN)] * 2, autoreset_mode=mode)
    view = VecTransposeImage(VecMonitor(RoadVecEnv(SB3VecEnv(envs))))
    seen: Any = view.reset()
    np.testing.assert_allclose(seen[ROAD], [[1.0, 2.0, -0.5]] * 2)
    for _ in range(3):
        seen, _, done, infos = view.step(np.zeros((2, 2), np.float32))
    assert done.all()
    last = infos[1]["terminal_observation"]
    np.testing.assert_allclose(last[ROAD], [1.3, 2.0, -0.5], rtol=1e-6)
    np.testing.assert_allclose(seen[ROAD][1], [2.0, 2.0, -0.5], rtol=1e-6)
    assert last["camera"].shape == (3, 72, 128)
    assert view.observation_space.contains({name: part[0] for name, part in seen.items()})


def test_what_is_perceived_is_told_in_the_same_units_and_nothing_is_out_of_bounds() -> None:
    truth = {"lane_offset": -0.6, "heading_error": 0.03, "curvature_ahead": 0.01}
    perceived = {name: {"mean": value, "deviation": 9.0} for name, value in truth.items()}
    told = road_numbers({"truth": truth})
    np.testing.assert_array_equal(told, road_numbers({"perceived": perceived}))
    np.testing.assert_allclose(told, [-0.6, 0.3, 0.5], rtol=1e-6)
    lost = {"lane_offset": -80.0, "heading_error": float("nan"), "curvature_ahead": float("inf")}
    np.testing.assert_array_equal(road_numbers({"truth": lost}), [-LIMIT, 0.0, LIMIT])


def test_a_part_of_that_name_is_not_written_over() -> None:
    taken = spaces.Dict({**SEEN.spaces, ROAD: spaces.Box(-1, 1, (1,), np.float32)})
    with pytest.raises(ValueError, match="a part 'road' of its own"):
        RoadVecEnv(SB3VecEnv(SyncVectorEnv([lambda: Way(taken)])))


def test_a_driver_that_sees_nothing_but_pictures_learns_only_with_the_road(tmp_path: Path) -> None:
    source, entries = tmp_path / "source.safetensors", entries_of(PICTURE)
    sizes = FeaturesConfig(channels=(2, 2), features=4)
    save_actor(
        Actor(
            ActorConfig(
                algorithm="x", features=sizes, entries=entries, hidden=(), action_shape=(2,),
                is_squashed=True,
            )
        ),
        source,
    )  # fmt: skip

    def learner(critic_road: bool) -> WarmPPOLearner:
        config = PPOConfig(
            out=tmp_path, init=str(source), critic_road=critic_road, n_steps=4, batch_size=8
        )
        return WarmPPOLearner(resolved(config, WARM_PPO))

    envs = SB3VecEnv(SyncVectorEnv([lambda: Way(PICTURE)] * 2))
    knowing, blind = learner(True), learner(False)
    model: Any = knowing.build(knowing.wrapped(envs))
    model.set_logger(configure(None, []))
    model.learn(8)
    assert model.policy.view.names == [ROAD]
    assert knowing.actor(model, entries).config.entries == entries
    with pytest.raises(ValueError, match=r"expected numbers for the critic.*--critic-road"):
        blind.build(blind.wrapped(envs))
