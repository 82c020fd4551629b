"""One block: self-attention, camera rays, prompt, MLP; each frame modulated by its own timestep.

Axes: b clips, t frames, s tokens of a frame, c width, i channels of the Plücker map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .attention import AttentionOutput, only_rows
from .config import SanaWMConfig
from .cross_attention import CrossAttention
from .embed import PatchEmbed, modulate
from .frame_pass import FramePass
from .gdn_attention import GDNAttention
from .mlp import GatedConvMLP
from .softmax_attention import SoftmaxAttention
from .state import BlockState, GDNState, WindowState


class BlockOutput(NamedTuple):
    """Tokens and the memory a block leaves; see `AttentionOutput`."""

    x: Float[Tensor, "b t s c"]
    last: BlockState | None
    every: BlockState | None


class Prompt(NamedTuple):
    """A prompt's keys and values for one block."""

    key: Float[Tensor, "b h l d"]
    value: Float[Tensor, "b h l d"]
    mask: Bool[Tensor, "b 1 1 l"]


class PluckerInput(NamedTuple):
    """The packed map as tokens, and the embedder that all blocks share."""

    lines: Float[Tensor, "b t s i"]
    embedder: PatchEmbed


class Block(nn.Module):
    """A block of either kind."""

    def __init__(self, config: SanaWMConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.plucker_proj = nn.Linear(width, width)
        self.attn: GDNAttention | SoftmaxAttention
        if config.is_softmax_block(index):
            self.attn = SoftmaxAttention(config)
        else:
            self.attn = GDNAttention(config)
        self.cross_attn = CrossAttention(width, config.num_attention_heads)
        self.mlp = GatedConvMLP(config)

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        t0: Float[Tensor, "b t 6 c"],
        prompt: Prompt,
        plucker: PluckerInput | None,
        frames: FramePass,
        state: BlockState | None,
    ) -> BlockOutput:
        """Run the block.

        Args:
            x: Tokens.
            t0: Modulation shared by the blocks, to which each adds its own table.
            prompt: The block's text keys and values.
            plucker: Packed map, or None without a camera.
            frames: Shared data of the call.
            state: The block's memory, or None for a whole clip.
        """
        table = self.scale_shift_table + t0
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = table.unbind(2)
        attention = self._attend(modulate(x, shift, scale), frames, state)
        x = torch.addcmul(x, gate[:, :, None], attention.out)
        if plucker is not None:
            x = x + only_rows(self._inject(plucker), frames.known)
        x = x + self.cross_attn(x, *prompt)
        left = None if state is None else state.mlp_left
        b = modulate(x, shift_mlp, scale_mlp)
        mlp, h = self.mlp(b, frames.grid, frames.chunks, left, frames.slices)
        x = torch.addcmul(x, gate_mlp[:, :, None], mlp)
        if state is None or attention.last is None:
            return BlockOutput(x, None, None)
        last = BlockState(attention=attention.last, mlp_left=h[:, -1])
        if attention.every is None:
            return BlockOutput(x, last, None)
        lefts = torch.cat([state.mlp_left[:, None].to(h.dtype), h[:, :-1]], dim=1).flatten(0, 1)
        return BlockOutput(x, last, BlockState(attention=attention.every, mlp_left=lefts))

    def _attend(self, a: Tensor, frames: FramePass, state: BlockState | None) -> AttentionOutput:
        memory = None if state is None else state.attention
        if isinstance(self.attn, GDNAttention):
            assert memory is None or isinstance(memory, GDNState)
            recurrent: AttentionOutput = self.attn(a, frames, memory)
            return recurrent
        assert memory is None or isinstance(memory, WindowState)
        softmax: AttentionOutput = self.attn(a, frames, memory)
        return softmax

    def _inject(self, plucker: PluckerInput) -> Tensor:
        """plucker_proj(plucker_embedder(lines)) as one map.

        Two linear maps in a row with few input channels: their product costs the tokens 1/C of the
        work of the second one.
        """
        embed, proj = plucker.embedder, self.plucker_proj
        assert embed.proj.bias is not None
        weight = proj.weight @ embed.matrix
        bias = torch.addmv(proj.bias, proj.weight, embed.proj.bias)
        return F.linear(plucker.lines, weight, bias)
