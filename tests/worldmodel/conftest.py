"""Small networks with random weights, and inputs for them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.model import SanaWM

TINY = SanaWMConfig(
    in_channels=5,
    num_layers=4,
    hidden_size=64,
    num_attention_heads=2,
    caption_channels=7,
    temporal_stride=2,
    plucker_channels=12,
    softmax_every_n=2,
    camera_unit_m=10.0,
)
IMAGE_SIZE = (24, 64)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Random inputs for clips of one size."""

    x: Tensor
    timestep: Tensor
    features: Tensor
    mask: Tensor
    raw_poses: Tensor
    intrinsics_px: Tensor

    def text(self, network: SanaWM) -> TextContext:
        """The prompts, prepared for a network."""
        return network.encode_text(self.features, self.mask)

    @property
    def geometry(self) -> dict[str, Any]:
        """Image and grid, as the camera builders want them."""
        return {"image_size": IMAGE_SIZE, "grid": tuple(self.x.shape[-2:])}


@pytest.fixture
def tiny() -> SanaWMConfig:
    """Four blocks of width 64, every second one softmax."""
    return TINY


@pytest.fixture
def make_network() -> Callable[..., SanaWM]:
    """Build a network whose every weight matters (the start values hide most of it)."""

    def make(config: SanaWMConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> SanaWM:
        network = SanaWM(config)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            size = 0.3 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
            parameter.data = noise * size + (1.0 if "norm" in name else 0.0)
        return network.to(dtype)

    return make


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    """Build inputs: a camera that drives about 1 m a raw frame on a winding path."""

    def make(
        config: SanaWMConfig,
        num_frames: int,
        grid: tuple[int, int] = (3, 4),
        num_clips: int = 2,
        seed: int = 0,
        metres: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> Scene:
        generator = torch.Generator().manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        num_raw = config.temporal_stride * (num_frames - 1) + 1
        yaw = (0.05 * noise(num_clips, num_raw)).cumsum(dim=1)
        poses = torch.eye(4, dtype=torch.float64).repeat(num_clips, num_raw, 1, 1)
        poses[..., 0, 0], poses[..., 0, 2] = yaw.cos(), yaw.sin()
        poses[..., 2, 0], poses[..., 2, 2] = -yaw.sin(), yaw.cos()
        poses[..., 0, 3] = (metres * yaw.sin()).cumsum(dim=1)
        poses[..., 1, 3] = 0.1 * noise(num_clips, num_raw)
        poses[..., 2, 3] = (metres * yaw.cos()).cumsum(dim=1)
        mask = torch.ones(num_clips, 6, dtype=torch.bool)
        mask[0, 4:] = False
        return Scene(
            x=noise(num_clips, config.in_channels, num_frames, *grid).to(dtype),
            timestep=torch.rand(num_clips, num_frames, generator=generator) * 1000,
            features=noise(num_clips, 6, config.caption_channels).to(dtype),
            mask=mask,
            raw_poses=poses,
            intrinsics_px=torch.tensor([[50.0, 40.0, 32.0, 11.0]]).repeat(num_clips, 1),
        )

    return make


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """Largest difference over largest value."""

    def error(got: Tensor, expected: Tensor) -> float:
        scale = expected.abs().max().clamp_min(1e-12)
        return float((got - expected).abs().max() / scale)

    return error


@pytest.fixture
def random_camera() -> Callable[..., CameraCondition]:
    """Build a condition with any rotations, metre-sized translations and a random Plücker map."""

    def make(
        config: SanaWMConfig, num_clips: int, num_frames: int, grid: tuple[int, int], plucker: bool
    ) -> CameraCondition:
        rotation, _ = torch.linalg.qr(torch.randn(num_clips, num_frames, 3, 3))
        rotation = rotation * torch.linalg.det(rotation)[..., None, None].sign()
        pose = torch.eye(4).repeat(num_clips, num_frames, 1, 1)
        pose[..., :3, :3] = rotation
        pose[..., :3, 3] = 2 * torch.randn(num_clips, num_frames, 3)
        lines = torch.randn(num_clips, config.plucker_channels, num_frames, *grid)
        return CameraCondition(
            world_from_camera=pose,
            intrinsics=torch.tensor([5.0, 4.0, 3.2, 1.1]).repeat(num_clips, num_frames, 1),
            plucker=lines if plucker else None,
        )

    return make
