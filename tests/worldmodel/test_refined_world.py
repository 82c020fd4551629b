"""A world with a refiner: the draft goes on undisturbed, and what is shown is a value as well."""

import dataclasses
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import sanawm_gym
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.engine import FrameCodec
from sanawm_gym.worldmodel.fused import FusedAutoencoder
from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig
from sanawm_gym.worldmodel.refiner.folder import save_refiner
from sanawm_gym.worldmodel.world_state import WorldState
from tests.conftest import random_weights
from tests.worldmodel.test_world import ahead, begin, drive

TINY = RefinerConfig(
    in_channels=4,
    num_layers=2,
    num_attention_heads=2,
    head_dim=12,
    caption_channels=16,
    strides=(4, 8, 8),
    max_position=(2.0, 40.0, 64.0),
    rope_theta=100.0,
    positions="window",
    block_frames=1,
    window_frames=3,
    sigmas=(0.6, 0.3),
)


class Telling:
    """A codec, and what it has been given to decode."""

    def __init__(self, codec: FrameCodec, decoded: list[Tensor]) -> None:
        self.encode_group, self._codec, self._decoded = codec.encode_group, codec, decoded

    def decode_step(
        self, latents: Tensor, memory: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        self._decoded.append(latents)
        return self._codec.decode_step(latents, memory)


@pytest.fixture(scope="module")
def refined_world(world: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the tiny world with a refiner of random weights."""
    folder = tmp_path_factory.mktemp("refined") / "world"
    shutil.copytree(world, folder)
    torch.manual_seed(0)
    refiner = Refiner(TINY)
    random_weights(refiner)
    save_refiner(folder, refiner)
    return str(folder)


@pytest.fixture(scope="module")
def model(refined_world: str) -> WorldModel:
    return WorldModel.from_pretrained(refined_world, dtype="float32", refine=True)


def test_the_draft_is_what_it_is_without_a_refiner(model: WorldModel, refined_world: str) -> None:
    plain = WorldModel.from_pretrained(refined_world, dtype="float32")
    assert plain.refiner is None
    shown, refined = drive(model, begin(model, refined_world, ["road-0"], [3]), 4)
    drawn, draft = drive(plain, begin(plain, refined_world, ["road-0"], [3]), 4)
    assert np.abs(shown.astype(int) - drawn.astype(int)).mean() > 1
    for name, tensor in draft.tensors().items():
        assert torch.equal(tensor, refined.tensors()[name]), name


def test_the_chosen_backend_decodes_draft_and_refined_pictures_alike(refined_world: str) -> None:
    shown = []
    for backend in ("plain", "fused"):
        world = WorldModel.from_pretrained(
            refined_world, dtype="float32", refine=True, backend=backend
        )
        decoded: list[Tensor] = []
        codec = world.engine.codec
        world._engine = dataclasses.replace(world.engine, codec=Telling(codec, decoded))
        frames, state = drive(world, begin(world, refined_world, ["road-0"], [3]), 3)
        shown.append(frames.astype(int))
        assert state.refined is not None
        assert len(decoded) == 6
        assert torch.equal(decoded[-1][:, :, -1], state.refined.latent)
        assert isinstance(codec, FusedAutoencoder) == (backend == "fused")
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_a_batch_of_any_ages_shows_what_its_rows_show_alone(
    model: WorldModel, refined_world: str
) -> None:
    # One has a clip of three latent frames behind it and five steps, the other two frames.
    _, old = drive(model, begin(model, refined_world, ["road-2"], [3]), 5)
    young = begin(model, refined_world, ["road-1"], [4])
    joined, _ = drive(model, WorldState.concat([old, young]), 2)
    for row, state in enumerate((old, young)):
        alone, _ = drive(model, state, 2)
        assert np.abs(joined[row].astype(int) - alone[0].astype(int)).max() <= 1


def test_a_saved_state_and_a_fork_go_on_byte_for_byte(
    model: WorldModel, refined_world: str, tmp_path: Path
) -> None:
    _, state = drive(model, begin(model, refined_world, ["road-0"], [3]), 2)
    state.save(tmp_path / "state.safetensors")
    restored = state.with_tensors(load_file(tmp_path / "state.safetensors"))
    expected, _ = drive(model, state, 2)
    assert drive(model, restored, 2)[0].tobytes() == expected.tobytes()
    assert drive(model, state.select([0]), 2)[0].tobytes() == expected.tobytes()


def test_the_size_of_a_refined_state_stays(model: WorldModel, refined_world: str) -> None:
    state = begin(model, refined_world, ["road-0"], [3])
    assert drive(model, state, 4)[1].num_bytes == state.num_bytes


def test_a_camera_at_rest_sees_a_picture_at_rest(refined_world: str) -> None:
    moving = WorldModel.from_pretrained(refined_world, dtype="float32", refine=True)
    still = WorldModel(
        dataclasses.replace(moving.config, still_way=0.75),
        moving.network,
        moving.autoencoder,
        moving.text_encoder,
        refiner=moving.refiner,
    )
    gaps = []
    for world in (moving, still):
        state = begin(world, refined_world, ["road-0"], [3])
        _, after = world.step(state, ahead(state, speed=0.0))
        assert state.refined is not None and after.refined is not None
        gaps.append(float((after.refined.latent - state.refined.latent).abs().max()))
    assert gaps[0] > 0.1
    assert gaps[1] == 0.0


def test_a_refined_world_is_saved_whole(
    model: WorldModel, refined_world: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = WorldModel.from_pretrained(tmp_path, dtype="float32", refine=True)
    first, _ = drive(model, begin(model, refined_world, ["road-0"], [3]), 1)
    second, _ = drive(again, begin(again, refined_world, ["road-0"], [3]), 1)
    assert first.tobytes() == second.tobytes()


def test_a_world_without_a_refiner_says_so(world: str) -> None:
    with pytest.raises(ValueError, match="has no refiner"):
        WorldModel.from_pretrained(world, refine=True)


def test_a_state_without_a_refined_stream_is_refused(model: WorldModel, refined_world: str) -> None:
    plain = WorldModel.from_pretrained(refined_world, dtype="float32")
    state = begin(plain, refined_world, ["road-0"], [3])
    with pytest.raises(ValueError, match="without a refiner"):
        model.step(state, ahead(state))
    with pytest.raises(ValueError, match="with and without a refiner"):
        WorldState.concat([state, begin(model, refined_world, ["road-0"], [3])])


def test_the_environment_shows_refined_pictures_when_asked(refined_world: str) -> None:
    sanawm_gym.register_envs()
    shown = []
    for refine in (False, True):
        env = gym.make("SanaWM-Drive-v0", world=refined_world, refine=refine, dtype="float32")
        env.reset(seed=0)
        observation, *_ = env.step(np.zeros(2, dtype=np.float32))
        snapshot = env.unwrapped.snapshot()
        following, *_ = env.step(np.zeros(2, dtype=np.float32))
        env.unwrapped.restore(snapshot)
        again, *_ = env.step(np.zeros(2, dtype=np.float32))
        assert np.array_equal(following["camera"], again["camera"])
        shown.append(observation["camera"].astype(int))
        env.close()
    assert np.abs(shown[0] - shown[1]).mean() > 1
