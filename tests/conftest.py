"""What every test stands on: fixed seeds, one thread, memory that shows when it was not written."""

import os

# Before the package, whose functions are decorated while it is imported.
from tests import type_checks

# Before torch is imported: the pools of OpenMP and BLAS read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# No test may reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Windows and sounds of pygame without a screen.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sanawm_gym.camera import CameraRig, Intrinsics, camera_poses
from sanawm_gym.geometry import planar_pose, relative_poses
from sanawm_gym.worldmodel import SanaWM, SanaWMConfig, VideoAutoencoder, WorldModel
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoderConfig
from sanawm_gym.worldmodel.contexts import StartContext, save_contexts
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig
from sanawm_gym.worldmodel.world import WorldConfig

WIDTH, HEIGHT = 64, 40
CAPTION = "a dry road at noon"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes for ``-n auto``, which is the default: several for the whole suite.

    Files and tests that are named run in this process: they are over before another one would have
    imported torch, and ``--pdb`` and prints work as one expects.
    """
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    # Every process makes the shared fixtures anew, so that many of them bring less and less.
    processes = min(4, len(os.sched_getaffinity(0)))
    return processes if processes > 1 else 0


def pytest_runtest_setup() -> None:
    """What an earlier test called often is checked again in this one."""
    type_checks.begin_test()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several tests may run beside each other, and sums on one thread have one order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators; the code under test takes its own seeds."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 third parties still draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """Let `torch.empty` hand out NaN, so that reading what was never written fails a test.

    Filling is part of torch's deterministic mode, which also refuses operators without a
    deterministic form.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


def start_context(name: str, num_frames: int, seed: int) -> StartContext:
    """A clip of noise, seen from a car that goes straight at 6 m/s."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (num_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    rig = CameraRig(z=1.3, pitch_deg=4.0)
    path = camera_poses(planar_pose(np.arange(num_frames) * 6.0 / 16.0, 0.0, 0.0), rig)
    return StartContext(
        name=name,
        frames=frames,
        poses=relative_poses(path),
        intrinsics=Intrinsics.from_fov(80.0, WIDTH, HEIGHT),
        caption=CAPTION,
        speed=6.0,
        steer=0.02,
        camera_height=1.3,
    )


def random_weights(module: torch.nn.Module) -> None:
    """Leave no layer at zero: whatever the network is told must reach the picture."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.05 * noise / max(1.0, parameter[0].numel() ** 0.5 / 8)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a world of a few thousand random weights with three start contexts."""
    torch.manual_seed(0)
    network = SanaWM(
        SanaWMConfig(
            in_channels=4,
            num_layers=2,
            hidden_size=32,
            num_attention_heads=2,
            caption_channels=16,
            text_length=8,
            temporal_stride=4,
            plucker_channels=24,
            softmax_every_n=2,
            chunk_size=1,
            chunk_split="uniform",
            num_cached_chunks=3,
            sink=False,
            camera_unit_m=10.0,
            plucker_first_group="repeat",
            warp_condition=True,
            prediction="x_0",
        )
    )
    autoencoder = VideoAutoencoder(
        VideoAutoencoderConfig(
            latent_channels=4, fine_channels=16, coarse_channels=16, fine_blocks=1, coarse_blocks=1
        )
    )
    text = CaptionEncoder(
        CaptionEncoderConfig(
            vocabulary=tuple(sorted({*CAPTION.split(), "wet", "night"})),
            channels=16,
            num_heads=2,
            max_tokens=8,
        )
    )
    for module in (network, autoencoder, text):
        random_weights(module)
    folder = tmp_path_factory.mktemp("world")
    model = WorldModel(WorldConfig(width=WIDTH, height=HEIGHT), network, autoencoder, text)
    model.save_pretrained(folder)
    clips = [start_context(f"road-{i}", length, i) for i, length in enumerate((5, 5, 9))]
    save_contexts(clips, folder, fps=16.0)
    return str(folder)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image file of another size than the world's."""
    path = tmp_path / "street.png"
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
