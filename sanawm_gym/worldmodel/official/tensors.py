"""Tensors of a checkpoint by name, read one at a time, whatever file they lie in.

Names come out as the network has them. The original layout differs from that of diffusers, which
is ours, in four points: the two layers of the timestep embedder are called `mlp.0` and `mlp.2`, a
positional table `pos_embed` and the null caption `y_embedder.y_embedding` of training are part of
it (both are left out here: nothing reads them at inference), and the streaming release puts
`model.` before every name.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_RENAMED = {
    "t_embedder.mlp.0.": "t_embedder.linear_1.",
    "t_embedder.mlp.2.": "t_embedder.linear_2.",
}
_LEFT_OUT = ("pos_embed", "y_embedder.y_embedding")
_WRAPPER = "model."
_INSIDE = ("generator", "state_dict")
"""Entries of a training checkpoint under which the network's tensors may lie, in this order."""


@dataclass(frozen=True)
class TensorSource:
    """Named tensors that need not be in memory.

    Attributes:
        origin: Where they come from, for messages.
        shapes: Shape of every tensor.
        read: Loads one of them onto the CPU, in the dtype it is stored in.
    """

    origin: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]


def open_tensors(files: Sequence[Path]) -> TensorSource:
    """Tensors of some weight files under the network's names.

    Raises:
        ValueError: If a file is damaged, is a pickle of more than tensors, or two of the stored
            names become one.
    """
    stored: dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]] = {}
    for path in files:
        entries = _safe(path) if path.suffix == ".safetensors" else _pickled(path)
        twice = sorted(stored.keys() & entries.keys())
        if twice:
            raise ValueError(f"{path} holds {twice[:4]} a second time: two files overlap")
        stored.update(entries)
    named: dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]] = {}
    for key, entry in stored.items():
        name = network_name(key)
        if name is None:
            continue
        if name in named:
            raise ValueError(f"{files[0]} holds {name} twice, once under {key}")
        named[name] = entry
    return TensorSource(
        origin=str(files[0] if len(files) == 1 else files[0].parent),
        shapes={name: shape for name, (shape, _) in named.items()},
        read=lambda name: named[name][1](),
    )


def network_name(key: str) -> str | None:
    """The network's name of a stored tensor; None for one that inference has no use for."""
    name = key.removeprefix(_WRAPPER)
    if name in _LEFT_OUT:
        return None
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _safe(path: Path) -> dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]]:
    try:
        handle = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from error

    def reader(key: str) -> Callable[[], Tensor]:
        return lambda: handle.get_tensor(key)

    names = handle.keys()
    return {key: (tuple(handle.get_slice(key).get_shape()), reader(key)) for key in names}


def _held(path: Path, error: pickle.UnpicklingError, whole: bool) -> str:
    """What a refused pickle holds, by name; nothing of it is run for that."""
    if whole:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if names:
            return f"it holds {', '.join(sorted(names))}"
    # Files of old torch are not listed: their reader's own line, without its advice.
    lines = [line.strip() for line in str(error).splitlines()]
    named = [line for line in lines if "error:" in line or "GLOBAL" in line]
    return named[0] if named else "its reader does not say what it holds"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _pickled(path: Path) -> dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]]:
    """Tensors of a pickle, which is opened only as far as it holds nothing that can run."""
    whole = zipfile.is_zipfile(path)
    if not whole and _first_bytes(path) == b"PK":
        raise ValueError(f"{path} is damaged: its end is missing; fetch it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=whole)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it is a pickle that holds more than tensors and plain values, and "
            f"opening it could run code of whoever wrote it ({_held(path, error, whole)}). Convert "
            "it on a machine "
            "that you can lose: torch.load(..., weights_only=False)['generator'], then "
            "safetensors.torch.save_file; then give the folder of that file"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from error
    for inside in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(inside), dict):
            content = content[inside]
    tensors = content if isinstance(content, dict) else {}
    odd = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor)]
    if not tensors or odd:
        raise ValueError(
            f"{path} holds no state dict: expected tensors by name, directly or under one of "
            f"{list(_INSIDE)}, got {odd[:4] or type(content).__name__}"
        )

    def reader(tensor: Tensor) -> Callable[[], Tensor]:
        return lambda: tensor

    return {str(key): (tuple(value.shape), reader(value)) for key, value in tensors.items()}
