"""The pieces that benchmark figures rest on, each against a case whose answer is known."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sanawm_gym.envs.reference.caption import caption
from sanawm_gym.envs.reference.scene import sample_scene
from sanawm_gym.validate import picture_distance
from sanawm_gym.worldmodel import SanaWM
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.folder import read_config

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

Part = Callable[[str], ModuleType]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Part:
    """Imports a benchmark's module, which finds its neighbours as a script does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_ms_ssim_of_flat_pictures_is_its_luminance_term(part: Part) -> None:
    structure = part("structure")
    dark, light = (np.full((2, 72, 128, 3), grey, dtype=np.uint8) for grey in (100, 140))
    c_1, _ = structure.STABLE
    luminance = (2 * 100 * 140 + c_1) / (100**2 + 140**2 + c_1)
    expected = luminance ** structure.WEIGHTS[-1]
    assert structure.ms_ssim(dark, light) == pytest.approx(expected, rel=1e-9)


def test_ms_ssim_tells_equal_from_soft_from_other_pictures(part: Part) -> None:
    structure, rng = part("structure"), np.random.default_rng(0)
    picture = rng.integers(0, 256, (1, 40, 64, 3), dtype=np.uint8)
    wide = np.pad(picture, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(float)
    soft = (wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1] + 2 * picture) / 4
    other = rng.integers(0, 256, picture.shape, dtype=np.uint8)
    found = [structure.ms_ssim(picture, one) for one in (picture, soft.astype(np.uint8), other)]
    assert found[0] == pytest.approx(1.0) and 0.3 < found[1] < 0.99 and found[2] < 0.2


def test_captions_are_read_as_their_scenes_are(part: Part) -> None:
    """New words in the simulator's captions must not pass for neither of two."""
    attributes = part("attributes").ATTRIBUTES
    for seed in range(400):
        scene = sample_scene(seed)
        text = caption(scene, seed)
        count, day = scene.num_vehicles, scene.hour in ("morning", "noon", "afternoon")
        expected = {
            "night": True if scene.hour == "night" else False if day else None,
            "rain": True
            if scene.weather == "rain"
            else False
            if scene.weather in ("clear", "cloudy", "overcast")
            else None,
            "curves": True
            if scene.kind == "mountain" or "winding" in text
            else False
            if scene.kind in ("highway", "desert")
            else None,
            "traffic": True if count > 7 else False if count == 0 else None,
        }
        assert {name: one.read(text) for name, one in attributes.items()} == expected, text


def test_asking_for_one_attribute_leaves_the_others_as_they_were(part: Part) -> None:
    attributes = part("attributes").ATTRIBUTES
    for seed in range(200):
        text = caption(sample_scene(seed), seed)
        for name, attribute in attributes.items():
            asked = attribute.ask(text)
            assert attribute.read(asked) is True, asked
            for other in attributes.keys() - {name}:
                assert attributes[other].read(asked) == attributes[other].read(text), asked
    with pytest.raises(ValueError, match="tells of night"):
        attributes["night"].ask("a road")


def test_a_judge_learns_what_is_there_and_nothing_from_knowing_the_drives(part: Part) -> None:
    """Moments of a drive are much alike: were they spread over the folds, any label would do."""
    judge, rng = part("judge"), np.random.default_rng(0)
    labels = rng.permutation(np.arange(80) < 24)
    drives = 3 * rng.standard_normal((80, 1, 20)) + 0.3 * rng.standard_normal((80, 8, 20))
    told = drives.copy()
    told[..., 0] += np.where(labels, 9.0, -9.0)[:, None]
    view = judge.View.of(told)
    found = judge.accuracy(view(told), labels)
    assert found["balanced"] > 0.9 and found["drives"] == [24, 56]
    assert abs(judge.accuracy(judge.View.of(drives)(drives), labels)["balanced"] - 0.5) < 0.2
    # Said as often as it is so, not as often as is safe.
    assert judge.train_judge(view(told), labels).sees(view(told)).sum() == 24


def test_windows_reach_from_the_first_to_the_last_second(part: Part) -> None:
    rides = part("rides")
    given = {"world": "drive", "policy": "cloned", "seed": 0}
    config = rides.RideConfig(seconds=600, window=10, windows=13, **given)
    assert config.begins[0] == 0 and config.begins[-1] == 4 * 590
    assert set(np.diff(config.begins)) <= {196, 197}
    with pytest.raises(ValueError, match="do not overlap"):
        rides.RideConfig(seconds=60, window=10, windows=7, **given)


def test_a_drive_collapses_where_it_blurs_burns_or_fails_and_not_where_it_varies(
    part: Part,
) -> None:
    drift, rides = part("drift"), part("rides")

    def pictures(sharpness: float, latent_std: float) -> object:
        flat = np.ones(4)
        return picture_distance.Pictures(
            features=np.ones((4, 3)), colours=np.ones((4, 2)), sharpness=sharpness * flat,
            latent_std=latent_std * flat,
        )  # fmt: skip

    references = [pictures(5.0, 0.9), pictures(9.0, 1.1)]
    cases = [
        (5.0, 0.9, True),
        (12.0, 1.0, True),
        (3.0, 1.0, True),
        (9.0, 2.0, True),
        (6.0, 1.0, False),
    ]
    drives = [pictures(*case[:2]) for case in cases]
    fields = [field.name for field in dataclasses.fields(picture_distance.Pictures)]
    found = rides.Rides(
        **{name: np.stack([getattr(one, name) for one in drives])[:, None] for name in fields},
        alive=np.array([[bool(case[2])] for case in cases]),
        metres=np.zeros(5),
        sheet=np.zeros((5, 1, 2, 2, 3), np.uint8),
    )
    assert drift.collapsed(found, references)[:, 0].tolist() == [False, False, True, True, True]
    assert len(found.at(0).sharpness) == 16, "a failed drive has no pictures to compare"


def test_yaw_adds_up_over_the_drives_that_lasted(part: Part) -> None:
    steering = part("steering")
    turning = np.tile([0.1, 0.12], (40, 1))
    drives = [turning, -turning, turning[:20]]
    totals = np.rad2deg([[1.0, 1.2], [-1.0, -1.2]])
    np.testing.assert_allclose(steering.turned(drives, 10.0), totals)
    grown = steering.growth(drives, 10.0)
    assert grown["drives"] == [3] * 5 + [2] * 5
    np.testing.assert_allclose(grown["median_error"], np.rad2deg(0.02) * np.arange(1, 11))


@torch.no_grad()
def test_a_stream_put_together_is_as_large_as_one_that_was_driven(part: Part, world: str) -> None:
    flat_cost = part("flat_cost")
    config = read_config(Path(world) / "network.json", SanaWMConfig)
    for one in flat_cost.variants(config).values():
        network = SanaWM(one).eval()
        given = flat_cost.inputs(network, (40, 64), (5, 8), "cpu")
        driven = network.initial_state(1, 5, 8)
        for _ in range(5):
            driven = flat_cost.decide(network, driven, given)
        made = flat_cost.aged(network, (5, 8), 5, "cpu")
        assert {k: x.shape for k, x in made.tensors().items()} == {
            k: x.shape for k, x in driven.tensors().items()
        }
        assert torch.equal(made.num_chunks, driven.num_chunks)
