"""PPO that begins as a driver: it is that driver, its critic learns first, and it learns on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from safetensors.torch import load_file
from stable_baselines3.common.logger import configure

from sanawm_gym.agents import load_policy
from sanawm_gym.agents.cloned import ClonedDriver, ClonedDriverConfig, actor_of
from sanawm_gym.agents.evaluation import EvaluationConfig
from sanawm_gym.agents.features import FeaturesConfig, entries_of
from sanawm_gym.agents.hyperparameters import WARM_PPO
from sanawm_gym.agents.learned import Actor, ActorConfig, LearnedPolicy, read_actor, save_actor
from sanawm_gym.agents.loading import load_actor
from sanawm_gym.agents.ppo import PPOConfig, WarmPPOLearner, train_ppo
from sanawm_gym.agents.tasks import TaskConfig
from sanawm_gym.agents.training import resolved
from sanawm_gym.agents.vec_env import SB3VecEnv

LANE = "tests/Lane-v0"
SEEN = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (12, 16, 3), np.uint8),
        "ego": spaces.Box(-2, 4, (4,), np.float32),
    }
)
FORMS = {
    "a clone": None,
    "of sac": {"hidden": (8,), "is_squashed": True, "features": FeaturesConfig(features=16)},
    "of ppo": {"hidden": (), "is_squashed": False, "features": FeaturesConfig(features=16)},
}


class Lane(gym.Env[Any, Any]):
    """The brighter half of the picture says where to steer; the pedals are best left alone."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = SEEN
    action_space = spaces.Box(np.float32([-1, 0]), np.float32([1, 4]))

    def __init__(self, horizon: float = 8, has_truth: bool = True) -> None:
        self.horizon, self.has_truth = horizon, has_truth

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._observe(), self._infos()

    def step(self, action: Any) -> Any:
        reward = -abs(float(action[0]) - self.wanted) - 0.1 * abs(float(action[1]) - 2)
        self.time += 1
        return self._observe(), reward, False, self.time >= self.horizon, self._infos()

    def _infos(self) -> dict[str, Any]:
        truth = {"lane_offset": self.wanted, "heading_error": 0.0, "curvature_ahead": 0.0}
        return {"truth": truth} if self.has_truth else {}

    def _observe(self) -> dict[str, Any]:
        self.wanted = 0.7 if self.np_random.random() < 0.5 else -0.7
        picture = np.full((12, 16, 3), 40, np.uint8)
        picture[:, slice(8) if self.wanted > 0 else slice(8, 16)] = 160
        return {"camera": picture, "ego": self.np_random.uniform(-2, 4, 4).astype(np.float32)}


@pytest.fixture(autouse=True)
def lane() -> Iterator[None]:
    gym.register(LANE, Lane)
    yield
    del gym.registry[LANE]


def driver(form: str, path: Path, **changes: Any) -> Path:
    """A driver with weights drawn at random, in a file."""
    sizes = FORMS[form]
    if sizes is None:
        small = ClonedDriverConfig(height=12, width=16, channels=(4, 8), hidden=16)
        actor = actor_of(ClonedDriver(small))
    else:
        common = {"algorithm": "x", "entries": entries_of(SEEN), "action_shape": (2,)}
        actor = Actor(ActorConfig(**common | sizes | changes))  # type: ignore[arg-type]
    for layer in actor.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight)
    actor.low.copy_(torch.tensor([-1.0, 0.0]))
    actor.high.copy_(torch.tensor([1.0, 4.0]))
    save_actor(actor, path)
    return path


def settings(out: Path, source: Path, **changes: Any) -> PPOConfig:
    values: dict[str, Any] = {
        "out": out,
        "init": str(source),
        "task": TaskConfig(env=LANE, num_envs=4, horizon=None),
        "evaluation": EvaluationConfig(every=10**6, at_start=True, episodes=4, videos=0),
        "hidden": (12,),
        "steps": 96,
        "save_every": 32,
        "n_steps": 8,
        "batch_size": 16,
        "n_epochs": 1,
        "critic_only_rollouts": 1,
    }
    return PPOConfig(**values | changes)


def built(config: PPOConfig) -> tuple[WarmPPOLearner, Any, Any]:
    """The learner of some settings, its model, and what four cars see at first."""
    learner = WarmPPOLearner(resolved(config, WARM_PPO))
    envs = SB3VecEnv(SyncVectorEnv([Lane] * 4))
    envs.seed(3)
    seen: Any = envs.reset()
    return learner, learner.build(learner.wrapped(envs)), seen


