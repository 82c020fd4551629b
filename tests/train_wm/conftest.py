"""A tiny recording, encoded by a tiny autoencoder: real files that the stages' tests share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from sanawm_gym.envs.reference.record import RecordConfig, record
from sanawm_gym.train_wm.clip_path import Origin
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
from sanawm_gym.train_wm.weights import WorldWeights, make_weights
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.folder import save_module

TINY_AUTOENCODER = VideoAutoencoderConfig(
    latent_channels=4, fine_channels=8, coarse_channels=12, fine_blocks=1, coarse_blocks=1
)
TINY_NETWORK = SanaWMConfig(
    in_channels=4,
    num_layers=4,
    hidden_size=32,
    num_attention_heads=2,
    caption_channels=16,
    text_length=32,
    temporal_stride=4,
    plucker_channels=24,
    chunk_size=1,
    chunk_split="uniform",
    num_cached_chunks=2,
    sink=False,
    softmax_camera_scale="head_dim",
    camera_unit_m=10.0,
    plucker_first_group="repeat",
    warp_condition=True,
    prediction="x_0",
)

TINY_RELEASED = replace(
    TINY_NETWORK,
    chunk_size=3,
    chunk_split="first_chunk_plus_one",
    sink=True,
    plucker_first_group="lookahead",
    warp_condition=False,
    prediction="velocity",
)
"""Chunks, window and target as in the released model."""


@dataclass(frozen=True)
class Form:
    """A form of network that can be distilled."""

    model: SanaWMConfig
    origin: Origin
    num_latents: int
    """Latent frames of a clip: a few chunks."""


FORMS = {
    "drive": Form(TINY_NETWORK, "moving", 4),
    "released": Form(TINY_RELEASED, "first", 7),
}


def rough_weights(model: SanaWMConfig, captions: Sequence[str]) -> WorldWeights:
    """Random weights without a branch at zero, so that everything has a say."""
    torch.manual_seed(0)
    weights = make_weights(model, captions, None)
    with torch.no_grad():
        for parameter in weights.network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return weights


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives of six seconds."""
    out = tmp_path_factory.mktemp("recording")
    return record(RecordConfig(out=out, episodes=3, seconds=6.0, seed=5, episodes_per_shard=3))


@pytest.fixture(scope="session")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained tiny autoencoder."""
    out = tmp_path_factory.mktemp("autoencoder")
    torch.manual_seed(0)
    save_module(out, "autoencoder", VideoAutoencoder(TINY_AUTOENCODER), TINY_AUTOENCODER)
    return out


@pytest.fixture(scope="session")
def latents(recording: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording's latents, one later start an episode."""
    out = tmp_path_factory.mktemp("latents")
    run_latents_stage(
        LatentsStageConfig(
            data=(recording,), autoencoder=autoencoder, out=out, later_starts=1, later_frames=41
        )
    )
    return out


@pytest.fixture(scope="session")
def teacher(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of random weights, network and text encoder, that know the words of the clips."""
    out = tmp_path_factory.mktemp("teacher")
    captions = [clip.caption for part in load_latent_clips(latents) for clip in part]
    rough_weights(TINY_NETWORK, captions).save(out)
    return out


@pytest.fixture(scope="session")
def teachers(
    teacher: Path, latents: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Random weights in either form."""
    released = tmp_path_factory.mktemp("released")
    captions = [clip.caption for part in load_latent_clips(latents) for clip in part]
    rough_weights(TINY_RELEASED, captions).save(released)
    return {"drive": teacher, "released": released}


@pytest.fixture(scope="session")
def stage_data(
    recording: Path, autoencoder: Path, latents: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One folder with all that the stages read; see `several_processes`."""
    from tests.train_wm.several_processes import prepare

    folder = tmp_path_factory.mktemp("data")
    for name, path in (
        ("recording", recording),
        ("autoencoder", autoencoder),
        ("latents", latents),
    ):
        (folder / name).symlink_to(path)
    prepare(folder)
    return folder
