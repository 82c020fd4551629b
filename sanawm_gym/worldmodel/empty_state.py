"""The memory of streams that have seen nothing yet."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import SanaWMConfig
from .state import AttentionState, BlockState, GDNState, SanaWMState, WindowState


def empty_state(
    config: SanaWMConfig,
    batch: int,
    grid: tuple[int, int],
    device: torch.device | str,
    dtype: torch.dtype,
) -> SanaWMState:
    """State of streams that have seen nothing.

    Args:
        config: Of the network that will write it.
        batch: Rows.
        grid: Rows and columns of the latent grid.
        device: Of the tensors.
        dtype: Of what is not kept in float32.
    """
    exact_dtype = torch.promote_types(dtype, torch.float32)
    size, heads, dim = grid[0] * grid[1], config.num_attention_heads, config.head_dim

    def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.zeros(batch, *shape, device=device, dtype=dtype)

    slots = config.sink_frames + max(config.num_recent_frames, 0)
    tail = (config.conv_kernel_size - 1, size, config.hidden_size)
    blocks = []
    for i in range(config.num_layers):
        attention: AttentionState
        if config.is_softmax_block(i):
            window = [zeros(slots, size, heads, dim) for _ in range(4)]
            attention = WindowState(
                key=window[0], value=window[1], camera_key=window[2], camera_value=window[3]
            )
        else:
            attention = GDNState(
                matrix=zeros(heads, dim, dim, dtype=exact_dtype),
                mass=zeros(heads, dim, 1, dtype=exact_dtype),
                camera_matrix=zeros(heads, dim, dim, dtype=exact_dtype),
                key_tail=zeros(*tail),
                camera_key_tail=zeros(*tail),
            )
        left = zeros(size, config.hidden_size)
        blocks.append(BlockState(attention=attention, mlp_left=left))
    return SanaWMState(
        config=config,
        grid=grid,
        frame_index=zeros(dtype=torch.long),
        num_chunks=zeros(dtype=torch.long),
        blocks=tuple(blocks),
    )