@pytest.mark.parametrize("form", FORMS)
def test_before_it_learns_it_acts_exactly_as_its_source(form: str, tmp_path: Path) -> None:
    source = driver(form, tmp_path / "source.safetensors")
    learner, model, seen = built(settings(tmp_path / "run", source, gauges=5))
    shown = {**seen, "camera": seen["camera"].transpose(0, 3, 1, 2), "road": np.ones((4, 3))}
    acted, _ = model.predict(shown, deterministic=True)
    np.testing.assert_allclose(acted, load_policy(source).act(seen), atol=1e-6)
    assert np.ptp(acted[:, 0]) > 0.01, "what is seen matters"
    again = learner.actor(model, entries_of(SEEN))
    np.testing.assert_array_equal(LearnedPolicy(again).act(seen), load_policy(source).act(seen))
    expected = read_actor(source).state_dict()
    added = again.state_dict().keys() - expected.keys()
    assert added and all(name.startswith("gauges.") for name in added)
    assert not again.state_dict()["gauges.dials.weight"].any()
    for name, value in expected.items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_shipped_clone_is_the_same_driver_in_the_form_that_is_trained_further() -> None:
    rng = np.random.default_rng(0)
    seen = {
        "camera": rng.integers(0, 256, (3, 72, 128, 3), dtype=np.uint8),
        "ego": rng.uniform(1, 10, (3, 4)).astype(np.float32),
    }
    expected = load_policy("cloned").act(seen)
    np.testing.assert_allclose(LearnedPolicy(load_actor("cloned")).act(seen), expected, atol=1e-6)
    assert np.ptp(expected, axis=0).min() > 0.01


def test_the_critic_learns_alone_before_the_actor_does(tmp_path: Path) -> None:
    source = driver("a clone", tmp_path / "source.safetensors")
    before = load_file(source)

    def trained(rollouts: int) -> tuple[bool, Any]:
        """Whether the actor is still its source after two rollouts, and what SB3 has then."""
        out = tmp_path / f"run{rollouts}"
        config = settings(out, source, steps=64, critic_only_rollouts=rollouts)
        train_ppo(config)
        after = load_file(out / "policy.safetensors")
        learner = WarmPPOLearner(resolved(config, WARM_PPO))
        (checkpoint,) = (out / "checkpoints").iterdir()
        envs = learner.wrapped(SB3VecEnv(SyncVectorEnv([Lane] * 4)))
        model: Any = learner.load(checkpoint / "model.zip", envs)
        is_source = all(torch.equal(after[name], before[name]) for name in before)
        return is_source and not after["gauges.dials.weight"].any(), model.policy

    is_source, policy = trained(2)
    assert is_source and float(policy.value_net.bias.detach()) != 0
    assert policy.view.is_measured and policy.view.spread[:4].min() > 1
    is_source, policy = trained(1)
    assert not is_source


@pytest.mark.parametrize(
    ("learn", "held"),
    [
        ("head", {"features.towers", "features.join", "features.norm", "trunk"}),
        ("join", {"features.towers"}),
        ("all", set()),
    ],
)
def test_what_is_held_stays_and_all_else_learns(learn: Any, held: set[str], tmp_path: Path) -> None:
    source = driver("of sac", tmp_path / "source.safetensors")
    train_ppo(settings(tmp_path / "run", source, steps=64, learn=learn))
    before, after = load_file(source), load_file(tmp_path / "run" / "policy.safetensors")
    assert after["gauges.dials.weight"].any()
    fixed = {"low", "high", "features.scale_ego"}
    for name, value in before.items():
        is_held = name in fixed or any(name.startswith(part) for part in held)
        assert torch.equal(after[name], value) == is_held, name


