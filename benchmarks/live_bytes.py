"""What a computation holds and moves, counted without running it.

A dispatch mode sees every operation of torch, on any device; on the meta device nothing is computed
and nothing is allocated, so a 2.6 B network can be counted on a laptop. Counted are the bytes of
all tensors made inside that still exist (their peak is what a caching allocator would have to hold,
short of its rounding and of what kernels need inside) and the bytes that operations pass through
memory if each reads its inputs and writes its outputs once (nothing stays in a cache, nothing is
fused). Softmax attention and RMS norms count as the kernels that GPUs have for them, without scores
and without copies in float32; views count as nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_UNWRITTEN = ("aten::empty", "aten::new_empty")
"""Memory that is taken and not yet written: its bytes are moved by whoever fills it."""


class LiveBytes(TorchDispatchMode):
    """Counts what is made while it is active.

    Attributes:
        live: Bytes of tensors made inside that exist now.
        peak: Largest value of `live` so far.
        moved: Bytes read and written so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.moved = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count it."""
        out = func(*args, **(kwargs or {}))
        self._count(func._schema, tree_leaves((args, kwargs)), tree_leaves(out))
        return out

    def add(self, tensors: list[Tensor]) -> None:
        """Count tensors that came into being elsewhere."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                size = storage.nbytes()
                self.live += size
                weakref.finalize(storage, self._drop, size).atexit = False
        self.peak = max(self.peak, self.live)

    def pass_through(self, tensors: list[Tensor]) -> None:
        """Count tensors that an operation reads or writes."""
        self.moved += sum(_bytes(x) for x in tensors)

    def _drop(self, size: int) -> None:
        self.live -= size

    def _count(self, schema: Any, inputs: list[Any], outputs: list[Any]) -> None:
        read = [x for x in inputs if isinstance(x, Tensor)]
        made = [x for x in outputs if isinstance(x, Tensor)]
        places = {id(x.untyped_storage()) for x in read}
        view = bool(made) and all(id(x.untyped_storage()) in places for x in made)
        # A view of a weight is no new memory, nor is what an operation wrote in place.
        self.add([x for x in made if id(x.untyped_storage()) not in places])
        if (view and not schema.is_mutable) or schema.name.startswith(_UNWRITTEN):
            return
        self.pass_through([*read, *made])


class FusedKernels(TorchFunctionMode):
    """Softmax attention and RMS norms as the single kernels they are on a GPU.

    Attributes:
        flops: Multiplications and additions of attention's two products so far.
    """

    def __init__(self, live: LiveBytes) -> None:
        super().__init__()
        self.flops = 0
        self._live = live

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take the place of the two; leave all else alone."""
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            out = query.new_empty(*query.shape[:-1], value.shape[-1])
            pairs = query.shape[:-1].numel() * key.shape[-2]
            self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
            self._live.pass_through([query, key, value, out])
            return out
        if func is F.rms_norm:
            out = torch.empty_like(args[0])
            self._live.pass_through([args[0], out])
            return out
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[tuple[LiveBytes, FusedKernels]]:
    """Count what runs inside on the meta device; attention and norms are not computed."""
    live = LiveBytes()
    fused = FusedKernels(live)
    with fused, live, torch.no_grad():
        yield live, fused


def _bytes(tensor: Tensor) -> int:
    """What reading or writing a tensor moves; what is only repeated is read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
