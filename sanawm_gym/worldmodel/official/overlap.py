"""Draft, refinement and decoding of a stream side by side on a GPU.

The draft of chunk i + 1 needs the draft of chunk i and nothing of what is shown, the refiner of
chunk i needs its draft, the decoder what the refiner made of it. So each of the three has a lane of
its own, a CUDA stream, and the host queues them in the order draft i, refine i - 1, decode i - 2;
it waits only for pictures that are handed out. Every kind of memory (network, refiner, decoder)
is written in one lane only; what crosses lanes are latents, which the next lane waits for.

Memory that one CUDA stream has made and another one reads must not be given away before both have
done with it; the allocator knows only of the first. So whoever reads what another stream made says
so: lanes of the state they begin with and of latents, the caller's stream of what is handed out.
When the caller stops, early or not, its stream waits for what is still queued.

Elsewhere than on a GPU the lanes are plain calls in the same order, with the same result.

Not run on a GPU yet: written without one at hand.

Axes: b rows, f pictures, h w their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .leaves import tensors_of
from .state import OfficialState
from .stream import Stream


class Lane:
    """A CUDA stream, or on other devices nothing but the order of calls.

    Args:
        device: Where it runs.
        begins_with: What the caller has made and this lane may read.
    """

    def __init__(self, device: torch.device, begins_with: Any) -> None:
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))
            keep_for(begins_with, self._stream)

    def use(self) -> AbstractContextManager[Any]:
        """What is queued inside runs in this lane."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> Any:
        """A point that other lanes can wait for."""
        return None if self._stream is None else self._stream.record_event()

    def take(self, value: Any, ready: Any) -> None:
        """Wait for what another lane makes and keep its memory until this lane has read it."""
        if self._stream is not None:
            self._stream.wait_event(ready)
            keep_for(value, self._stream)

    def rejoin(self, device: torch.device) -> None:
        """Let the caller's stream wait for everything queued here."""
        if self._stream is not None:
            torch.cuda.current_stream(device).wait_stream(self._stream)


def keep_for(value: Any, stream: Any) -> None:
    """Keep the memory of a value's tensors from being given away before a stream has read it."""
    for tensor in tensors_of(value):
        if tensor.is_cuda:
            tensor.record_stream(stream)


class _Drawn(NamedTuple):
    """A chunk on its way: latents, when they are there, its seeds and steps, the state after it."""

    latents: Tensor
    ready: Any
    clock: tuple[Int[Tensor, " b"], Int[Tensor, " b"]]
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
    lanes = [Lane(device, state) for _ in range(3)]
    try:
        for pixels, after in _in_lanes(stream, state, poses, lanes):
            if device.type == "cuda":
                keep_for((pixels, after), torch.cuda.current_stream(device))
            yield pixels, after
    finally:
        for lane in lanes:
            lane.rejoin(device)


def _in_lanes(
    stream: Stream, state: OfficialState, poses: Tensor, lanes: list[Lane]
) -> Iterator[tuple[Tensor, OfficialState]]:
    drafting, refining, decoding = lanes
    paths = poses.split(stream.frames_per_chunk, dim=1)
    drafts: list[_Drawn] = []
    refined: list[_Drawn] = []
    memory, decoder = state.refined, state.decoder
    for step in range(len(paths) + 2):
        if step < len(paths):
            clock = (state.seeds, state.steps)
            with drafting.use():
                latents, state = stream.next_chunk(state, paths[step])
            drafts.append(_Drawn(latents, drafting.mark(), clock, state))
        if 0 < step <= len(paths):
            draft = drafts.pop(0)
            refining.take(draft.latents, draft.ready)
            with refining.use():
                latents, memory = stream.refine(draft.latents, draft.clock, memory)
            after = replace(draft.after, refined=memory)
            refined.append(_Drawn(latents, refining.mark(), draft.clock, after))
        if step > 1:
            chunk = refined.pop(0)
            decoding.take(chunk.latents, chunk.ready)
            with decoding.use():
                pixels, decoder = stream.show(chunk.latents, decoder)
            done = decoding.mark()
            if done is not None:
                # Decoding waited for the refiner, which waited for the draft: all three are done.
                done.synchronize()
            yield pixels, replace(chunk.after, decoder=decoder)
