"""Draft, refinement and decoding of a stream side by side on a GPU.

The draft of chunk i + 1 needs the draft of chunk i and nothing of what is shown, the refiner of
chunk i needs its draft, the decoder what the refiner made of it. So each of the three has a lane of
its own, a CUDA stream, and the host queues them in the order draft i, refine i - 1, decode i - 2;
it waits only for pictures that are handed out. Every kind of memory (network, refiner, decoder)
is written in one lane only; what crosses lanes are latents, which the next lane waits for and
holds on to. Elsewhere than on a GPU the lanes are plain calls in the same order, with the same
result.

Not run on a GPU yet: written without one at hand.

Axes: b rows, f pictures, h w their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .state import OfficialState
from .stream import Stream


class Lane:
    """A CUDA stream, or on other devices nothing but the order of calls."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def use(self) -> AbstractContextManager[Any]:
        """What is queued inside runs in this lane."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> Any:
        """A point that other lanes can wait for."""
        return None if self._stream is None else self._stream.record_event()

    def take(self, tensor: Tensor, ready: Any) -> None:
        """Wait for a tensor of another lane and keep its memory until this lane has read it."""
        if self._stream is not None:
            self._stream.wait_event(ready)
            tensor.record_stream(self._stream)


class _Drawn(NamedTuple):
    """A chunk on its way."""

    latents: Tensor
    ready: Any
    before: OfficialState
    after: OfficialState


def draw_ahead(
    stream: Stream, state: OfficialState, poses: Float[Tensor, "b f 4 4"]
) -> Iterator[tuple[Float[Tensor, "b 3 f2 h w"], OfficialState]]:
    """Pictures of the next chunks, and the state after each; see the head of the file.

    Args:
        stream: Draws.
        state: Left unchanged.
        poses: world_from_camera of whole chunks [m].
    """
    device = stream.parts.device
    drafting, refining, decoding = (Lane(device) for _ in range(3))
    paths = poses.split(stream.frames_per_chunk, dim=1)
    drafts: list[_Drawn] = []
    refined: list[_Drawn] = []
    memory, decoder = state.refined, state.decoder
    for step in range(len(paths) + 2):
        if step < len(paths):
            with drafting.use():
                latents, after = stream.next_chunk(state, paths[step])
            drafts.append(_Drawn(latents, drafting.mark(), state, after))
            state = after
        if 0 < step <= len(paths):
            draft = drafts.pop(0)
            refining.take(draft.latents, draft.ready)
            with refining.use():
                clock = (draft.before.seeds, draft.before.steps)
                latents, memory = stream.refine(draft.latents, clock, memory)
            after = replace(draft.after, refined=memory)
            refined.append(_Drawn(latents, refining.mark(), draft.before, after))
        if step > 1:
            chunk = refined.pop(0)
            decoding.take(chunk.latents, chunk.ready)
            with decoding.use():
                pixels, decoder = stream.show(chunk.latents, decoder)
            done = decoding.mark()
            if done is not None:
                done.synchronize()
            yield pixels, replace(chunk.after, decoder=decoder)
