"""From driving video to a fine-tuned release that drives: every part real, at tiny size."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import tyro
import yaml

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.ingest.config import IngestConfig
from sanawm_gym.ingest.job import ingest
from sanawm_gym.train_wm.fine_tune_stage import (
    FineTuneObjective,
    FineTuneStageConfig,
    run_fine_tune_stage,
)
from sanawm_gym.train_wm.frames import to_signed
from sanawm_gym.train_wm.official_clips import load_official_clips
from sanawm_gym.train_wm.recording import ReadingConfig, Recording
from sanawm_gym.train_wm.released_latents_stage import (
    ReleasedLatentsStageConfig,
    run_released_latents_stage,
)
from sanawm_gym.train_wm.released_weights import Release
from sanawm_gym.train_wm.stages import STAGES
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.video import write_video
from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.refiner.lora import LoraConfig

from .components import SIZE, TEXT_WIDTH, autoencoder, gemma2, tokenizer
from .conftest import RELEASED, YAML, reference_network, write_streaming

NETWORK = dataclasses.replace(RELEASED, in_channels=8, caption_channels=TEXT_WIDTH)


def write_drive(root: Path, name: str, num_frames: int) -> None:
    """A video with one pose a picture beside it, as others keep their drives."""
    ramp = np.linspace(20, 180, SIZE[1])[None, :, None]
    frames = [
        np.broadcast_to(ramp + i % 40, (*SIZE, 3)).astype(np.uint8) for i in range(num_frames)
    ]
    write_video(root / f"{name}.mp4", frames, 16.0)
    seconds = np.arange(num_frames) / 16.0
    path = camera_poses(planar_pose(13.0 * seconds, 0.0, 0.02 * seconds), CameraRig())
    np.savez(root / f"{name}.npz", c2w=path)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`SANA-WM_streaming` with its own text encoder beside, at tiny size."""
    root = tmp_path_factory.mktemp("release") / "streaming"
    write_streaming(root, reference_network(NETWORK))
    autoencoder().save_pretrained(root / "ltx2_causal_vae")
    gemma2().save_pretrained(root / "text_encoder")
    tokenizer().save_pretrained(root / "tokenizer")
    scheduler = {"denoising_step_list": [1000, 727, 0], "inference_flow_shift": 8.0}
    (root / "config.yaml").write_text(yaml.safe_dump({**YAML, "scheduler": scheduler}))
    return root


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory, release: Path) -> ReleasedLatentsStageConfig:
    """Two drives of others, ingested and encoded."""
    root = tmp_path_factory.mktemp("drives")
    (root / "filmed").mkdir()
    for name in ("first", "second"):
        write_drive(root / "filmed", name, 57)
    ingest(
        IngestConfig(
            layout="folder", source=root / "filmed", out=root / "drives", camera_height=1.5,
            fov_deg=70.0, seconds=4.0, min_seconds=2.0, width=SIZE[1], height=SIZE[0],
        )
    )  # fmt: skip
    config = ReleasedLatentsStageConfig(
        data=root / "drives", autoencoder=release / "ltx2_causal_vae", out=root / "latents",
        reading=ReadingConfig(picture=SIZE), clip_frames=25,
    )  # fmt: skip
    run_released_latents_stage(config)
    return config


def test_drives_become_clips_in_the_latents_of_the_release(
    encoding: ReleasedLatentsStageConfig, release: Path
) -> None:
    train, held_out = load_official_clips(encoding.out, picture=SIZE, temporal_stride=8)
    assert [len(train), len(held_out)] == [2, 2]  # 57 frames are two clips of 25
    recording = Recording(encoding.data, encoding.reading)
    frames = recording.frames(recording.episodes[0])
    assert frames is not None
    model = Ltx2Autoencoder.from_folder(release / "ltx2_causal_vae")
    for clip, start in zip(train, (0, 24), strict=True):
        expected = model.encode(to_signed(frames[start : start + 25])[None])[0]
        assert clip.latents.shape == (4, 8, 2, 3)
        torch.testing.assert_close(
            clip.latents.float(), expected.transpose(0, 1), atol=2e-3, rtol=2e-3
        )
        way = clip.poses[-1, :3, 3] - clip.poses[0, :3, 3]
        assert float(way.norm()) == pytest.approx(13.0 * 24 / 16, rel=1e-2)
    # Its first latent is that of the picture alone, as a drive will begin.
    alone = model.encode_picture(to_signed(frames[:1])[None][:, :, 0])
    torch.testing.assert_close(train[0].latents[:1].float(), alone[0].transpose(0, 1), atol=2e-3,
                               rtol=2e-3)  # fmt: skip
    files = sorted((encoding.out / "raw").glob("*.zip"))
    written = [file.stat().st_mtime_ns for file in files]
    run_released_latents_stage(encoding)
    assert [file.stat().st_mtime_ns for file in files] == written
    with pytest.raises(ValueError, match="choose another out"):
        run_released_latents_stage(dataclasses.replace(encoding, clip_frames=49))


