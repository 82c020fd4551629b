"""Heads: what they read, how it comes out of a step, and how they travel with their world."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.worldmodel import SanaWM, WorldModel
from sanawm_gym.worldmodel.camera_condition import moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.contexts import load_context
from sanawm_gym.worldmodel.heads import (
    NUM_NUMBERS,
    QUANTITIES,
    Heads,
    HeadsConfig,
    fingerprint,
    load_heads,
)
from sanawm_gym.worldmodel.token_ground import token_ground
from sanawm_gym.worldmodel.world_state import WorldState
from tests.worldmodel.test_world import ahead, begin

CONFIG = HeadsConfig(channels=32, grid=(5, 8), width=4, hidden=8)


@pytest.fixture
def model(world: str) -> WorldModel:
    """The tiny world of the other tests, with heads of random weights."""
    model = WorldModel.from_pretrained(world, dtype="float32")
    torch.manual_seed(0)
    heads = Heads(dataclasses.replace(CONFIG, network=fingerprint(model.network)))
    heads.scale.fill_(2.0)
    return WorldModel(model.config, model.network, model.autoencoder, model.text_encoder, heads)


@torch.no_grad()
def test_the_clean_pass_gives_the_same_memory_and_the_features_of_an_unroll(
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    changes = {"chunk_size": 1, "chunk_split": "uniform", "sink": False}
    network = make_network(dataclasses.replace(tiny, **changes))
    scene = make_scene(network.config, 4)
    camera, _ = moving_camera(
        scene.raw_poses, scene.intrinsics_px, config=network.config, **scene.geometry
    )
    text = scene.text(network)
    clean = torch.zeros_like(scene.timestep)
    state = network.initial_state(2, 3, 4)
    unrolled = network.unroll(scene.x, clean, text, camera, state)
    for index in range(4):
        now = (text, camera.frames(index, index + 1), state)
        x = scene.x[:, :, index : index + 1]
        _, expected = network.step(x, clean[:, :1], *now, update_state=True)
        features, state = network.remember(x, *now)
        for name, value in expected.tensors().items():
            assert torch.equal(state.tensors()[name], value), name
        assert relative_error(features[:, 0], unrolled.features[:, index]) < 1e-5


def test_reading_changes_nothing_that_is_drawn(model: WorldModel, world: str) -> None:
    plain = WorldModel.from_pretrained(world, dtype="float32")
    drawn = []
    for each in (model, plain):
        state = begin(each, world, ["road-0"], [3])
        for _ in range(2):
            frames, state = each.step(state, ahead(state))
        drawn.append(frames.tobytes())
    assert drawn[0] == drawn[1]


def test_a_world_perceives_from_its_start_on_and_row_by_row(model: WorldModel, world: str) -> None:
    state = begin(model, world, ["road-0", "road-1"], [3, 8])
    first = model.perceive(state)
    assert first.mean.shape == first.deviation.shape == (2, len(QUANTITIES))
    _, after = model.step(state, ahead(state))
    seen = model.perceive(after)
    assert not torch.allclose(seen.mean, first.mean)
    other = begin(model, world, ["road-1"], [8])
    _, alone = model.step(other, ahead(other))
    torch.testing.assert_close(model.perceive(alone).mean[0], seen.mean[1], rtol=0, atol=1e-3)
    joined = WorldState.concat([after.select([1]), after.select([0, 0])])
    assert torch.equal(model.perceive(joined).mean, seen.mean[[1, 0, 0]])


def test_readings_have_names_units_and_sound_deviations(model: WorldModel, world: str) -> None:
    seen = model.perceive(begin(model, world, ["road-0"], [3]))
    (row,) = seen.rows()
    assert list(row) == list(QUANTITIES)
    for name, quantity in QUANTITIES.items():
        mean, deviation = seen[name]
        assert row[name] == {"mean": mean.item(), "deviation": deviation.item()}
        assert deviation.item() > 0
        if quantity.kind == "chance":
            assert deviation.item() == pytest.approx((mean.item() * (1 - mean.item())) ** 0.5)


@torch.no_grad()
def test_calibration_scales_what_is_read_about_the_usual_answer() -> None:
    heads = Heads(CONFIG)
    seen = torch.randn(3, 40, 32), torch.randn(3, 40, 3)
    cold = heads.read(*seen)
    heads.temperature.fill_(2.0)
    heads.slope.fill_(0.5)
    heads.bias.fill_(1.0)
    heads.offset.fill_(7.0)
    warm = heads.read(*seen)
    torch.testing.assert_close(warm.mean[:, :NUM_NUMBERS], 7.0 + 0.5 * cold.mean[:, :NUM_NUMBERS])
    torch.testing.assert_close(warm.deviation[:, :NUM_NUMBERS], 2 * cold.deviation[:, :NUM_NUMBERS])
    torch.testing.assert_close(
        warm.mean[:, NUM_NUMBERS:].logit(), cold.mean[:, NUM_NUMBERS:].logit() / 2 + 1
    )


def test_the_ground_behind_a_cell_is_where_its_ray_meets_the_plane() -> None:
    """A level camera 1.5 m up sees the ground at depth f h / (v - cy)."""
    pose = torch.from_numpy(camera_poses(planar_pose(3.0, 4.0, 0.7), CameraRig(z=1.5)))[None]
    lens = torch.tensor([[60.0, 50.0, 32.0, 20.0]], dtype=torch.float64)
    ground = token_ground(pose, lens, (5, 8), 8).view(5, 8, 3)
    depth = 50.0 * 1.5 / (36.0 - 20.0)
    torch.testing.assert_close(ground[4, 1, 0].item(), 10 / depth)
    torch.testing.assert_close(ground[4, 1, 1].item(), (12.0 - 32.0) / 60.0 * depth / 10)
    assert torch.equal(ground[:2], torch.zeros(2, 8, 3))
    assert torch.equal(ground[3:, :, 2], torch.ones(2, 8))
    assert ground[2:, :, 1].abs().max() <= 2.0


def test_heads_travel_with_their_world_and_a_saved_state(
    model: WorldModel, world: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = WorldModel.from_pretrained(tmp_path, dtype="float32")
    state = begin(model, world, ["road-2"], [1])
    state.save(tmp_path / "state.safetensors")
    restored = state.with_tensors(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(again.perceive(restored).mean, model.perceive(state).mean)
    WorldModel.from_pretrained(world).save_pretrained(tmp_path)
    assert WorldModel.from_pretrained(tmp_path).heads is None
    assert not list(tmp_path.glob("heads.*"))


def test_a_world_without_heads_says_so(model: WorldModel, world: str) -> None:
    plain = WorldModel.from_pretrained(world, dtype="float32")
    state = begin(plain, world, ["road-0"], [3])
    assert state.features is None
    with pytest.raises(ValueError, match="this world has no heads"):
        plain.perceive(state)
    with pytest.raises(ValueError, match="the world that drew this state has no heads"):
        model.perceive(state)
    with pytest.raises(ValueError, match="with and without heads"):
        WorldState.concat([state, begin(model, world, ["road-0"], [3])])


def test_heads_of_other_weights_are_loaded_with_a_warning(
    model: WorldModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    assert load_heads(tmp_path, model.network) is not None
    changed = SanaWM(model.network.config)
    with pytest.warns(UserWarning, match="train them again"):
        assert load_heads(tmp_path, changed) is not None


def test_a_fingerprint_knows_the_weights_and_not_their_precision(model: WorldModel) -> None:
    network = SanaWM(model.network.config)
    network.load_state_dict(model.network.state_dict())
    assert fingerprint(network) == fingerprint(model.network)
    assert fingerprint(network.bfloat16()) == fingerprint(model.network)
    with torch.no_grad():
        network.final_layer.scale_shift_table += 1.0
    assert fingerprint(network) != fingerprint(model.network)


def test_heads_of_another_network_are_refused(model: WorldModel) -> None:
    parts = (model.config, model.network, model.autoencoder, model.text_encoder)
    for changes in ({"channels": 16}, {"grid": (4, 8)}):
        with pytest.raises(ValueError, match="train heads for this network"):
            WorldModel(*parts, Heads(dataclasses.replace(CONFIG, **changes)))
    with pytest.raises(ValueError, match="range above 0"):
        dataclasses.replace(CONFIG, lead_range=0.0)


def test_heads_read_the_context_that_a_drive_starts_from(model: WorldModel, world: str) -> None:
    """The features of a start are those of its last frame, whatever came before."""
    clip = load_context("road-2", world)
    poses = begin(model, world, ["road-2"], [0]).last_pose.numpy()
    shorter = model.start(
        clip.frames[None, -1:],
        prompts=[clip.caption],
        intrinsics=clip.intrinsics.as_array()[None],
        seeds=[0],
        poses=poses[:, None],
    )
    whole = begin(model, world, ["road-2"], [0])
    assert whole.features is not None and shorter.features is not None
    assert whole.features.shape == shorter.features.shape == (1, 40, 32)
    assert not np.allclose(whole.features.numpy(), shorter.features.numpy())
