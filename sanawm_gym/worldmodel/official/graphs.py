"""A step that is recorded once and then played again on the same memory.

A chunk of the released stream is thousands of small kernels, which a host queues one by one more
slowly than a large GPU works them off. A CUDA graph is queued as one, but it is a recording: it
reads its inputs where they lay and writes its results where they lay. `StaticStep` stands between
such a recording and callers for whom states are values: it copies the inputs of every call into
memory of its own, plays, and hands out copies of the results. Calls that differ in more than
numbers (shapes, settings, which parts there are) have recordings of their own.

What records is a `Recorder`. `PlainRecorder` runs the function again at every call, on every
device, and keeps results in one place as a graph would, so that all of this is tested without a
GPU; `GraphRecorder` captures a CUDA graph.

A recorded function must not ask for a number on the host or bring one from there: no `item`, no
`bool` of a tensor, no tensor made of a Python list.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .leaves import put_together, take_apart

Play = Callable[[], list[Tensor]]
"""Compute again; the results lie where they lay before."""


@runtime_checkable
class Recorder(Protocol):
    """Makes a recording of a computation on fixed memory."""

    def record(self, compute: Play) -> Play:
        """Record what `compute` does, having run it at least once."""

    def begin(self) -> None:
        """Called before the memory of recordings is written: let the last user be done."""

    def end(self) -> None:
        """Called after results were copied out."""


class PlainRecorder:
    """Runs the computation again every time."""

    def record(self, compute: Play) -> Play:
        """Keep the first results as the place of all later ones."""
        kept = compute()

        def play() -> list[Tensor]:
            for place, result in zip(kept, compute(), strict=True):
                place.copy_(result)
            return kept

        return play

    def begin(self) -> None:
        """Nothing runs later than it is called."""

    def end(self) -> None:
        """Nothing runs later than it is called."""


class GraphRecorder:
    """Captures CUDA graphs, which share one pool of memory.

    They may share it because they are played one after the other, in whichever CUDA stream, and
    their results are copied out before the next one plays.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._last: Any = None

    def record(self, compute: Play) -> Play:
        """Warm up beside the current stream, as captures demand, then capture."""
        current = torch.cuda.current_stream(self._device)
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            compute()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: only this one's mistakes end the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            kept = compute()
        self._pool = graph.pool()

        def play() -> list[Tensor]:
            graph.replay()
            return kept

        return play

    def begin(self) -> None:
        """Wait, in the current CUDA stream, for the last call, which may have been in another."""
        if self._last is not None:
            torch.cuda.current_stream(self._device).wait_event(self._last)

    def end(self) -> None:
        """Mark where this call ends."""
        self._last = torch.cuda.current_stream(self._device).record_event()


@dataclass(frozen=True)
class _Tape:
    """One recording: where it reads, how to play it, how its results belong together."""

    inputs: list[Tensor]
    play: Play
    frame: Hashable


class StaticStep:
    """A function of tensors behind recordings of it.

    Calls of a kind run plainly until the kind has been seen often enough to be worth a recording.
    Recordings read inputs of one shape in one place: every call brings its own.

    Args:
        function: Pure; its arguments and result as `leaves.take_apart` knows them.
        recorder: Records it.
        plain_calls: Calls of every kind that run plainly first, >= 0; they also let libraries
            choose and compile their kernels.
        most: Recordings kept, >= 1; the one that was not used for longest is dropped for a new one.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        recorder: Recorder,
        *,
        plain_calls: int = 1,
        most: int = 4,
    ) -> None:
        if plain_calls < 0 or most < 1:
            raise ValueError(
                f"got plain_calls={plain_calls}, most={most}; expected at least 0 and 1"
            )
        self._function, self._recorder = function, recorder
        self._plain_calls, self._most = plain_calls, most
        self._seen: dict[Hashable, int] = {}
        self._tapes: OrderedDict[Hashable, _Tape] = OrderedDict()
        # Kept alive by the recordings that read them.
        self._places: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()

    @property
    def num_recordings(self) -> int:
        """Recordings there are now."""
        return len(self._tapes)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result, in memory that no later call touches."""
        tensors, frame = take_apart(arguments)
        kind = (frame, tuple((t.shape, t.dtype, t.device) for t in tensors))
        if kind not in self._tapes and not self._may_record(kind):
            return self._function(*arguments)
        self._recorder.begin()
        if kind not in self._tapes:
            # Before the new one takes its memory.
            while len(self._tapes) >= self._most:
                self._tapes.popitem(last=False)
            self._tapes[kind] = self._record(tensors, frame)
        self._tapes.move_to_end(kind)
        tape = self._tapes[kind]
        for place, tensor in zip(tape.inputs, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        result = put_together((part.clone() for part in tape.play()), tape.frame)
        self._recorder.end()
        return result

    def _may_record(self, kind: Hashable) -> bool:
        """Whether calls of a kind have been seen often enough; counts this one."""
        seen = self._seen.get(kind, 0)
        self._seen[kind] = seen + 1
        return seen >= self._plain_calls

    def _record(self, tensors: list[Tensor], frame: Hashable) -> _Tape:
        inputs = self._places_for(tensors)
        for place, tensor in zip(inputs, tensors, strict=True):
            place.copy_(tensor)
        frames: set[Hashable] = set()

        def compute() -> list[Tensor]:
            result = self._function(*put_together(iter(inputs), frame))
            results, frame_after = take_apart(result)
            frames.add(frame_after)
            return results

        play = self._recorder.record(compute)
        (frame_after,) = frames
        return _Tape(inputs, play, frame_after)

    def _places_for(self, tensors: list[Tensor]) -> list[Tensor]:
        """Memory for inputs; the n-th tensor of a shape has the same in all recordings."""
        counts: Counter[Hashable] = Counter()
        places = []
        for tensor in tensors:
            shape = (tensor.shape, tensor.dtype, tensor.device)
            place = self._places.get((shape, counts[shape]))
            if place is None:
                place = torch.empty_like(tensor, memory_format=torch.contiguous_format)
                self._places[(shape, counts[shape])] = place
            counts[shape] += 1
            places.append(place)
        return places
