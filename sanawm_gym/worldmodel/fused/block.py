"""One block over one frame of a stream; the formulas of `worldmodel.block`.

Axes: b rows, s tokens of a frame, c width, i channels of the Plücker map, l text tokens, h heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..block import Block
from ..cross_attention import NORM_EPS
from ..embed import LAYER_NORM_EPS
from ..frame_pass import FramePass
from ..gdn_attention import GDNAttention
from ..state import BlockState, GDNState, WindowState
from .gdn import FusedGDN, GDNNew, GDNPast
from .geometry import Geometry
from .packed import PackedConv, PackedLinear
from .softmax import FusedSoftmax, WindowNew, WindowPast


class BlockPast(NamedTuple):
    """What a block's memory means to the next frame.

    Attributes:
        attention: Its attention's.
        left: The MLP's temporal filter over the last frame.
    """

    attention: GDNPast | WindowPast
    left: Float[Tensor, "b s c"]


class BlockNew(NamedTuple):
    """What a frame adds to a block's memory."""

    attention: GDNNew | WindowNew
    h: Float[Tensor, "b s c"]


class Words(NamedTuple):
    """A prompt as one block reads it: cross-attention with its maps of the keys and values done.

    Attributes:
        ask: Maps tokens to their queries and, beside them, to logits without the queries' norm; a
            layer if there is one prompt, else a matrix a prompt.
        offset: Added to both by the matrices.
        hidden: Added to the logits of every head; -inf where there is no word.
        answer: What each head's words add to the tokens.
    """

    ask: PackedLinear | Float[Tensor, "b c n"]
    offset: Float[Tensor, "b 1 n"]
    hidden: Float[Tensor, "b 1 1 l"]
    answer: Float[Tensor, "b hl c"]


