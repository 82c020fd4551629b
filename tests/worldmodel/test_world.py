"""A world driven by poses: determinism, independence of rows, forks, constant size, refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.contexts import StartContext, list_contexts, load_context
from sanawm_gym.worldmodel.world import WorldConfig
from sanawm_gym.worldmodel.world_state import WorldState


@pytest.fixture
def model(world: str) -> WorldModel:
    return WorldModel.from_pretrained(world, dtype="float32")


def begin(model: WorldModel, world: str, names: list[str], seeds: list[int]) -> WorldState:
    clips = [load_context(name, world) for name in names]
    return model.start(
        np.stack([clip.frames for clip in clips]),
        prompts=[clip.caption for clip in clips],
        intrinsics=np.stack([clip.intrinsics.as_array() for clip in clips]),
        seeds=seeds,
        poses=np.stack([level(clip) for clip in clips]),
    )


def level(clip: StartContext) -> np.ndarray:
    """The clip's poses with its first camera level above the ground."""
    return camera_poses(planar_pose(0.0, 0.0, 0.0), CameraRig(z=clip.camera_height)) @ clip.poses


def ahead(state: WorldState, turn: float = 0.0, speed: float = 0.5) -> np.ndarray:
    """The next four poses: ``speed`` metres and ``turn`` radians a raw frame from the last one."""
    poses = []
    pose = state.last_pose.numpy()
    move = np.eye(4)
    move[:3, :3] = [
        [np.cos(turn), 0, np.sin(turn)],
        [0, 1, 0],
        [-np.sin(turn), 0, np.cos(turn)],
    ]
    move[2, 3] = speed
    for _ in range(4):
        pose = pose @ move
        poses.append(pose)
    return np.stack(poses, axis=1)


def drive(model: WorldModel, state: WorldState, steps: int) -> tuple[np.ndarray, WorldState]:
    drawn = []
    for _ in range(steps):
        frames, state = model.step(state, ahead(state))
        drawn.append(frames)
    return np.concatenate(drawn, axis=1), state


def test_the_same_seed_draws_the_same_bytes(model: WorldModel, world: str) -> None:
    first, _ = drive(model, begin(model, world, ["road-0"], [3]), 3)
    again, _ = drive(model, begin(model, world, ["road-0"], [3]), 3)
    other, _ = drive(model, begin(model, world, ["road-0"], [4]), 3)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_row_of_a_batch_equals_the_drive_alone(model: WorldModel, world: str) -> None:
    together, _ = drive(model, begin(model, world, ["road-0", "road-1"], [3, 8]), 4)
    alone, _ = drive(model, begin(model, world, ["road-1"], [8]), 4)
    difference = np.abs(together[1].astype(int) - alone[0].astype(int))
    assert difference.max() <= 1


def test_a_step_leaves_its_state_unchanged(model: WorldModel, world: str) -> None:
    state = begin(model, world, ["road-0"], [3])
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    model.step(state, ahead(state))
    for name, tensor in state.tensors().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, msg=name)


def test_a_fork_goes_on_like_the_original(model: WorldModel, world: str) -> None:
    _, state = drive(model, begin(model, world, ["road-0"], [3]), 2)
    forks, _ = drive(model, state.select([0, 0]), 2)
    alone, _ = drive(model, state, 2)
    assert np.abs(forks.astype(int) - alone.astype(int)).max() <= 1


def test_a_saved_state_goes_on_byte_for_byte(model: WorldModel, world: str, tmp_path: Path) -> None:
    _, state = drive(model, begin(model, world, ["road-0"], [3]), 2)
    state.save(tmp_path / "state.safetensors")
    restored = state.with_tensors(load_file(tmp_path / "state.safetensors"))
    assert drive(model, restored, 2)[0].tobytes() == drive(model, state, 2)[0].tobytes()


def test_rows_of_different_ages_stand_in_one_batch(model: WorldModel, world: str) -> None:
    _, old = drive(model, begin(model, world, ["road-0"], [3]), 5)
    young = begin(model, world, ["road-1"], [4])
    joined, _ = drive(model, WorldState.concat([old, young]), 2)
    for row, state in enumerate((old, young)):
        alone, _ = drive(model, state, 2)
        assert np.abs(joined[row].astype(int) - alone[0].astype(int)).max() <= 1


def test_a_long_drive_keeps_its_size_and_stays_finite(model: WorldModel, world: str) -> None:
    _, state = drive(model, begin(model, world, ["road-0"], [3]), 2)
    size = state.num_bytes
    for _ in range(150):
        _, state = model.step(state, ahead(state, turn=0.002, speed=20.0 / model.fps))
    assert state.num_bytes == size
    assert bool(state.latent.isfinite().all())
    assert float(state.last_pose[0, :3, 3].norm()) > 300.0


