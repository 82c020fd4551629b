"""LTX-2's causal decoder one piece at a time, equal to decoding everything at once.

Every temporal convolution of a causal decoder looks back over the last frames of its input, and
before the first frame it repeats that frame. Remembering those inputs between calls, instead of
repeating, gives exactly the frames that a call on the whole clip would have given. The other thing
that knows where a clip begins are the up-samplers in time: of the first frame they drop what would
lie before it. So the module of diffusers runs as it is, with these two kinds of layers replaced for
the length of a call. What is remembered is a value outside the module: streams can be forked.

Only for decoders that are causal: one that looks ahead would have to see frames that do not exist
yet.

Axes: b rows, c channels, t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class StreamDecoder:
    """Decodes latents in pieces.

    Args:
        decoder: `AutoencoderKLLTX2Video.decoder`.

    Raises:
        ValueError: If the decoder is not causal, or is conditioned on a timestep or on noise.
    """

    def __init__(self, decoder: Any) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_ltx2 import (
            LTX2VideoCausalConv3d,
            LTX2VideoUpsampler3d,
        )

        if not decoder.is_causal:
            raise ValueError(
                "got a decoder that looks ahead, expected a causal one (decoder_causal in its "
                "config.json): decode with an overlap instead"
            )
        if decoder.time_embedder is not None or any(
            name.endswith("per_channel_scale1") for name, _ in decoder.named_parameters()
        ):
            raise ValueError("got a decoder with timesteps or injected noise, expected a plain one")
        self._decoder = decoder
        modules = list(decoder.modules())
        self._convs: list[nn.Module] = [m for m in modules if isinstance(m, LTX2VideoCausalConv3d)]
        self._upsamplers: list[nn.Module] = [
            m for m in modules if isinstance(m, LTX2VideoUpsampler3d)
        ]

    def __call__(
        self, latents: Float[Tensor, "b c t h w"], memory: tuple[Tensor, ...] | None
    ) -> tuple[Float[Tensor, "b 3 f y x"], tuple[Tensor, ...]]:
        """Pictures of the next latents.

        Args:
            latents: As the decoder takes them; their scale is the caller's affair.
            memory: What the previous call returned; None begins a clip, whose first latent gives
                one picture.

        Returns:
            Pictures, and what the next call has to be given.
        """
        left: dict[int, Tensor] = {}
        with self._replaced(memory, left):
            pictures = self._decoder(latents, None, causal=True)
        return pictures, tuple(left[i] for i in range(len(self._convs)))

    @contextmanager
    def _replaced(
        self, memory: tuple[Tensor, ...] | None, left: dict[int, Tensor]
    ) -> Iterator[Any]:
        """Let the convolutions read `memory` and leave theirs in `left`."""
        replaced: list[nn.Module] = [*self._convs, *self._upsamplers]
        try:
            for i, conv in enumerate(self._convs):
                past = None if memory is None else memory[i]
                vars(conv)["forward"] = _remembering(conv, past, left, i)
            for upsampler in self._upsamplers:
                vars(upsampler)["forward"] = _continued(upsampler, begins=memory is None)
            yield
        finally:
            for module in replaced:
                vars(module).pop("forward", None)


def _remembering(conv: Any, past: Tensor | None, left: dict[int, Tensor], index: int) -> Any:
    """A causal convolution whose past is given."""
    reach = conv.kernel_size[0] - 1

    def forward(x: Tensor, causal: bool = True) -> Tensor:
        before = x[:, :, :1].expand(-1, -1, reach, -1, -1) if past is None else past.to(x.dtype)
        extended = torch.cat([before, x], dim=2)
        left[index] = extended[:, :, extended.shape[2] - reach :].clone()
        out: Tensor = conv.conv(extended)
        return out

    return forward


def _continued(upsampler: Any, begins: bool) -> Any:
    """An up-sampler that drops the frames before the first one only where a clip begins."""
    frames, rows, columns = upsampler.stride

    def unfold(x: Tensor) -> Tensor:
        pattern = "b (c i j k) t h w -> b c (t i) (h j) (w k)"
        spread: Tensor = rearrange(x, pattern, i=frames, j=rows, k=columns)
        return spread[:, :, frames - 1 :] if begins else spread

    def forward(x: Tensor, causal: bool = True) -> Tensor:
        out = unfold(upsampler.conv(x, causal=causal))
        if upsampler.residual:
            copies = frames * rows * columns // upsampler.upscale_factor
            out = out + unfold(x).repeat(1, copies, 1, 1, 1)
        return out

    return forward