def test_actor_and_critic_leave_each_other_alone(tmp_path: Path) -> None:
    source = driver("of ppo", tmp_path / "source.safetensors")
    _, model, _ = built(settings(tmp_path / "run", source, learn="all", critic_only_rollouts=0))
    model.set_logger(configure(None, []))
    model.learn(32)  # fills a rollout, and learns from it

    def moved(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
        return {name for name in one if not torch.equal(one[name], other[name])}

    policy, states = model.policy, []
    is_of_critic = ("value_net", "mlp_extractor.value_net")
    for is_held in (True, False):
        states.append({name: value.clone() for name, value in policy.state_dict().items()})
        model.critic_only_steps = 32 if is_held else 0
        model.critic_share = 3.0 if is_held else 0.0
        model.train()
    states.append(policy.state_dict())
    by_critic, by_actor = moved(states[0], states[1]), moved(states[1], states[2])
    assert by_critic and all(name.startswith(is_of_critic) for name in by_critic)
    assert by_actor and not any(name.startswith(is_of_critic) for name in by_actor)
    assert "log_std" in by_actor and "action_net.gauges.dials.weight" in by_actor


def test_what_is_tried_lasts_until_the_episode_ends(tmp_path: Path) -> None:
    source = driver("of ppo", tmp_path / "source.safetensors")
    times, stds = (4.0, 0.0), (-1.0, -2.0)
    _, model, _ = built(
        settings(
            tmp_path / "run", source, n_steps=256, noise_decisions=times, log_std_init=stds,
            learning_rate=1e-9,
        )
    )  # fmt: skip
    model.set_logger(configure(None, []))
    model.learn(1024)
    buffer = model.rollout_buffer  # car by car, since it has been learnt from
    seen = {name: torch.from_numpy(part) for name, part in buffer.observations.items()}
    actions = torch.from_numpy(buffer.actions)
    with torch.no_grad():
        drawn = model.policy.get_distribution(seen)
        log_prob = drawn.log_prob(actions).numpy()
        noise = (actions - drawn.distribution.mean) / torch.exp(torch.tensor(stds))
    np.testing.assert_allclose(log_prob, buffer.log_probs.ravel(), atol=1e-3)
    assert torch.all((noise.std(dim=0) - 1).abs() < 0.15), "a decision is explored as was asked"
    # 128 episodes of eight decisions.
    episodes = noise.reshape(-1, 8, 2).numpy()

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    for lag in (1, 3):
        steering, pedals = np.moveaxis(episodes, 2, 0)
        found = alike(steering[:, lag:], steering[:, :-lag])
        assert found == pytest.approx(np.exp(-lag / times[0]), abs=0.1)
        assert abs(alike(pedals[:, lag:], pedals[:, :-lag])) < 0.1
    assert abs(alike(episodes[1:, 0, 0], episodes[:-1, -1, 0])) < 0.25, "it ends with its episode"


def test_it_learns_on_what_its_source_did_not_know(tmp_path: Path) -> None:
    source = driver("a clone", tmp_path / "source.safetensors")
    last = train_ppo(
        settings(
            tmp_path / "run", source, steps=1_536, save_every=10**6, n_steps=32, batch_size=64,
            n_epochs=6, learning_rate=2e-3, gamma=0.0, log_std_init=(-1.0, 0.0), learn="all",
            noise_decisions=(0.0,),
        )
    )  # fmt: skip
    first = read_evaluations(tmp_path / "run")[0]
    assert first["steps"] == 0
    assert last["reward"] > 0.5 * first["reward"], (first["reward"], last["reward"])


def read_evaluations(run: Path) -> Any:
    return json.loads((run / "evaluations.json").read_text())["evaluations"]


def test_it_goes_on_exactly_across_the_end_of_the_critics_time(tmp_path: Path) -> None:
    source = driver("of sac", tmp_path / "source.safetensors")
    whole = train_ppo(settings(tmp_path / "whole", source))
    train_ppo(settings(tmp_path / "parts", source, stop_at=32))
    assert train_ppo(settings(tmp_path / "parts", source)) == whole
    one, other = (load_file(tmp_path / run / "policy.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_evaluations(tmp_path / "parts")[0]["steps"] == 0
    # The driver it began as belongs to the run; another of the same form is another.
    driver("of sac", source)
    with pytest.raises(ValueError, match="init"):
        train_ppo(settings(tmp_path / "parts", source, steps=128))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"memory": 4}, "which remembers"),
        ({"action_shape": (3,)}, r"shape \(3,\), expected \(2,\)"),
        ({"entries": entries_of(SEEN["camera"])}, "which sees"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_and_nothing_is_written(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    source = tmp_path / "source.safetensors"
    common = {"algorithm": "x", "entries": entries_of(SEEN), "action_shape": (2,)}
    sizes = FORMS["of sac"]
    assert sizes is not None
    save_actor(Actor(ActorConfig(**common | sizes | changes)), source)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=named):
        train_ppo(settings(tmp_path / "run", source))
    assert not (tmp_path / "run").exists()


def test_settings_of_a_beginning_need_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="learn, critic_only_rollouts: got a value without init"):
        PPOConfig(out=tmp_path, critic_only_rollouts=2, learn="join")
    wrong: list[dict[str, Any]] = [
        {"gauges": 1}, {"critic_epochs": 0}, {"critic_learning_rate": 0.0},
        {"noise_decisions": (1.0, -1.0)}, {"critic_only_rollouts": -1},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(ValueError, match=f"init: got {{'{next(iter(one))}'"):
            PPOConfig(out=tmp_path, init="cloned", **one)
    clone = driver("a clone", tmp_path / "source.safetensors")
    with pytest.raises(ValueError, match="noise_decisions: got 3 numbers"):
        train_ppo(settings(tmp_path / "run", clone, noise_decisions=(0.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="log_std_init: got 3 numbers"):
        train_ppo(PPOConfig(out=tmp_path / "run", task=TaskConfig(env=LANE, num_envs=2,
            horizon=None), log_std_init=(0.0, 0.0, 0.0)))  # fmt: skip
    with pytest.raises(ValueError, match=r"no driver 'nobody'.*cloned"):
        train_ppo(PPOConfig(out=tmp_path / "run", init="nobody"))
    blind = TaskConfig(env=LANE, num_envs=2, horizon=None, settings=("has_truth=false",))
    with pytest.raises(ValueError, match="critic_road: got infos without"):
        train_ppo(settings(tmp_path / "run", clone, task=blind))
    assert not (tmp_path / "run").exists()
    train_ppo(settings(tmp_path / "run", clone, task=blind, critic_road=False, steps=32))