def test_where_on_the_ground_the_world_frame_lies_does_not_matter(
    model: WorldModel, world: str
) -> None:
    clip = load_context("road-0", world)
    moved = np.eye(4)
    moved[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    moved[:3, 3] = [4000.0, -300.0, 0.0]
    videos = []
    for poses in (level(clip), moved @ level(clip)):
        state = model.start(
            clip.frames[None],
            prompts=[clip.caption],
            intrinsics=clip.intrinsics.as_array()[None],
            seeds=[0],
            poses=poses[None],
        )
        videos.append(drive(model, state, 3)[0].astype(int))
    assert np.abs(videos[0] - videos[1]).max() <= 1


def test_saving_and_loading_gives_the_same_world(
    model: WorldModel, world: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = WorldModel.from_pretrained(tmp_path, dtype="float32")
    first, _ = drive(model, begin(model, world, ["road-0"], [1]), 2)
    second, _ = drive(again, begin(again, world, ["road-0"], [1]), 2)
    assert first.tobytes() == second.tobytes()
    assert list_contexts(tmp_path) == []


def test_weights_that_do_not_fit_are_all_named(model: WorldModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    text = (tmp_path / "network.json").read_text()
    (tmp_path / "network.json").write_text(text.replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(ValueError, match=r"missing blocks\.2\.scale_shift_table"):
        WorldModel.from_pretrained(tmp_path)


def test_an_unknown_world_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="expected one of the bundled worlds"):
        WorldModel.from_pretrained("no-such-world")


def test_words_the_world_never_learnt_are_named(model: WorldModel, world: str) -> None:
    clip = load_context("road-0", world)
    with pytest.warns(UserWarning, match="never learnt the words \\['unicorns'\\]"):
        model.start(
            clip.frames[None, 0],
            prompts=["unicorns at noon"],
            intrinsics=clip.intrinsics.as_array()[None],
            seeds=[0],
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((1, 8, 8, 3), np.uint8)}, "pictures are 8x8, expected 64x40"),
        ({"images": np.zeros((1, 40, 64, 3), np.float32)}, "expected uint8"),
        ({"prompts": []}, "expected one of each a row"),
        ({"poses": np.full((1, 1, 4, 4), np.nan)}, "finite"),
    ],
)
def test_a_bad_start_is_refused(
    model: WorldModel, world: str, change: dict[str, object], message: str
) -> None:
    clip = load_context("road-0", world)
    good: dict[str, object] = {
        "images": clip.frames[None, 0],
        "prompts": [clip.caption],
        "intrinsics": clip.intrinsics.as_array()[None],
        "seeds": [0],
        "poses": None,
    }
    arguments = good | change
    with pytest.raises(ValueError, match=message):
        model.start(arguments.pop("images"), **arguments)  # type: ignore[arg-type]


def test_a_clip_without_poses_is_refused(model: WorldModel, world: str) -> None:
    clip = load_context("road-0", world)
    with pytest.raises(ValueError, match="5 frames without poses"):
        model.start(
            clip.frames[None],
            prompts=[clip.caption],
            intrinsics=clip.intrinsics.as_array()[None],
            seeds=[0],
        )


def test_the_picture_of_a_camera_at_rest_stands_still(model: WorldModel, world: str) -> None:
    config = dataclasses.replace(model.config, still_way=1.0)
    still = WorldModel(config, model.network, model.autoencoder, model.text_encoder)
    _, state = drive(still, begin(still, world, ["road-0", "road-1"], [3, 4]), 2)
    poses = ahead(state, speed=0.0)
    poses[1] = ahead(state, speed=0.3)[1]
    _, after = still.step(state, poses)
    assert torch.equal(after.latent[0], state.latent[0])
    # A metre or more is drawn as if nothing were held.
    free = model.step(state, poses)[1]
    assert torch.equal(after.latent[1], free.latent[1])
    with pytest.raises(ValueError, match="still_way"):
        WorldConfig(still_way=-1.0)


def guided(model: WorldModel, scale: float) -> WorldModel:
    config = dataclasses.replace(model.config, guidance=scale)
    return WorldModel(config, model.network, model.autoencoder, model.text_encoder)


def test_guidance_goes_on_from_the_empty_prompt_through_the_one_given(
    model: WorldModel, world: str
) -> None:
    state = begin(model, world, list_contexts(world)[:2], [3, 4])
    drawn = {
        scale: guided(model, scale).step(state, ahead(state))[1].latent for scale in (0.0, 1.0, 2.5)
    }
    plain = model.step(state, ahead(state))[1].latent
    assert torch.equal(drawn[1.0], plain)
    assert (plain - drawn[0.0]).abs().max() > 1e-4
    torch.testing.assert_close(
        drawn[2.5], drawn[0.0] + 2.5 * (plain - drawn[0.0]), atol=1e-4, rtol=1e-4
    )


def test_guidance_without_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance=-1"):
        WorldConfig(guidance=-1.0)


def test_a_schedule_that_rises_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sigmas must fall from 1\.0"):
        WorldConfig(sigmas=(1.0, 0.2, 0.5))
