"""A tiny recording, encoded by a tiny autoencoder: real files that the stages' tests share."""

from pathlib import Path

import pytest
import torch

from sanawm_gym.envs.reference.record import RecordConfig, record
from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
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
            data=recording, autoencoder=autoencoder, out=out, later_starts=1, later_frames=41
        )
    )
    return out
