"""Every stage trains on real files, resumes exactly and learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.train_wm.autoencoder_stage import AutoencoderStageConfig, run_autoencoder_stage
from sanawm_gym.train_wm.bundle_stage import BundleStageConfig, run_bundle_stage
from sanawm_gym.train_wm.heads_features import shorten
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.stream_stage import (
    StreamObjective,
    StreamStageConfig,
    run_stream_stage,
)
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.contexts import list_contexts, load_context
from tests.train_wm.conftest import TINY_AUTOENCODER, TINY_NETWORK


def trainer(out: Path, steps: int, **changes: object) -> TrainerConfig:
    settings = {"steps": steps, "warmup": 2, "save_every": 2, "sample_every": 0, **changes}
    return TrainerConfig(out=out, **settings)  # type: ignore[arg-type]


def stream(latents: Path, autoencoder: Path, run: TrainerConfig) -> StreamStageConfig:
    return StreamStageConfig(
        latents=latents,
        autoencoder=autoencoder,
        trainer=run,
        model=TINY_NETWORK,
        piece=5,
        lanes=2,
    )


def test_the_autoencoder_stage_lowers_its_loss(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "vae"
    run_autoencoder_stage(
        AutoencoderStageConfig(
            data=recording,
            trainer=trainer(out, 30, learning_rate=5e-3, sample_every=30, ema=0.5),
            model=TINY_AUTOENCODER,
            clip_frames=5,
        )
    )
    assert (out / "samples" / "0000030.png").exists()
    weights = load_file(out / "autoencoder.safetensors")
    assert float(weights["latents_std"].min()) > 0
    assert not torch.equal(weights["latents_mean"], torch.zeros(4))


def test_latent_clips_keep_their_cameras(latents: Path) -> None:
    train, held_out = load_latent_clips(latents)
    assert len(train) == 4
    assert len(held_out) == 2
    for clip in train + held_out:
        frames = 4 * (clip.latents.shape[0] - 1) + 1
        assert clip.poses.shape == (frames, 4, 4)
        assert clip.caption


def test_the_streaming_stage_overfits_one_clip(
    latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    shallow = replace(TINY_NETWORK, num_layers=2, softmax_every_n=2)
    config = replace(stream(latents, autoencoder, trainer(tmp_path, 1)), model=shallow)
    torch.manual_seed(0)
    objective = StreamObjective(config, torch.device("cpu"))
    optimizer = torch.optim.AdamW(objective.trained().parameters(), 3e-3)
    losses = []
    for step in range(20):
        loss, _ = objective(objective.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_no_held_out_clip_long_enough_to_draw_is_no_reason_to_stop(
    latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    made = StreamObjective(stream(latents, autoencoder, trainer(tmp_path, 1)), torch.device("cpu"))
    made.held_out_clips = [shorten(clip, 4) for clip in made.held_out_clips]
    assert made.sample(made.weights, tmp_path / "sample.png") == {}


def test_a_bundled_world_starts_and_steps(
    recording: Path, latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    run_stream_stage(stream(latents, autoencoder, trainer(tmp_path / "net", 2)))
    folder = tmp_path / "world"
    run_bundle_stage(
        BundleStageConfig(
            autoencoder=autoencoder,
            network=tmp_path / "net",
            contexts=recording,
            out=folder,
            num_contexts=2,
            context_frames=5,
        )
    )
    assert list_contexts(folder) == ["000", "001"]
    context = load_context("001", folder)
    world = WorldModel.from_pretrained(folder, dtype="float32")
    mount = camera_poses(planar_pose(0.0, 0.0, 0.0), CameraRig(z=context.camera_height))
    poses = mount @ context.poses[None]
    state = world.start(
        context.frames[None],
        prompts=[context.caption],
        intrinsics=context.intrinsics.as_array()[None],
        seeds=[0],
        poses=poses,
    )
    frames, _ = world.step(state, poses[:, -1:].repeat(4, axis=1))
    assert frames.shape == (1, 4, 72, 128, 3)


def test_a_run_that_stops_early_ends_with_what_its_longer_schedule_had(
    latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    run_stream_stage(stream(latents, autoencoder, trainer(early, 6, stop_at=2)))
    run_stream_stage(stream(latents, autoencoder, trainer(late, 6, stop_at=4)))
    run_stream_stage(stream(latents, autoencoder, trainer(early, 6, stop_at=4)))
    name = "network.safetensors"
    assert (early / name).read_bytes() == (late / name).read_bytes()
    with pytest.raises(ValueError, match="stop_at must lie in"):
        trainer(late, 6, stop_at=7)
