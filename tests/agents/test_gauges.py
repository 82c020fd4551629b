"""Gauges and exploration: nothing until learnt, any function of a number, and noise that lasts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sanawm_gym.agents.exploration import LastingNoise
from sanawm_gym.agents.features import Entry, FeaturesConfig
from sanawm_gym.agents.gauges import Gauges
from sanawm_gym.agents.learned import (
    Actor,
    ActorConfig,
    LearnedPolicy,
    read_actor,
    save_actor,
    with_gauges,
)

ENTRIES = {
    "camera": Entry(kind="picture", shape=(12, 16, 3)),
    "ego": Entry(kind="numbers", shape=(4,)),
}


def driver() -> Actor:
    return Actor(
        ActorConfig(
            algorithm="x",
            features=FeaturesConfig(channels=(2, 2), features=4),
            entries=ENTRIES,
            hidden=(),
            action_shape=(2,),
            is_squashed=True,
        )
    )


def seen(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ego = rng.normal([12.0, 0.0, 0.0, 5.0], [3.0, 0.05, 1.0, 0.0], (rows, 4))
    camera = rng.integers(0, 256, (rows, 12, 16, 3), dtype=np.uint8)
    return {"camera": camera, "ego": ego.astype(np.float32)}


def test_a_driver_with_gauges_drives_as_before_and_keeps_its_own(tmp_path: Path) -> None:
    plain, shown = driver(), seen(6)
    before = LearnedPolicy(plain).act(shown)
    given = with_gauges(plain, 5)
    assert given.gauges is not None and given.config.gauges == 5
    np.testing.assert_array_equal(LearnedPolicy(given).act(shown), before)
    given.gauges.measure(torch.from_numpy(shown["ego"]))
    np.testing.assert_array_equal(LearnedPolicy(given).act(shown), before)
    torch.nn.init.normal_(given.gauges.dials.weight)
    learnt = LearnedPolicy(given).act(shown)
    assert np.abs(learnt - before).max() > 0.01
    save_actor(given, tmp_path / "driver.safetensors")
    again = read_actor(tmp_path / "driver.safetensors")
    np.testing.assert_array_equal(LearnedPolicy(again).act(shown), learnt)
    kept = with_gauges(again, 9)
    assert kept is again and kept.gauges is not None
    kept.gauges.measure(torch.zeros(3, 4))
    np.testing.assert_array_equal(LearnedPolicy(kept).act(shown), learnt)


def test_gauges_tell_what_is_too_much_from_what_is_too_little() -> None:
    gauges, numbers = Gauges(4, 7, 1), torch.from_numpy(seen(400)["ego"])
    gauges.measure(numbers)
    speed = numbers[:, 0]
    wanted = torch.where(speed > 14, -1.0, 0.5)  # the pedal, and nothing that a line could follow
    optimiser = torch.optim.Adam(gauges.parameters(), 0.05)
    for _ in range(300):
        loss = ((gauges(numbers)[:, 0] - wanted) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    columns = torch.stack([speed, torch.ones_like(speed)], dim=1)
    line = columns @ torch.linalg.lstsq(columns, wanted).solution
    assert loss.item() < 0.4 * ((line - wanted) ** 2).mean().item()


def test_a_number_that_never_changes_keeps_its_unit() -> None:
    gauges = Gauges(4, 3, 2)
    gauges.measure(torch.from_numpy(seen(50)["ego"]))
    assert gauges.spread[3] == 1 and gauges.spread[0] == pytest.approx(3, rel=0.3)


def test_noise_fades_as_was_asked_and_a_new_episode_knows_nothing_of_it() -> None:
    torch.manual_seed(0)
    noise, goes_on = LastingNoise((2.0, 8.0, 0.0)), torch.zeros(2_000, dtype=torch.bool)
    drawn = torch.stack([noise.draw(goes_on) for _ in range(6)])
    assert torch.all((drawn.std(dim=1) - 1).abs() < 0.06), "as wide at every decision"

    def alike(one: torch.Tensor, other: torch.Tensor) -> list[float]:
        return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(one.T, other.T, strict=True)]

    expected = [np.exp(-3 / 2), np.exp(-3 / 8), 0.0]
    np.testing.assert_allclose(alike(drawn[1], drawn[4]), expected, atol=0.07)
    half = torch.arange(2_000) < 1_000
    after = noise.draw(half)
    assert max(np.abs(alike(after[half], drawn[-1][half]))) < 0.1
    assert alike(after[~half], drawn[-1][~half])[1] == pytest.approx(np.exp(-1 / 8), abs=0.07)