class FusedBlock:
    """A block of either kind.

    Args:
        block: Where the weights come from.
        packed: See `PackedLinear`.
    """

    def __init__(self, block: Block, *, packed: bool) -> None:
        self._packed = packed
        self._dtype = block.plucker_proj.weight.dtype
        self.table = block.scale_shift_table.detach().float()
        self.attention: FusedGDN | FusedSoftmax
        if isinstance(block.attn, GDNAttention):
            self.attention = FusedGDN(block.attn, packed=packed)
        else:
            self.attention = FusedSoftmax(block.attn, packed=packed)
        self._cross = block.cross_attn
        self._answer_bias = block.cross_attn.proj.bias.detach().float()
        mlp = block.mlp
        first, depth = mlp.inverted_conv.conv, mlp.depth_conv.conv
        self._inner = mlp.inner
        self._widen = PackedLinear(first.weight.flatten(1), first.bias, "silu", packed=packed)
        self._depth = PackedConv(depth.weight, depth.bias, depth.groups, packed=packed)
        point = mlp.point_conv.conv.weight.flatten(1)
        before, now, _ = mlp.t_conv.weight[..., 0].unbind(-1)
        self._narrow = PackedLinear(point, None, packed=packed)
        self._now = PackedLinear(now, None, packed=packed)
        self._before = PackedLinear(before, None, packed=packed)

    def words(
        self,
        key: Float[Tensor, "b h l d"],
        value: Float[Tensor, "b h l d"],
        hidden: Float[Tensor, "b 1 1 l"],
    ) -> Words:
        """Prepare a prompt.

        With q = (W x + w) r g, where r is the norm of the token and g its weight, the logits are
        r (x W^T + w) G K^T: the product of W, G and K is made here.
        """
        cross, dtype = self._cross, self._dtype
        key, value = key.float(), value.float()
        num_heads, dim = key.shape[1], key.shape[3]
        query, bias = cross.q_linear.weight.float(), cross.q_linear.bias.float()
        scale = (cross.q_norm.weight.float() * dim**-0.5).unflatten(0, (num_heads, 1, dim))
        keys = key * scale
        logits = torch.einsum("hdc,bhld->bchl", query.unflatten(0, (num_heads, dim)), keys)
        offset = torch.einsum("hd,bhld->bhl", bias.unflatten(0, (num_heads, dim)), keys)
        ask = torch.cat([query.t().expand(len(key), -1, -1), logits.flatten(2)], dim=2)
        both = torch.cat([bias.expand(len(key), -1), offset.flatten(1)], dim=1)
        proj = cross.proj.weight.float().unflatten(1, (num_heads, dim))
        answer = torch.einsum("bhld,chd->bhlc", value, proj).flatten(1, 2)
        words = Words(ask.to(dtype), both[:, None].to(dtype), hidden, answer.to(dtype))
        if self._packed and len(key) == 1:
            layer = PackedLinear(ask[0].t().to(dtype), both[0].to(dtype))
            return words._replace(ask=layer)
        return words

    def past(self, state: BlockState) -> BlockPast:
        """What the passes of a decision share."""
        memory = state.attention
        attention: GDNPast | WindowPast
        if isinstance(self.attention, FusedGDN):
            assert isinstance(memory, GDNState)
            attention = self.attention.past(memory)
        else:
            assert isinstance(memory, WindowState)
            attention = self.attention.past(memory)
        return BlockPast(attention, self._before(state.mlp_left).float())

    def __call__(
        self,
        x: Float[Tensor, "b s c"],
        modulation: Float[Tensor, "6 c"],
        lines: Float[Tensor, "b s c"] | None,
        words: Words,
        past: BlockPast,
        geometry: Geometry,
        grid: tuple[int, int],
    ) -> tuple[Float[Tensor, "b s c"], BlockNew]:
        """Run the block.

        Args:
            x: Tokens, float32.
            modulation: Shift, 1 + scale and gate of the attention and of the MLP.
            lines: What the Plücker map adds, or None.
            words: Prepared prompt.
            past: Prepared memory.
            geometry: Codes of the tokens.
            grid: Rows and columns of the frame.
        """
        dtype = self._dtype
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation.unbind(0)
        size = (x.shape[-1],)
        a = F.layer_norm(x, size, scale, shift, LAYER_NORM_EPS).to(dtype)
        attended, new = self._attend(a, past, geometry)
        x = torch.addcmul(x, gate, attended.float())
        if lines is not None:
            x = x + lines
        x = x + self._read(x.to(dtype), words)
        a = F.layer_norm(x, size, scale_mlp, shift_mlp, LAYER_NORM_EPS).to(dtype)
        h = self._mix_space(a, grid)
        mixed = h.float() + self._now(h).float() + past.left
        return torch.addcmul(x, gate_mlp, mixed), BlockNew(new, h)

    def advance(self, state: BlockState, new: BlockNew, frames: FramePass) -> BlockState:
        """The memory with the frame in it."""
        memory, added = state.attention, new.attention
        if isinstance(self.attention, FusedGDN):
            assert isinstance(memory, GDNState) and isinstance(added, GDNNew)
            return BlockState(attention=self.attention.advance(memory, added), mlp_left=new.h)
        assert isinstance(memory, WindowState) and isinstance(added, WindowNew)
        window = self.attention.advance(memory, added, frames)
        return BlockState(attention=window, mlp_left=new.h)

    def _attend(
        self, a: Tensor, past: BlockPast, geometry: Geometry
    ) -> tuple[Tensor, GDNNew | WindowNew]:
        if isinstance(self.attention, FusedGDN):
            assert isinstance(past.attention, GDNPast)
            return self.attention(a, past.attention, geometry)
        assert isinstance(past.attention, WindowPast)
        return self.attention(a, past.attention, geometry)

    def _read(self, x: Float[Tensor, "b s c"], words: Words) -> Float[Tensor, "b s c"]:
        """Cross-attention to the prompt, float32."""
        width = x.shape[-1]
        if isinstance(words.ask, Tensor):
            asked = torch.baddbmm(words.offset, x, words.ask).float()
        else:
            asked = words.ask(x).float()
        query, logits = asked[..., :width], asked[..., width:]
        size = torch.linalg.vector_norm(query, dim=-1, keepdim=True)
        logits = logits * (size.square() / width + NORM_EPS).rsqrt()
        shares = logits.unflatten(-1, (-1, words.hidden.shape[-1])) + words.hidden
        weights = shares.softmax(dim=-1).flatten(-2).to(x.dtype)
        return torch.bmm(weights, words.answer).float() + self._answer_bias

    def _mix_space(self, a: Tensor, grid: tuple[int, int]) -> Float[Tensor, "b s c"]:
        """See `GatedConvMLP._mix_space`."""
        # A channels-last view of token-major data: no copy on the way in or out.
        image = self._widen(a).unflatten(1, grid).permute(0, 3, 1, 2)
        y = self._depth(image).permute(0, 2, 3, 1).flatten(1, 2)
        value, gate = y.split(self._inner, dim=-1)
        return self._narrow(value * F.silu(gate))
