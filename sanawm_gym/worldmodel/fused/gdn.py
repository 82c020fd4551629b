"""Recurrent self-attention of one frame of a stream; the formulas of `worldmodel.gdn_attention`.

The two numerators run as one recurrence of twice as many heads, and what follows from the past
alone is computed once for all passes of a decision.

Axes: b rows, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..gdn_attention import GDNAttention
from ..short_conv import ShortConv
from ..state import GDNState
from .attention import FusedAttention, stack_branches
from .geometry import Geometry, carry, turn


class GDNPast(NamedTuple):
    """What a block's memory means to the next frame.

    Attributes:
        keys: The short convolutions' share of the past, zero for queries.
        matrices: Both numerators.
        mass: The denominator.
    """

    keys: Float[Tensor, "b s c4"]
    matrices: Float[Tensor, "b h2 d d"]
    mass: Float[Tensor, "b 1 h d"]


class GDNNew(NamedTuple):
    """What a frame adds to a block's memory."""

    matrices: Float[Tensor, "b h2 d d"]
    mass: Float[Tensor, "b 1 h d"]
    key: Float[Tensor, "b s c"]
    camera_key: Float[Tensor, "b s c"]


class FusedGDN(FusedAttention):
    """A recurrent block's attention."""

    def __init__(self, attention: GDNAttention, *, packed: bool) -> None:
        super().__init__(attention, [attention.beta_proj, attention.gate_proj], packed=packed)
        self._key_scale = attention.key_scale
        self._eps = attention.config.denominator_eps
        self._weights: dict[int, Tensor] = {}
        self._rate = attention.A_log.detach().float().exp()
        self._dt_bias = attention.dt_bias.detach().float()
        taps = [_taps(attention.conv_k), _taps(attention.conv_k_cam)]
        self._past_taps = [tap[:-1, None] for tap in taps]
        one = torch.ones_like(taps[0][0])
        self._last_taps = torch.cat([one, one, *(tap[-1] for tap in taps)])

    def past(self, state: GDNState) -> GDNPast:
        """What the passes of a decision share."""
        tails = (state.key_tail, state.camera_key_tail)
        shares = [(x.float() * w).sum(dim=1) for x, w in zip(tails, self._past_taps, strict=True)]
        nothing = torch.zeros_like(shares[0])
        return GDNPast(
            keys=torch.cat([nothing, nothing, *shares], dim=-1),
            matrices=torch.cat([state.matrix, state.camera_matrix], dim=1),
            mass=state.mass[..., 0][:, None],
        )

    def __call__(
        self, a: Float[Tensor, "b s c"], past: GDNPast, geometry: Geometry
    ) -> tuple[Float[Tensor, "b s c"], GDNNew]:
        """Attend."""
        width, num_heads = self.width, self.heads[0]
        projected = self.project(a)
        plain = projected[..., : 6 * width].float()
        filtered = torch.addcmul(past.keys, plain[..., : 4 * width], self._last_taps)
        placed = F.relu(self.normed(filtered, self._norm_weights(int(a.shape[1]))))
        # In the third axis: queries, camera queries, keys, camera keys.
        placed = placed.unflatten(-1, self.heads)
        camera_value, value = plain[..., 4 * width :].unflatten(-1, (2, *self.heads)).unbind(2)
        turned = turn(placed[:, :, ::2], geometry.rotary)
        ray_query = carry(placed[:, :, 1], geometry.query)
        both = torch.cat([placed[:, :, 3], camera_value], dim=2)
        ray_key, ray_value = carry(both, geometry.key_value).chunk(2, dim=2)
        gates = projected[..., 7 * width :].float()
        strength, decay = gates[..., :num_heads].sigmoid(), self._decay(gates[..., num_heads:])
        inflation = (_size(ray_key) / _size(placed[:, :, 3])).square().mean(dim=1, keepdim=True)
        out, matrices = _recur(
            stack_branches(turned[:, :, 0], ray_query),
            stack_branches(turned[:, :, 1], ray_key),
            stack_branches(value, ray_value),
            torch.cat([strength, strength / inflation.clamp_min(1.0)], dim=-1),
            torch.cat([decay, decay], dim=-1),
            past.matrices,
        )
        read, mass = _recur_mass(placed[:, :, 0], placed[:, :, 2], strength, decay, past.mass)
        main = out[:, :num_heads] / (read + self._eps).transpose(1, 2)[..., None]
        new = GDNNew(
            matrices=matrices,
            mass=mass,
            key=projected[..., 2 * width : 3 * width],
            camera_key=projected[..., 3 * width : 4 * width],
        )
        return self.combine(main, out[:, num_heads:], projected, geometry), new

    def advance(self, state: GDNState, new: GDNNew) -> GDNState:
        """The memory with the frame in it."""
        num_heads = self.heads[0]
        return GDNState(
            matrix=new.matrices[:, :num_heads],
            mass=new.mass[:, 0, ..., None],
            camera_matrix=new.matrices[:, num_heads:],
            key_tail=_push(state.key_tail, new.key),
            camera_key_tail=_push(state.camera_key_tail, new.camera_key),
        )

    def _norm_weights(self, num_tokens: int) -> Float[Tensor, "4 c"]:
        """With the scale of the keys in them: ReLU lets positive factors through."""
        if num_tokens not in self._weights:
            scale = self._key_scale(num_tokens)
            self._weights[num_tokens] = torch.cat([self.norms[:2], self.norms[2:] * scale])
        return self._weights[num_tokens]

    def _decay(self, gate: Float[Tensor, "b s h"]) -> Float[Tensor, "b h"]:
        return torch.exp(-self._rate * F.softplus(gate.mean(dim=1) + self._dt_bias))


