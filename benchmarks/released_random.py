"""The released networks at full size, or tiny, with random weights: no checkpoint is needed.

Random and not zero: zeros can run faster than data does. The tiny ones have the same parts in the
same proportions of kinds, so that everything here is tried in seconds on a CPU.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sanawm_gym.camera import Intrinsics
from sanawm_gym.worldmodel.config import SANA_WM_2B6, SanaWMConfig
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.official.load import empty_network
from sanawm_gym.worldmodel.official.parts import OfficialParts
from sanawm_gym.worldmodel.official.sampling import STREAMING, SamplingConfig
from sanawm_gym.worldmodel.official.settings import FORMULAS
from sanawm_gym.worldmodel.official.text import GemmaText
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.config import LTX2_REFINER, RefinerConfig

REFINER_TEXT = 1024
"""Tokens of the refiner's prompt, at most."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Sizes of a release.

    Attributes:
        network: Stage 1.
        refiner: Stage 2.
        autoencoder: Arguments of diffusers' LTX-2 autoencoder; none is the released size.
        grid: Rows and columns of the latent grid.
        chunks: Chunks of the clip that counts as a whole one.
        text: Tokens of a prompt.
        refiner_text: The same for the refiner.
        sampling: How chunks are drawn.
    """

    network: SanaWMConfig
    refiner: RefinerConfig
    autoencoder: dict[str, Any]
    grid: tuple[int, int]
    chunks: int
    text: int = 300
    refiner_text: int = REFINER_TEXT
    sampling: SamplingConfig = STREAMING

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures [px]."""
        return 32 * self.grid[0], 32 * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens of a latent frame."""
        return self.grid[0] * self.grid[1]

    @property
    def window(self) -> int:
        """Latent frames that softmax attention keeps of the past."""
        return self.network.sink_frames + self.network.num_recent_frames


FULL = Release(
    network=dataclasses.replace(SANA_WM_2B6, **FORMULAS["first_streaming"]),
    refiner=LTX2_REFINER,
    autoencoder={},
    grid=(22, 40),
    # 961 pictures are 121 latents: 4 and 39 times 3.
    chunks=40,
)
TINY = Release(
    network=dataclasses.replace(
        FULL.network, in_channels=8, num_layers=2, softmax_every_n=2, hidden_size=64,
        num_attention_heads=2, caption_channels=16,
    ),
    refiner=RefinerConfig(
        in_channels=8, num_layers=2, num_attention_heads=2, head_dim=16, caption_channels=16,
        window_frames=4,
    ),
    autoencoder={
        "latent_channels": 8, "block_out_channels": (8, 16, 16, 16),
        "decoder_block_out_channels": (8, 16, 32), "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    grid=(2, 3),
    chunks=4,
    text=6,
    refiner_text=6,
    sampling=dataclasses.replace(STREAMING, timesteps=(1000.0, 727.0)),
)  # fmt: skip
RELEASES = {"full": FULL, "tiny": TINY}


class RandomText(GemmaText):
    """Random features in place of Gemma's, which are not what is measured here."""

    def __init__(self, release: Release, device: torch.device) -> None:
        self._shape, self._device = (release.text, release.network.caption_channels), device

    @property
    def channels(self) -> int:
        """Of the features."""
        return self._shape[1]

    def encode(self, prompts: Any) -> tuple[Tensor, Tensor]:
        """Features and mask of as many prompts."""
        features = torch.randn(len(prompts), *self._shape, device=self._device)
        return features, torch.ones(features.shape[:2], dtype=torch.bool, device=self._device)


def fill_randomly(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Give a module on the meta device weights of a size that keeps activations near 1."""
    module.to(dtype).to_empty(device=device)
    for name, parameter in module.named_parameters():
        size = 1.0 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=size)
    for buffer in module.buffers():
        buffer.zero_()
    return module.eval().requires_grad_(False)


def random_autoencoder(release: Release, device: torch.device, dtype: torch.dtype) -> Any:
    """LTX-2's autoencoder with a causal decoder, and the start values that diffusers gives it."""
    from diffusers import AutoencoderKLLTX2Video

    with device:
        module: Any = AutoencoderKLLTX2Video(**release.autoencoder)
    # Its own `to` would warn of parts to be kept in float32, of which it has none.
    return Ltx2Autoencoder(nn.Module.to(module, dtype))


def random_parts(
    release: Release, device: torch.device, dtype: torch.dtype, *, refiner: bool, decoder: bool
) -> OfficialParts:
    """Networks of a world; parts that are not asked for are missing."""
    network: Any = fill_randomly(empty_network(release.network), device, dtype)
    second: Any = None
    if refiner:
        with torch.device("meta"):
            second = Refiner(release.refiner)
        fill_randomly(second, device, dtype)
    codec: Any = Ltx2Autoencoder.__new__(Ltx2Autoencoder)
    if decoder:
        codec = random_autoencoder(release, device, dtype)
    return OfficialParts(
        network=network, autoencoder=codec, text=RandomText(release, device), device=device,
        refiner=second,
    )  # fmt: skip


def walk(num_pictures: int) -> Tensor:
    """A camera that walks ahead and turns a little: world_from_camera (1, f, 4, 4)."""
    turn = 0.004 * np.arange(1, num_pictures + 1)
    poses = np.tile(np.eye(4), (1, num_pictures, 1, 1))
    poses[0, :, 0, 0], poses[0, :, 0, 2] = np.cos(turn), np.sin(turn)
    poses[0, :, 2, 0], poses[0, :, 2, 2] = -np.sin(turn), np.cos(turn)
    poses[0, :, 2, 3] = 0.05 * np.arange(1, num_pictures + 1)
    return torch.tensor(poses)


def lens(release: Release) -> Tensor:
    """A lens of 70 degrees: fx, fy, cx, cy [px], (1, 4)."""
    height, width = release.picture
    return torch.tensor(Intrinsics.from_fov(70.0, width, height).as_array())[None]
