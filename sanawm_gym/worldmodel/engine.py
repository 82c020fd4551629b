"""What a stream needs of a network and an autoencoder, whatever form computes it.

`SanaWM` and `VideoAutoencoder` are the readable form, which also trains. Others compute the same
numbers faster (`fused`, `openvino`); which one a world steps with is chosen in `backend`.

Axes: b rows, c latent channels, n latent frames, s raw frames of one, h w and y x of pictures and
latents, k tokens of a frame, e width of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from .camera_condition import CameraCondition
from .cross_attention import TextContext
from .state import SanaWMState


@runtime_checkable
class StreamNetwork(Protocol):
    """Steps streams; see `SanaWM`."""

    def step(
        self,
        x: Float[Tensor, "b c n y x"],
        timestep: Float[Tensor, "b n"],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
        *,
        update_state: bool,
    ) -> tuple[Float[Tensor, "b c n y x"], SanaWMState]:
        """Velocity of the next chunk of each stream."""

    def remember(
        self,
        x: Float[Tensor, "b c n y x"],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
    ) -> tuple[Float[Tensor, "b n k e"], SanaWMState]:
        """Make a finished chunk part of the memory."""


@runtime_checkable
class FrameCodec(Protocol):
    """Encodes and decodes one latent frame at a time; see `VideoAutoencoder`."""

    def encode_group(self, frames: Float[Tensor, "b 3 s h w"]) -> Float[Tensor, "b c 1 y x"]:
        """Latent of one group of frames without its past."""

    def decode_step(
        self, latents: Float[Tensor, "b c n y x"], memory: list[Tensor] | None
    ) -> tuple[Float[Tensor, "b 3 f h w"], list[Tensor]]:
        """Pictures of the next latents of a stream."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a world steps with.

    Attributes:
        backend: Its name.
        network: Draws latents.
        codec: Turns them into pictures, and warped pictures into latents.
    """

    backend: str
    network: StreamNetwork
    codec: FrameCodec
