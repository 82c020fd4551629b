"""Drivers: what they promise, and that cloning learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.agents.cloned import (
    PATIENCE,
    ROLLING_SPEED,
    ClonedDriver,
    ClonedDriverConfig,
    ClonedPolicy,
)
from sanawm_gym.agents.cloning import CloningConfig, augment, clone, driving_loss
from sanawm_gym.agents.loading import SHIPPED, weights_file
from sanawm_gym.envs.reference.record import RecordConfig, record


def observation(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "camera": rng.integers(0, 256, (rows, 72, 128, 3), dtype=np.uint8),
        "ego": rng.uniform(0, 10, (rows, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("name", ["constant", "random"])
def test_scripted_drivers_answer_every_row_within_range(name: str) -> None:
    policy = load_policy(name)
    assert isinstance(policy, Policy)
    policy.reset([1, 2, 3])
    actions = policy.act(observation(3))
    assert actions.shape == (3, 2)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1


def test_a_random_rows_actions_depend_on_its_seed_alone() -> None:
    together, alone = load_policy("random"), load_policy("random")
    together.reset([5, 9])
    alone.reset([9])
    for _ in range(3):
        np.testing.assert_array_equal(together.act(observation(2))[1], alone.act(observation(1))[0])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_driver_is_small_and_looks_where_it_goes(name: str) -> None:
    assert weights_file(name).stat().st_size < 1e6
    policy, seen = load_policy(name), observation(3)
    policy.reset([1, 2, 3])
    actions = policy.act(seen)
    assert actions.shape == (3, 2) and np.abs(actions).max() <= 1
    policy.reset([1, 2, 3])
    other = policy.act({**seen, "camera": seen["camera"][::-1]})
    assert np.abs(other - actions)[[0, 2]].max() > 0.01


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*cloned"):
        load_policy("nobody")


def test_a_file_that_holds_no_driver_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "driver.safetensors"
    path.write_bytes(b"not a driver")
    with pytest.raises(ValueError, match="does not hold a cloned driver"):
        load_policy(path)


def test_augmented_pictures_differ_and_keep_their_layout() -> None:
    torch.manual_seed(0)
    camera = torch.full((64, 8, 8, 3), 60, dtype=torch.uint8)
    camera[:, :, :4] = 180
    for _ in range(4):
        seen = augment(camera).float()
        assert seen.shape == camera.shape
        assert (seen[:, :, :3].mean((1, 2, 3)) > seen[:, :, 5:].mean((1, 2, 3)) + 50).all()
        assert seen.mean((1, 2, 3)).std() > 5


def test_a_missed_brake_costs_more_than_a_missed_throttle() -> None:
    brake, throttle = torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, 1.0]])
    missed = torch.zeros(1, 2)
    assert driving_loss(missed, brake) > 2 * driving_loss(missed, throttle)
    assert driving_loss(brake, brake) == 0


def test_the_driver_is_small() -> None:
    driver = ClonedDriver(ClonedDriverConfig())
    assert sum(p.numel() for p in driver.parameters()) * 2 < 2_000_000


def test_cloning_writes_a_driver_that_loads(tmp_path: Path) -> None:
    data = record(RecordConfig(out=tmp_path / "data", episodes=2, seconds=6.0, seed=6))
    out = tmp_path / "driver.safetensors"
    error = clone(CloningConfig(data=(data,), out=out, steps=10, batch_size=8))
    written = json.loads(out.with_suffix(".json").read_text())
    assert written["algorithm"] == "bc" and written["held_out"]["steer"] == error
    assert len(written["losses"]) == 1 and list(written["data"]) == ["data[0]"]
    policy = load_policy(out)
    first = policy.act(observation(2))
    assert first.shape == (2, 2)
    np.testing.assert_array_equal(first, policy.act(observation(2)))


def test_cloning_goes_on_from_earlier_weights(tmp_path: Path) -> None:
    data = record(RecordConfig(out=tmp_path / "data", episodes=2, seconds=2.0, seed=6))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    clone(CloningConfig(data=(data,), out=first, steps=2, batch_size=8))
    clone(
        CloningConfig(
            data=(data,), out=second, init=first, steps=1, batch_size=8, learning_rate=1e-9
        )
    )
    one, other = load_policy(first), load_policy(second)
    np.testing.assert_allclose(one.act(observation(2)), other.act(observation(2)), atol=2e-3)


def test_a_driver_that_brakes_for_nothing_rolls_on_after_a_while() -> None:
    driver = ClonedDriver(ClonedDriverConfig())
    with torch.no_grad():
        driver.head.weight.zero_()
        driver.head.bias.copy_(torch.tensor([0.1, -3.0]))
    policy = ClonedPolicy(driver)
    policy.reset([0, 1])

    def pedals(*speeds: float) -> list[float]:
        ego = np.zeros((2, 4), np.float32)
        ego[:, 0] = speeds
        camera = np.zeros((2, 72, 128, 3), np.uint8)
        return [float(x) for x in policy.act({"camera": camera, "ego": ego})[:, 1]]

    for _ in range(PATIENCE):
        assert max(pedals(0.0, 8.0)) < -0.9
    rolling, braking = pedals(0.0, 8.0)
    assert rolling > 0 > braking
    assert pedals(2.0, 8.0)[0] > 0
    assert pedals(ROLLING_SPEED, 8.0)[0] < 0
    assert pedals(2.0, 8.0)[0] < 0
    for _ in range(PATIENCE + 1):
        pedals(0.0, 8.0)
    policy.reset([0, 1])
    assert pedals(0.0, 0.0)[0] < 0
