"""Training: an agent learns what there is to learn, goes on exactly, and drives from its file."""

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file

from sanawm_gym.agents import load_policy
from sanawm_gym.agents.evaluation import EvaluationConfig
from sanawm_gym.agents.features import FeaturesConfig
from sanawm_gym.agents.ppo import PPOConfig, PPOSettings, train_ppo
from sanawm_gym.agents.recurrent import RecurrentPPOConfig, train_recurrent_ppo
from sanawm_gym.agents.sac import SACConfig, train_sac
from sanawm_gym.agents.tasks import TaskConfig

CANARY = "tests/Canary-v0"
LENGTH = 8


class Canary(gym.Env[Any, Any]):
    """The bright half of the picture says whether to steer left or right, the speed how to pedal.

    The best reward of an episode is 0; steering straight on at rest gets about -1 a decision.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, horizon: float = LENGTH) -> None:
        self.render_mode, self.horizon = render_mode, horizon
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (12, 16, 3), np.uint8),
                "ego": spaces.Box(-2, 2, (1,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time, self.length = 0, (options or {}).get("horizon", self.horizon)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        wanted = np.array([0.8 if self.is_left else -0.8, self.speed / 2])
        reward = -float(np.abs(action - wanted).sum())
        self.time += 1
        return self._observe(), reward, False, self.time >= self.length, {}

    def _observe(self) -> dict[str, Any]:
        self.is_left = bool(self.np_random.random() < 0.5)
        self.speed = float(self.np_random.uniform(-1.5, 1.5))
        self.picture = np.full((12, 16, 3), 40, np.uint8)
        self.picture[:, :8] += np.uint8(120 * self.is_left)
        self.picture[:, 8:] += np.uint8(120 * (not self.is_left))
        return {"camera": self.picture, "ego": np.array([self.speed], np.float32)}

    def render(self) -> Any:
        return self.picture


@pytest.fixture(autouse=True)
def canary() -> Iterator[None]:
    """The environment by its id."""
    gym.register(CANARY, Canary)
    yield
    del gym.registry[CANARY]


def settings(out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "out": out,
        "task": TaskConfig(env=CANARY, num_envs=4, horizon=None),
        "evaluation": EvaluationConfig(every=10**6, episodes=4, videos=0),
        "features": FeaturesConfig(channels=(4, 8), features=32),
        "hidden": (32,),
    } | changes


def untrained_reward() -> float:
    """Of a driver that always holds the mean of what is right."""
    rng = np.random.default_rng(0)
    return -LENGTH * (0.8 + float(np.abs(rng.uniform(-0.75, 0.75, 10_000)).mean()))


def test_ppo_learns_to_look_and_drives_from_its_file_as_it_was_judged(tmp_path: Path) -> None:
    config = PPOConfig(
        **settings(tmp_path / "run"), steps=1_536, n_steps=32, batch_size=64, n_epochs=8,
        learning_rate=3e-3, gamma=0.0,
    )  # fmt: skip
    last = train_ppo(config)
    assert last["reward"] > 0.4 * untrained_reward()
    policy = load_policy(tmp_path / "run" / "policy.safetensors")
    policy.reset([0, 1])
    camera = np.full((2, 12, 16, 3), 40, np.uint8)
    camera[0, :, :8] = camera[1, :, 8:] = 160
    left, right = policy.act({"camera": camera, "ego": np.zeros((2, 1), np.float32)})[:, 0]
    assert left > 0.4 > -0.4 > right


def test_sac_learns_to_look_from_its_memory(tmp_path: Path) -> None:
    config = SACConfig(
        **settings(tmp_path / "run"), steps=500, memory_gb=0.01, learning_starts=80,
        gradient_steps=2, learning_rate=3e-3, gamma=0.0, batch_size=64,
    )  # fmt: skip
    # Knowing the pedals alone leaves 0.68 of it: the picture must have been looked at.
    assert train_sac(config)["reward"] > 0.6 * untrained_reward()


def tiny(out: Path, **changes: Any) -> PPOConfig:
    values = settings(out) | {"steps": 96, "n_steps": 8, "batch_size": 16, "n_epochs": 1}
    values |= {
        "evaluation": EvaluationConfig(every=48, episodes=2, videos=1),
        "task": TaskConfig(env=CANARY, num_envs=4, horizon=8.0, first_horizon=2.0),
        "save_every": 32,
    }
    return PPOConfig(**values | changes)


def same_weights(one: Path, other: Path) -> bool:
    a, b = load_file(one / "policy.safetensors"), load_file(other / "policy.safetensors")
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_that_goes_on_ends_with_the_bytes_of_one_that_was_left_alone(tmp_path: Path) -> None:
    whole = train_ppo(tiny(tmp_path / "whole"))
    stopped = tiny(tmp_path / "parts", stop_at=32)
    assert train_ppo(stopped) == {}
    (checkpoint,) = (tmp_path / "parts" / "checkpoints").iterdir()
    assert checkpoint.name == "000000032"
    assert train_ppo(tiny(tmp_path / "parts")) == whole
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    other = tmp_path / "other"
    train_ppo(tiny(other, seed=1))
    assert not same_weights(tmp_path / "whole", other)


def test_a_driver_that_remembers_goes_on_exactly_too(tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> dict[str, Any]:
        plain = tiny(tmp_path / name, save_every=32, steps=64)
        shared = {field.name for field in dataclasses.fields(PPOSettings)}
        values = {key: value for key, value in vars(plain).items() if key in shared} | {"memory": 8}
        return train_recurrent_ppo(RecurrentPPOConfig(**values | changes))

    whole = run("whole")
    run("parts", stop_at=32)
    assert run("parts") == whole
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_run_that_has_ended_rests_and_goes_on_with_more_steps(tmp_path: Path) -> None:
    first = train_ppo(tiny(tmp_path, steps=32))
    before = (tmp_path / "policy.safetensors").read_bytes()
    assert train_ppo(tiny(tmp_path, steps=32)) == first
    assert (tmp_path / "policy.safetensors").read_bytes() == before
    assert train_ppo(tiny(tmp_path, steps=64))["steps"] == 64
    assert (tmp_path / "policy.safetensors").read_bytes() != before


def test_a_signal_drops_the_rollout_in_progress_and_keeps_what_was_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, count = Canary.step, 0

    def step_and_stop(self: Canary, action: Any) -> Any:
        nonlocal count
        count += 1
        if count == 50:  # of four cars: in the second rollout of 32 steps
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, action)

    monkeypatch.setattr(Canary, "step", step_and_stop)
    train_ppo(tiny(tmp_path, save_every=10**6))
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    assert checkpoint.name == "000000032" and count == 52
    assert json.loads((tmp_path / "run.json").read_text())["steps_done"] == 32
    assert train_ppo(tiny(tmp_path, save_every=10**6))["steps"] == 96


def test_sac_goes_on_exactly_with_its_memory(tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> dict[str, Any]:
        values = {"steps": 64, "save_every": 32, "memory_gb": 0.002, "batch_size": 8}
        return train_sac(
            SACConfig(**settings(tmp_path / name) | values | {"learning_starts": 16} | changes)
        )

    whole = run("whole")
    run("parts", stop_at=32)
    assert run("parts") == whole
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_run_leaves_what_is_needed_to_judge_it(tmp_path: Path) -> None:
    train_ppo(tiny(tmp_path))
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["algorithm"] == "ppo" and written["steps_done"] == 96
    assert written["config"]["learning_rate"] == 3e-4, "what was left out is written down"
    assert {"source", "hardware", "command"} <= written.keys()
    evaluations = json.loads((tmp_path / "evaluations.json").read_text())["evaluations"]
    assert [one["steps"] for one in evaluations] == [64, 96]
    assert evaluations[0]["episodes"][0]["seed"] == evaluations[1]["episodes"][0]["seed"]
    assert (tmp_path / "videos" / "000000096" / "episode-0.mp4").is_file()
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert (tmp_path / "best.safetensors").is_file()
    assert not list(tmp_path.rglob("*.partial"))


def test_other_settings_do_not_go_on_with_a_run_and_change_nothing(tmp_path: Path) -> None:
    train_ppo(tiny(tmp_path, stop_at=32))
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"gamma is 0\.5, expected 0\.97.*--no-resume"):
        train_ppo(tiny(tmp_path, gamma=0.5))
    assert (tmp_path / "run.json").read_bytes() == before
    again = train_ppo(tiny(tmp_path, gamma=0.5, resume=False))
    assert again["steps"] == 96


def test_a_trained_driver_refuses_pictures_of_another_size(tmp_path: Path) -> None:
    train_ppo(tiny(tmp_path))
    policy = load_policy(tmp_path / "policy.safetensors")
    seen = {"camera": np.zeros((1, 72, 128, 3), np.uint8), "ego": np.zeros((1, 1), np.float32)}
    with pytest.raises(ValueError, match=r"camera.*\(12, 16, 3\)"):
        policy.act(seen)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"env": "NoSuch-v0"}, "task.env"),
        ({"env": CANARY, "horizon": None, "settings": ("wheels=4",)}, "wheels"),
        ({"env": "CartPole-v1", "horizon": None}, "Box with bounds"),
    ],
)
def test_an_impossible_task_is_refused_before_anything_is_written(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=named):
        train_ppo(dataclasses.replace(tiny(out), task=TaskConfig(**changes)))
    assert not out.exists()
