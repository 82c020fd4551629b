"""Networks larger than the card: blocks wait in main memory and come over one at a time.

The parameters of a block are copied to the device when it is called and dropped when it returns;
what all blocks share (embedders, final layer) stays on the device. A few layers of every block are
also called on their own, when prompts are encoded; these come and go by themselves. In main memory
the weights are page-locked where the device is a GPU, so a copy runs at the speed of the bus;
copies are queued on the stream that uses them, which is safe without events. Not done: copying
block i + 1 while block i computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.refiner import Refiner

from .leaves import put_together, take_apart

ValueT = TypeVar("ValueT")


def bring(value: ValueT, device: torch.device) -> ValueT:
    """Copy the tensors of a value from main memory to a device without making the host wait.

    From ordinary memory a GPU cannot read by itself, so the host would wait for everything queued
    before; from page-locked memory it can.
    """
    tensors, frame = take_apart(value)
    if device.type == "cuda":
        tensors = [tensor if tensor.is_cuda else tensor.pin_memory() for tensor in tensors]
    there = (tensor.to(device, non_blocking=True) for tensor in tensors)
    return put_together(there, frame)  # type: ignore[no-any-return]


@contextmanager
def present(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Bring a whole part to a device for a while; nothing moves where it is there already."""
    home = next(module.parameters()).device
    # "cuda" and "cuda:0" are not equal, but the same place.
    if home == torch.empty(0, device=device).device:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to(home)


class BlockOffload:
    """Moves blocks in and out as they are called.

    Args:
        blocks: Blocks of one network.
        on_their_own: Names of layers within a block that are also called from outside of it.
        device: Where they compute.

    Attributes:
        present: Numbers of the blocks whose weights are on the device now.
        most_present: Largest number of them there at once so far.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        on_their_own: tuple[str, ...],
        device: torch.device | str,
    ) -> None:
        self.present: set[int] = set()
        self.most_present = 0
        self._device = torch.device(device)
        self._handles: list[RemovableHandle] = []
        for i, block in enumerate(blocks):
            alone = [block.get_submodule(name) for name in on_their_own]
            apart = {id(tensor) for layer in alone for tensor in _tensors(layer)}
            self._watch(block, [t for t in _tensors(block) if id(t) not in apart], i)
            for layer in alone:
                self._watch(layer, _tensors(layer), None)

    @staticmethod
    def of_network(network: SanaWM, device: torch.device | str) -> BlockOffload:
        """For the released network."""
        return BlockOffload(network.blocks, ("cross_attn.kv_linear", "cross_attn.k_norm"), device)

    @staticmethod
    def of_refiner(refiner: Refiner, device: torch.device | str) -> BlockOffload:
        """For the refiner."""
        names = ("attn2.to_k", "attn2.norm_k", "attn2.to_v")
        return BlockOffload(refiner.transformer_blocks, names, device)

    def remove(self) -> None:
        """Leave the blocks where they rest, in main memory, and move them no more."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, module: nn.Module, tensors: list[Tensor], index: int | None) -> None:
        waiting = [self._at_rest(tensor.data) for tensor in tensors]
        for tensor, held in zip(tensors, waiting, strict=True):
            tensor.data = held

        def bring(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            for tensor, held in zip(tensors, waiting, strict=True):
                tensor.data = held.to(self._device, non_blocking=True)
            if index is not None:
                self.present.add(index)
                self.most_present = max(self.most_present, len(self.present))

        def drop(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            for tensor, held in zip(tensors, waiting, strict=True):
                tensor.data = held
            if index is not None:
                self.present.discard(index)

        self._handles.append(module.register_forward_pre_hook(bring))
        self._handles.append(module.register_forward_hook(drop, always_call=True))

    def _at_rest(self, tensor: Tensor) -> Tensor:
        held = tensor.cpu()
        return held.pin_memory() if self._device.type == "cuda" else held


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