def stage(
    release: Path, latents: Path, out: Path, lora: LoraConfig | None = None, **changes: Any
) -> FineTuneStageConfig:
    trainer = TrainerConfig(
        out=out, steps=2, learning_rate=1e-2, warmup=1, ema=0.0, save_every=2, sample_every=0
    )
    settings = {"init": release, "camera_unit_m": 16.0, "clip": 4, "picture": SIZE, **changes}
    return FineTuneStageConfig(
        latents=latents, autoencoder=release / "ltx2_causal_vae", trainer=trainer, lora=lora,
        **settings,
    )  # fmt: skip


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=2.0)])
def test_two_steps_from_a_release_make_a_release_that_drives(
    lora: LoraConfig | None, release: Path, encoding: ReleasedLatentsStageConfig, tmp_path: Path
) -> None:
    config = stage(release, encoding.out, tmp_path / "tuned", lora)
    if lora is None:
        trainer = dataclasses.replace(config.trainer, sample_every=2)
        config = dataclasses.replace(config, trainer=trainer)
    run_fine_tune_stage(config)
    assert (tmp_path / "tuned" / "samples" / "0000002.png").is_file() == (lora is None)
    loading = OfficialConfig(
        height=SIZE[0], width=SIZE[1], text=str(release),
        autoencoder=str(release / "ltx2_causal_vae"),
    )  # fmt: skip
    before = OfficialWorld.from_pretrained(release, dataclasses.replace(loading, dtype="float32"))
    after = OfficialWorld.from_pretrained(
        tmp_path / "tuned", dataclasses.replace(loading, dtype="float32")
    )
    assert after.sampling == before.sampling and after.sampling.timesteps == (1000.0, 727.0)
    assert after.parts.network.config.camera_unit_m == 16.0
    old, new = (world.parts.network.state_dict() for world in (before, after))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert "blocks.0.attn.q_proj_cam.weight" in changed
    assert ("blocks.0.mlp.t_conv.weight" in changed) == (lora is None)
    env = gym.make(
        "SanaWM-Drive-v0", world=tmp_path / "tuned", release=loading, dtype="float32", speed=12.0,
        start=np.full((*SIZE, 3), 90, np.uint8), reward="kinematic", drift=None,
    )  # fmt: skip
    env.reset(seed=0)
    observation, *_, info = env.step(np.array([0.0, 0.0], np.float32))
    assert observation["camera"].std() > 0 and info["raw_frame"] == 24
    # 12 m/s are 0.75 of the network's units a second: within the walk that it knew.
    assert info["departures"] == ""


def test_a_tuning_that_is_stopped_ends_with_the_same_bytes(
    release: Path, encoding: ReleasedLatentsStageConfig, tmp_path: Path
) -> None:
    run_fine_tune_stage(stage(release, encoding.out, tmp_path / "whole"))
    parts = stage(release, encoding.out, tmp_path / "parts")
    run_fine_tune_stage(
        dataclasses.replace(parts, trainer=dataclasses.replace(parts.trainer, stop_at=1))
    )
    stopped = weights_of(tmp_path / "parts")
    run_fine_tune_stage(parts)
    assert stopped != weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def weights_of(folder: Path) -> dict[str, bytes]:
    found = {str(file.relative_to(folder)): file for file in folder.rglob("*.safetensors")}
    assert found
    return {name: file.read_bytes() for name, file in found.items()}


def test_the_losses_levels_are_those_that_the_student_streams_with(
    release: Path, encoding: ReleasedLatentsStageConfig, tmp_path: Path
) -> None:
    config = stage(release, encoding.out, tmp_path / "tuned", batch_size=16)
    found = Release.of(release, 16.0)
    config = dataclasses.replace(config, model=found.model, mode="chunk_causal")
    objective = FineTuneObjective(config, found, torch.device("cpu"))
    batch = objective.batch(0, 0, 1)
    assert set(batch.sigma.unique().tolist()) == {0.0, float(np.float32(0.727)), 1.0}
    assert (batch.sigma[:, 0] == 0).all()
    # The origin is the clip's first picture.
    first = batch.camera.world_from_camera[:, 0]
    torch.testing.assert_close(first, torch.eye(4).expand(16, 4, 4))
    config = dataclasses.replace(config, levels="schedule")
    objective = FineTuneObjective(config, found, torch.device("cpu"))
    assert len(objective.batch(0, 0, 1).sigma.unique()) > 8


def test_the_commands_of_the_page_can_be_given() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "official.md"
    section = page.read_text(encoding="utf-8").split("## Fine-tune it on driving video")[1]
    lines = section.split("```bash\n")[1].split("```")[0].replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("sanawm-gym")]
    assert [words[0] for words in commands] == ["ingest", "train-wm", "train-wm"]
    tyro.cli(IngestConfig, args=commands[0][1:])
    for words in commands[1:]:
        config = tyro.cli(STAGES[words[1]][0], args=words[2:])
    assert config.camera_unit_m == 16 and config.lora.rank == 32


def test_what_cannot_be_tuned_is_refused_first(
    release: Path, encoding: ReleasedLatentsStageConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected the folder of a release"):
        stage(release, encoding.out, tmp_path, init=None)
    with pytest.raises(ValueError, match="released-latents"):
        run_fine_tune_stage(stage(release, encoding.data, tmp_path))
    with pytest.raises(ValueError, match="expected it to be left out"):
        run_fine_tune_stage(stage(release, encoding.out, tmp_path, model=NETWORK))
    with pytest.raises(ValueError, match="a multiple of 24 plus one"):
        dataclasses.replace(encoding, clip_frames=32)
