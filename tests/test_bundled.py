"""What ships in the package: a world, its start contexts and a driver, together under 25 MB."""

from importlib import resources
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import sanawm_gym
from sanawm_gym.agents import load_policy
from sanawm_gym.worldmodel.contexts import list_contexts, load_context
from sanawm_gym.worldmodel.source import bundled_worlds

PACKAGE = Path(str(resources.files("sanawm_gym")))


def test_the_bundled_weights_are_small_and_have_a_card() -> None:
    assert bundled_worlds() == ("drive",)
    weights = list(PACKAGE.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) < 25e6
    for path in weights:
        assert (path.parent / "README.md").is_file()


def test_the_start_contexts_can_all_be_read() -> None:
    names = list_contexts()
    assert len(names) >= 48
    for name in names[::8]:
        context = load_context(name)
        assert context.frames.shape[1:] == (72, 128, 3)
        assert len(context.frames) == len(context.poses)
        assert context.caption
        context.intrinsics.check()


def test_gym_make_needs_no_arguments() -> None:
    sanawm_gym.register_envs()
    env = gym.make("SanaWM-Drive-v0")
    observation, _ = env.reset(seed=0)
    assert observation["camera"].std() > 5
    env.close()


@pytest.mark.filterwarnings("ignore:.*The environment")
def test_gymnasium_and_sb3_find_nothing_wrong_with_the_bundled_world() -> None:
    env = gym.make("SanaWM-Drive-v0", horizon=2.0)
    check_env(env.unwrapped, skip_render_check=True)
    check_env_sb3(env.unwrapped)
    env.close()


def test_the_wheel_reaches_the_picture() -> None:
    ends = []
    for steer in (-0.4, 0.4):
        env = gym.make("SanaWM-Drive-v0", start="017")
        observation, _ = env.reset(seed=0)
        for _ in range(4):
            observation, *_ = env.step(np.array([steer, 0.0], dtype=np.float32))
        ends.append(observation["camera"].astype(float))
        env.close()
    assert np.abs(ends[0] - ends[1]).mean() > 2


def test_the_shipped_refiner_redraws_the_same_drive() -> None:
    drawn = []
    for refine in (False, True, True):
        env = gym.make("SanaWM-Drive-v0", start="017", refine=refine)
        env.reset(seed=0)
        for _ in range(3):
            observation, *_ = env.step(np.zeros(2, np.float32))
        drawn.append(observation["camera"].astype(float))
        env.close()
    draft, refined, again = drawn
    assert (refined == again).all()
    assert 0.5 < np.abs(refined - draft).mean() < 25  # other details, the same road


@pytest.mark.parametrize("name", ["cloned", "ppo"])
def test_the_shipped_driver_drives_the_shipped_world(name: str) -> None:
    env = gym.make_vec("SanaWM-Drive-v0", num_envs=2)
    policy = load_policy(name)
    policy.reset([0, 1])
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        observation, reward, terminated, _, _ = env.step(policy.act(observation))
        assert np.isfinite(reward).all()
        assert not terminated.any()
    env.close()