def _taps(conv: ShortConv) -> Float[Tensor, "k c"]:
    return conv.weight.detach()[:, 0].float().t().contiguous()


def _push(tail: Float[Tensor, "b p s c"], key: Float[Tensor, "b s c"]) -> Float[Tensor, "b p s c"]:
    """Drop the oldest frame of a tail and add one."""
    return torch.cat([tail, key[:, None].to(tail.dtype)], dim=1)[:, 1:]


def _size(x: Float[Tensor, "b s h d"]) -> Float[Tensor, "b s h"]:
    size: Tensor = torch.linalg.vector_norm(x, dim=-1).clamp_min(1e-6)
    return size


def _recur(
    q: Float[Tensor, "b h s d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    strength: Float[Tensor, "b s h"],
    decay: Float[Tensor, "b h"],
    state: Float[Tensor, "b h d d"],
) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b h d d"]]:
    """Write a frame and read it, heads before tokens; see `frame_gdn_step`."""
    kept = (state * decay[..., None, None]).flatten(0, 1)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    beta = strength.transpose(1, 2).reshape(len(kept), -1, 1)
    surprise = torch.baddbmm(v, k, kept, alpha=-1) * beta
    after = torch.baddbmm(kept, k.transpose(1, 2), surprise)
    shape = (*state.shape[:2], -1, state.shape[-1])
    return torch.bmm(q, after).view(shape), after.view(state.shape)


def _recur_mass(
    q: Float[Tensor, "b s h d"],
    k: Float[Tensor, "b s h d"],
    strength: Float[Tensor, "b s h"],
    decay: Float[Tensor, "b h"],
    state: Float[Tensor, "b 1 h d"],
) -> tuple[Float[Tensor, "b s h"], Float[Tensor, "b 1 h d"]]:
    """The same with values of 1, in whose place sums over channels are cheaper."""
    kept = state * decay[:, None, :, None]
    surprise = (1.0 - (k * kept).sum(dim=-1)) * strength
    after = kept + (k * surprise[..., None]).sum(dim=1, keepdim=True)
    return (q * after).sum(dim=-1), after
