"""A tiny world of random weights, saved and loaded like a real one, and pictures to begin from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.camera import CameraRig, Intrinsics, camera_poses
from sanawm_gym.geometry import planar_pose, relative_poses
from sanawm_gym.worldmodel import SanaWM, SanaWMConfig, VideoAutoencoder, WorldModel
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoderConfig
from sanawm_gym.worldmodel.contexts import (
    StartContext,
    list_contexts,
    load_context,
    save_contexts,
)
from sanawm_gym.worldmodel.heads import NUM_NUMBERS, QUANTITIES, Heads, HeadsConfig, fingerprint
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig
from sanawm_gym.worldmodel.world import WorldConfig

WIDTH, HEIGHT = 64, 40
CAPTION = "a dry road at noon"


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


FREE_ROAD = {
    "lane_offset": (0.0, 0.1), "heading_error": (0.0, 0.01), "curvature_ahead": (0.0, 0.001),
    "left_edge": (5.0, 0.1), "right_edge": (1.75, 0.1), "lead_distance": (30.0, 1.0),
    "lead_speed": (0.0, 1.0), "has_lead": (0.01, 0.0), "on_road": (0.99, 0.0),
    "crashed": (0.01, 0.0),
}  # fmt: skip
"""Mean and deviation of a car in its lane."""


def read_always(heads: Heads, readings: dict[str, tuple[float, float]]) -> None:
    """Make heads read the same whatever they see; the deviation of a chance follows from it."""
    last = heads.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.data.zero_()
    last.bias.data.zero_()
    for column, name in enumerate(QUANTITIES):
        mean, deviation = readings[name]
        if column < NUM_NUMBERS:
            heads.offset[column], heads.temperature[column] = mean, deviation
        else:
            heads.bias[column - NUM_NUMBERS] = math.log(mean / (1 - mean))


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


@pytest.fixture(scope="session")
def with_heads(world: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Gives the tiny world heads of random weights, or such as always read the same.

    `with_heads(right_edge=(-3.0, 0.1))` reads that mean and deviation whatever the picture shows;
    quantities not named are then read as from a car in the middle of a free road.
    """

    def build(**fixed: tuple[float, float]) -> str:
        model = WorldModel.from_pretrained(world, dtype="float32")
        torch.manual_seed(1)
        config = HeadsConfig(
            channels=32, grid=(5, 8), width=4, hidden=8, network=fingerprint(model.network)
        )
        heads = Heads(config)
        if fixed:
            read_always(heads, FREE_ROAD | fixed)
        parts = (model.config, model.network, model.autoencoder, model.text_encoder)
        folder = tmp_path_factory.mktemp("seeing")
        WorldModel(*parts, heads).save_pretrained(folder)
        clips = [load_context(name, world) for name in list_contexts(world)]
        save_contexts(clips, folder, fps=16.0)
        return str(folder)

    return build


@pytest.fixture(scope="session")
def seeing(with_heads: Callable[..., str]) -> str:
    """The tiny world with heads of random weights."""
    return with_heads()


@pytest.fixture
def make(world: str) -> Callable[..., gym.Env[Any, Any]]:
    """Makes scalar environments in the tiny world."""

    def build(**kwargs: Any) -> gym.Env[Any, Any]:
        return gym.make("SanaWM-Drive-v0", **{"world": world, "dtype": "float32"} | kwargs)

    return build


@pytest.fixture
def make_vec(world: str) -> Callable[..., gym.vector.VectorEnv[Any, Any, Any]]:
    """Makes vector environments in the tiny world."""

    def build(num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
        kwargs = {"world": world, "dtype": "float32"} | kwargs
        return gym.make_vec("SanaWM-Drive-v0", num_envs, **kwargs)

    return build


@pytest.fixture
def actions() -> NDArray[np.float32]:
    """Forty actions of a lively driver."""
    return np.random.default_rng(5).uniform(-1, 1, (40, 2)).astype(np.float32)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image file of another size than the world's."""
    from PIL import Image

    path = tmp_path / "street.png"
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
