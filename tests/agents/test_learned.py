"""What a run saves drives as SB3's own model does; SAC's memory keeps what it was given."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.buffers import DictReplayBuffer

from sanawm_gym.agents.features import DriveFeatures, FeaturesConfig, entries_of, scales_of
from sanawm_gym.agents.learned import LearnedPolicy, is_learned, save_actor
from sanawm_gym.agents.ppo import PPOConfig, PPOLearner
from sanawm_gym.agents.recurrent import RecurrentPPOConfig, RecurrentPPOLearner
from sanawm_gym.agents.replay import ImageReplay
from sanawm_gym.agents.sac import SACConfig, SACLearner
from sanawm_gym.agents.training import resolved
from sanawm_gym.agents.vec_env import SB3VecEnv

SEEN = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (12, 16, 3), np.uint8),
        "ego": spaces.Box(-2, 4, (2,), np.float32),
    }
)
ROWS = 4
LEARNERS = {
    "ppo": (PPOConfig, PPOLearner),
    "recurrent-ppo": (RecurrentPPOConfig, RecurrentPPOLearner),
    "sac": (SACConfig, SACLearner),
}


class Noise(gym.Env[Any, Any]):
    """Pictures that mean nothing; actions in bounds of their own."""

    observation_space = SEEN
    action_space = spaces.Box(np.float32([-1, 0]), np.float32([1, 4]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


def batches(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "camera": rng.integers(0, 256, (ROWS, 12, 16, 3), dtype=np.uint8),
            "ego": rng.uniform(-2, 4, (ROWS, 2)).astype(np.float32),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_saved_driver_acts_as_the_model_it_was_taken_from(name: str, tmp_path: Path) -> None:
    config_class, learner_class = LEARNERS[name]
    features = FeaturesConfig(channels=(4, 6), features=16)
    config = resolved(config_class(out=tmp_path, features=features, hidden=(8, 8)), name)
    envs = SB3VecEnv(SyncVectorEnv([Noise] * ROWS))
    learner = learner_class(config)
    model: Any = learner.build(envs)
    # SB3's heads begin so near to zero that nothing of the picture would show.
    head = model.policy.actor.mu if name == "sac" else model.policy.action_net
    torch.nn.init.normal_(head.weight, std=0.3)
    torch.nn.init.constant_(head.bias, 0.0 if name == "sac" else 0.5)
    path = tmp_path / "driver.safetensors"
    save_actor(learner.actor(model, entries_of(envs.observation_space)), path)
    assert is_learned(path)
    policy, state, starts = LearnedPolicy.from_file(path), None, np.ones(ROWS, dtype=bool)
    policy.reset(range(ROWS))
    drawn = []
    for seen in batches(4):
        channels_first = {**seen, "camera": seen["camera"].transpose(0, 3, 1, 2)}
        expected, state = model.predict(channels_first, state, starts, deterministic=True)
        drawn.append(policy.act(seen))
        np.testing.assert_allclose(drawn[-1], expected, atol=1e-5)
        starts = np.zeros(ROWS, dtype=bool)
    assert np.ptp(drawn, axis=0).min() > 0 and np.min(drawn, axis=(0, 1))[1] >= 0
    policy.reset(range(ROWS))
    np.testing.assert_array_equal(policy.act(batches(1)[0]), drawn[0])


def test_a_saved_driver_needs_no_sb3() -> None:
    code = "import sys, sanawm_gym.agents.learned; sys.exit('stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_driver_that_remembers_refuses_other_cars_midway(tmp_path: Path) -> None:
    features = FeaturesConfig(channels=(4, 6), features=16)
    config = resolved(RecurrentPPOConfig(out=tmp_path, features=features), "recurrent-ppo")
    envs = SB3VecEnv(SyncVectorEnv([Noise] * ROWS))
    learner = RecurrentPPOLearner(config)
    policy = LearnedPolicy(learner.actor(learner.build(envs), entries_of(envs.observation_space)))
    policy.act(batches(1)[0])
    with pytest.raises(ValueError, match="got 2 cars, expected 4"):
        policy.act({name: value[:2] for name, value in batches(1)[0].items()})


def test_features_do_not_mind_light_and_contrast_but_what_is_seen() -> None:
    torch.manual_seed(0)
    network = DriveFeatures(FeaturesConfig(), entries_of(SEEN), scales_of(SEEN)).eval()
    picture = torch.randint(0, 120, (1, 12, 16, 3))
    ego = torch.zeros(1, 2)
    plain, lit, other = (
        network({"camera": camera, "ego": ego})
        for camera in (picture, 2 * picture + 9, picture.flip(2))
    )
    assert (plain - lit).abs().max() < 0.25 * (plain - other).abs().max()
    assert (plain - other).abs().max() > 0.3
    assert network.get_buffer("scale_ego").tolist() == [4.0, 4.0]


def test_latent_frames_have_features_too_and_words_have_none() -> None:
    space = spaces.Dict(
        {
            "latent": spaces.Box(-16, 16, (4, 5, 8), np.float32),
            "ego": spaces.Box(-1, 1, (4,), np.float32),
        }
    )
    network = DriveFeatures(FeaturesConfig(features=7), entries_of(space), scales_of(space))
    seen = {"latent": torch.randn(2, 4, 5, 8), "ego": torch.zeros(2, 4)}
    assert network(seen).shape == (2, 7)
    with pytest.raises(ValueError, match="expected an RGB picture"):
        entries_of(spaces.Dict({"word": spaces.Text(3)}))


def moment(number: int) -> dict[str, np.ndarray]:
    """Two cars that see the number of the moment."""
    return {
        "camera": np.full((2, 3, 12, 16), number, np.uint8),
        "ego": np.array([[number, 0], [number, 1]], np.float32),
    }


def test_the_memory_gives_back_steps_of_one_episode_only() -> None:
    """Every kept step leads from a number to the next; ends and cuts are followed by nothing."""
    replay = ImageReplay(1, first_channels(), Noise.action_space, n_envs=2, memory_gb=2e-5)
    assert replay.buffer_size == 16
    number = 0
    for step in range(60):
        done = np.array([step % 7 == 6, step % 5 == 4])
        late = [{"TimeLimit.truncated": bool(step % 2)}] * 2
        replay.add(moment(number), moment(number + 1), np.full((2, 2), number), done, done, late)
        number += 1
        if step % 11 == 10:
            replay.cut()
            number += 50
        number %= 200
        drawn = replay.sample(64)
        seen, after = drawn.observations, drawn.next_observations
        assert (after["ego"][:, 0] - seen["ego"][:, 0] == 1).all()
        assert (seen["ego"][:, 1] == after["ego"][:, 1]).all()
        assert (seen["camera"][:, 0, 0, 0] == seen["ego"][:, 0]).all()
        assert (drawn.actions[:, 0] == seen["ego"][:, 0]).all()
        assert replay.size() <= 32
    ended = drawn.dones[:, 0].bool()
    assert (drawn.rewards[ended] == 1).all(), "only ends by outcome count as ends"
    assert replay.size() > 20


def first_channels() -> spaces.Dict:
    """What SB3 makes of the space: pictures with their colours first."""
    return spaces.Dict({**SEEN.spaces, "camera": spaces.Box(0, 255, (3, 12, 16), np.uint8)})


def test_the_memory_keeps_to_its_size_and_holds_twice_what_sb3s_does() -> None:
    replay = ImageReplay(1, first_channels(), Noise.action_space, n_envs=2, memory_gb=1e-3)
    used = sum(kept.nbytes for kept in replay.kept.values())
    used += replay.actions.nbytes + replay.rewards.nbytes + replay.ends.nbytes
    assert 0.95e6 < used + replay.follows.nbytes <= 1e6
    theirs = DictReplayBuffer(
        2 * replay.buffer_size, first_channels(), Noise.action_space, n_envs=2
    )
    pictures = theirs.observations["camera"].nbytes + theirs.next_observations["camera"].nbytes
    assert pictures == 2 * replay.kept["camera"].nbytes
    with pytest.raises(ValueError, match="memory_gb"):
        ImageReplay(1, first_channels(), Noise.action_space, n_envs=2, memory_gb=1e-6)


def test_the_memory_comes_back_from_its_file(tmp_path: Path) -> None:
    kept, again, other = (
        ImageReplay(1, first_channels(), Noise.action_space, n_envs=2, memory_gb=size)
        for size in (2e-5, 2e-5, 3e-5)
    )
    for number in range(5):
        going = np.zeros(2, dtype=bool)
        kept.add(moment(number), moment(number + 1), np.zeros((2, 2)), going, going, [{}] * 2)
    kept.save(tmp_path / "replay.npz")
    again.load(tmp_path / "replay.npz")
    assert again.size() == kept.size() == 10
    np.testing.assert_array_equal(again.kept["camera"], kept.kept["camera"])
    with pytest.raises(ValueError, match="does not hold this experience"):
        other.load(tmp_path / "replay.npz")
