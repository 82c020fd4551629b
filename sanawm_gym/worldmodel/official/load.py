"""From named tensors to a network: built without memory, filled tensor by tensor.

The network is made on the meta device, so no start values are drawn and nothing is held twice. All
names and shapes are compared before the first byte is read. Then every tensor is read, cast and
moved on its own: beside the network itself one stored tensor is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM

from .tensors import TensorSource

_BLOCKS = ("blocks.", "transformer_blocks.")
MAX_NAMED = 60
"""Names of one kind that an error lists before it only counts."""


def empty_network(config: SanaWMConfig) -> SanaWM:
    """A network whose parameters have shapes but no memory."""
    with torch.device("meta"):
        return SanaWM(config)


def check_tensors(
    expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], origin: str
) -> None:
    """Compare names and shapes.

    Args:
        expected: State dict of the module to fill.
        shapes: Of the tensors there are.
        origin: Where they come from, for the message.

    Raises:
        ValueError: Listing every missing, surplus and misshapen tensor.
    """
    wrong = [
        f"{name} {tuple(shapes[name])} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and tuple(shapes[name]) != tuple(tensor.shape)
    ]
    kinds = {
        "missing": [name for name in expected if name not in shapes],
        "surplus": [name for name in shapes if name not in expected],
        "of another shape": wrong,
    }
    problems = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise ValueError(
            f"{origin} does not fit the network its configuration describes. {'; '.join(problems)}"
            ". Give the weights and the configuration of one release"
        )


def load_network(
    config: SanaWMConfig,
    source: TensorSource,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    blocks_device: torch.device | str | None = None,
) -> SanaWM:
    """Network with the weights of a source, for inference.

    Args:
        config: Of the network.
        source: Its tensors.
        device: Where the weights shall lie.
        dtype: What they are cast to; the recurrences compute in float32 in either case.
        blocks_device: Where those of the blocks shall lie; None is `device`.

    Raises:
        ValueError: If names or shapes differ, before anything is read.
    """
    network = empty_network(config)
    fill_module(network, source, device=device, dtype=dtype, blocks_device=blocks_device)
    return network.eval().requires_grad_(False)


def fill_module(
    module: nn.Module,
    source: TensorSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    blocks_device: torch.device | str | None = None,
) -> None:
    """Give a module on the meta device its tensors; arguments as `load_network`."""
    expected = module.state_dict()
    check_tensors(expected, source.shapes, source.origin)
    # Seconds to minutes at the released sizes; whatever is sooner done needs no bar.
    reading = tqdm(expected, desc=f"reading {source.origin}", unit="tensor", leave=False, delay=2.0)
    for name in reading:
        inside = name.startswith(_BLOCKS) and blocks_device is not None
        place = blocks_device if inside else device
        # A copy even where nothing changes: what a file maps into memory must not be written to.
        tensor = source.read(name).to(place, dtype, copy=True).contiguous()
        parent, _, leaf = name.rpartition(".")
        owner = module.get_submodule(parent)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor)
        else:
            owner._buffers[leaf] = tensor


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"
