"""A refined world stream: what is shown, beside the draft that goes on undisturbed.

The first stage draws, remembers and carries its own pictures over the ground; refined latents are
not fed back into it. They have a memory of their own here, and a memory of the decoder, since a
causal decoder reads the frame before.

Axes: b rows, c latent channels, t latent frames, y x latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sanawm_gym.worldmodel.engine import FrameCodec
from sanawm_gym.worldmodel.noise import row_noise

from .model import Refiner
from .sampler import refine_block
from .state import RefinerState

PURPOSE = 1000
"""Of the refiner's noise, apart from that of the first stage's levels."""
_MEMORY = "memory."


@dataclass(frozen=True, kw_only=True)
class RefinedStream:
    """What b refined streams remember; its size does not grow with time."""

    memory: RefinerState
    """Keys and values of text, sink and history."""
    decoder: tuple[Tensor, ...]
    """Last input frame of every causal layer of the decoder, of the refined latents."""
    latent: Float[Tensor, "b c y x"]
    """Latest refined latent frame, float32."""

    def select(self, indices: Sequence[int]) -> RefinedStream:
        """Copy rows; a row named twice is a fork."""
        rows = torch.as_tensor(list(indices), dtype=torch.int64, device=self.latent.device)
        return RefinedStream(
            memory=self.memory.select(indices),
            decoder=tuple(t[rows] for t in self.decoder),
            latent=self.latent[rows],
        )

    @staticmethod
    def concat(streams: Sequence[RefinedStream]) -> RefinedStream:
        """Join the rows of several streams, in order."""
        return RefinedStream(
            memory=RefinerState.concat([s.memory for s in streams]),
            decoder=tuple(
                torch.cat(parts) for parts in zip(*(s.decoder for s in streams), strict=True)
            ),
            latent=torch.cat([s.latent for s in streams]),
        )

    def to(self, device: torch.device | str) -> RefinedStream:
        """Move to a device."""
        return RefinedStream(
            memory=self.memory.to(device),
            decoder=tuple(t.to(device) for t in self.decoder),
            latent=self.latent.to(device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; :meth:`from_tensors` takes them back."""
        named = {"latent": self.latent}
        named.update({f"decoder.{i}": t for i, t in enumerate(self.decoder)})
        named.update({f"{_MEMORY}{k}": t for k, t in self.memory.tensors().items()})
        return named

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> RefinedStream:
        """Inverse of :meth:`tensors`."""
        memory = {k.removeprefix(_MEMORY): t for k, t in tensors.items() if k.startswith(_MEMORY)}
        return RefinedStream(
            memory=RefinerState(**memory),
            decoder=tuple(tensors[f"decoder.{i}"] for i in range(len(tensors) - len(memory) - 1)),
            latent=tensors["latent"],
        )


def begin_refined(
    refiner: Refiner | None,
    latents: Float[Tensor, "b c t y x"],
    features: Float[Tensor, "b m f"],
    mask: Bool[Tensor, "b m"],
    decoder: Sequence[Tensor],
) -> RefinedStream | None:
    """Take a clip of true latents as the past: its first frames as sink, the others as history.

    Args:
        refiner: Network; without one nothing is refined.
        latents: The clip, at least as long as the sink.
        features: Text features.
        mask: True where a text token counts.
        decoder: Memory of the decoder after the clip.
    """
    if refiner is None:
        return None
    config = refiner.config
    grid = (latents.shape[-2], latents.shape[-1])
    clean = latents.to(refiner.dtype)
    memory = refiner.start(clean[:, :, : config.sink_frames], features, mask)
    for part in clean[:, :, config.sink_frames :].split(config.block_frames, dim=2):
        if part.shape[2]:
            memory = refiner.remember(part, refiner.window(memory, grid, part.shape[2]))
    return RefinedStream(memory=memory, decoder=tuple(decoder), latent=latents[:, :, -1].float())


def step_refined(
    refiner: Refiner,
    codec: FrameCodec,
    stream: RefinedStream | None,
    draft: Float[Tensor, "b c t y x"],
    *,
    clock: tuple[Int[Tensor, " b"], Int[Tensor, " b"]],
    share: Float[Tensor, "b 1 1 1 1"] | None,
) -> tuple[Float[Tensor, "b 3 s h w"], RefinedStream]:
    """Refine and decode the next block.

    Args:
        refiner: Network.
        codec: Decodes.
        stream: Left unchanged.
        draft: What the first stage drew.
        clock: Seed and step of every row, for its noise.
        share: Weight of the new frame against the last one, for a camera that hardly moves; None
            takes the new one.

    Returns:
        Pictures in [-1, 1] and the stream after them.

    Raises:
        ValueError: If there is no stream, since the world began it without a refiner.
    """
    if stream is None:
        raise ValueError("the drive was begun without a refiner, expected one: start it anew")
    noise = row_noise(*clock, PURPOSE, tuple(draft.shape[1:])).to(draft.device)
    refined, memory = refine_block(refiner, draft, noise, stream.memory)
    if share is not None:
        refined = torch.lerp(stream.latent[:, :, None], refined, share.to(refined))
    pixels, decoder = codec.decode_step(refined, list(stream.decoder))
    return pixels, RefinedStream(memory=memory, decoder=tuple(decoder), latent=refined[:, :, -1])
