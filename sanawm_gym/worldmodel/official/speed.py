"""How the chunks of a stream are drawn: plainly, or by what a GPU allows beyond that.

* ``cuda_graphs``: the four denoising passes of a chunk and its clean pass as one recording
  (`graphs`), so that the host no longer queues kernels one by one.
* ``compile``: torch.compile over every block, so that chains of elementwise operations become one
  kernel each. Blocks of one kind share what is compiled; every length of chunk, and every kind of
  call, is compiled once, which takes minutes.

Both change the speed only; compiled blocks round differently in the last digits. Weights that torch
would copy at every call are laid out once so that it need not (`lay_out`), and a memory keeps what
it needs and not the larger tensors that was cut from (`trim`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sanawm_gym.worldmodel.block import Block
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState

from .graphs import GraphRecorder, StaticStep
from .parts import OfficialConfig, OfficialParts
from .samplers import draw_chunk
from .sampling import SamplingConfig

DrawChunk: TypeAlias = Callable[..., tuple[Tensor, SanaWMState]]
"""Draws a chunk; arguments and result as `samplers.draw_chunk`."""
PLAIN_CALLS = 2
"""Chunks of a kind that are drawn plainly before one is recorded."""
COMPILED_KINDS = 64
"""Forms of a block that torch may compile: kinds of block, chunk lengths, passes, rows."""


def draw_trimmed(*arguments: Any) -> tuple[Tensor, SanaWMState]:
    """`draw_chunk`, and a memory that keeps nothing else alive."""
    x, memory = draw_chunk(*arguments)
    return x, memory.map(trim)


def trim(tensor: Tensor) -> Tensor:
    """The same values; a copy where the tensor is a part of a larger one."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)


def choose_drawing(
    parts: OfficialParts, sampling: SamplingConfig, config: OfficialConfig
) -> DrawChunk:
    """What draws the chunks of a world; compiles its network where that is asked for.

    Warns where something is asked for that the device or the network has no use for.

    Args:
        parts: Networks and their device.
        sampling: Mode of the network.
        config: What is asked for.

    Raises:
        ValueError: If blocks that are offloaded shall be compiled or recorded: their weights change
            place at every call.
    """
    asked = [name for name in ("cuda_graphs", "compile") if getattr(config, name)]
    if asked and parts.offload is not None:
        raise ValueError(
            f"got {' and '.join(asked)} with offload='blocks', whose weights change place at every "
            "call; take offload='parts' or 'no'"
        )
    if parts.device.type == "cuda" and parts.offload is None:
        lay_out(parts.network)
    if config.compile:
        compile_blocks(parts.network)
    if not config.cuda_graphs:
        return draw_trimmed
    if parts.device.type != "cuda":
        warnings.warn(
            f"got cuda_graphs on device {str(parts.device)!r}, which has none: chunks are drawn "
            "plainly, with the same result",
            stacklevel=3,
        )
        return draw_trimmed
    if sampling.mode != "streaming":
        warnings.warn(
            f"got cuda_graphs for a network that is sampled {sampling.mode}: only the chunks of "
            "streams are recorded, clips are drawn plainly",
            stacklevel=3,
        )
        return draw_trimmed
    return StaticStep(draw_trimmed, GraphRecorder(parts.device), plain_calls=PLAIN_CALLS)


def compile_blocks(network: SanaWM, backend: str = "inductor") -> None:
    """Let torch compile every block when it is first called.

    Args:
        network: Compiled in place; names of its weights stay.
        backend: Of torch.compile.
    """
    for block in network.blocks:
        # Shapes of a stream repeat exactly, so nothing is gained by code for all of them.
        block.compile(backend=backend, dynamic=False, recompile_limit=COMPILED_KINDS)


def lay_out(network: SanaWM) -> None:
    """Put each tap of the temporal convolutions in one piece of memory; values and shapes stay.

    The MLP multiplies by one tap after the other, and a matrix product wants its factors whole: as
    stored, taps lie between each other, and every product would begin by copying ten megabytes.
    """
    for block in network.blocks:
        assert isinstance(block, Block)
        weight = block.mlp.t_conv.weight
        by_tap = weight.data.permute(2, 3, 0, 1).contiguous()
        weight.data = by_tap.permute(2, 3, 0, 1)
