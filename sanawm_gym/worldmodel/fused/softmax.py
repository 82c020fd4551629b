"""Softmax self-attention of one frame of a stream; the formulas of `worldmodel.softmax_attention`.

Axes: b rows, s tokens of a frame, f frames of a window, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..frame_pass import FramePass
from ..softmax_attention import SoftmaxAttention, slide_window
from ..state import WindowState
from .attention import FusedAttention, stack_branches
from .geometry import Geometry, carry, turn


class WindowPast(NamedTuple):
    """Keys and values of both branches of a window, heads before tokens."""

    keys: Float[Tensor, "b h2 fs d"]
    values: Float[Tensor, "b h2 fs d"]


class WindowNew(NamedTuple):
    """What a frame adds to a window."""

    key: Float[Tensor, "b s h d"]
    value: Float[Tensor, "b s h d"]
    camera_key: Float[Tensor, "b s h d"]
    camera_value: Float[Tensor, "b s h d"]


class FusedSoftmax(FusedAttention):
    """A softmax block's attention."""

    def __init__(self, attention: SoftmaxAttention, *, packed: bool) -> None:
        super().__init__(attention, [], packed=packed)
        self._packed = packed
        # The scale of the logits goes into the queries, through the weight of their norm.
        self._scales = (attention.main_scale, attention.camera_scale)
        self._weights = self.norms.clone()
        self._weights[0] *= self._scales[0]
        self._weights[1] *= self._scales[1]

    def past(self, state: WindowState) -> WindowPast:
        """What the passes of a decision share."""
        return WindowPast(
            keys=stack_branches(state.key.flatten(1, 2), state.camera_key.flatten(1, 2)),
            values=stack_branches(state.value.flatten(1, 2), state.camera_value.flatten(1, 2)),
        )

    def __call__(
        self, a: Float[Tensor, "b s c"], past: WindowPast, geometry: Geometry
    ) -> tuple[Float[Tensor, "b s c"], WindowNew]:
        """Attend."""
        width, dtype = self.width, a.dtype
        projected = self.project(a)
        plain = projected[..., : 5 * width].float()
        placed = self.normed(plain[..., : 4 * width], self._weights).unflatten(-1, self.heads)
        turned = turn(placed[:, :, ::2], geometry.rotary).to(dtype)
        camera_value = plain[..., 4 * width :].unflatten(-1, self.heads)
        ray_query = carry(placed[:, :, 1], geometry.query).to(dtype)
        both = torch.cat([placed[:, :, 3], camera_value], dim=2)
        ray_key, ray_value = carry(both, geometry.key_value).to(dtype).chunk(2, dim=2)
        new = WindowNew(
            key=turned[:, :, 1],
            value=projected[..., 5 * width : 6 * width].unflatten(-1, self.heads),
            camera_key=ray_key,
            camera_value=ray_value,
        )
        query = stack_branches(turned[:, :, 0], ray_query)
        keys = torch.cat([past.keys, stack_branches(new.key, ray_key)], dim=2)
        values = torch.cat([past.values, stack_branches(new.value, ray_value)], dim=2)
        hidden = geometry.hidden
        if self._packed and len(a) > 1:
            # The logits of one row fit a processor's cache, those of eight do not: half the time.
            masks = [None] * len(a) if hidden is None else hidden.split(1)
            rows = zip(query.split(1), keys.split(1), values.split(1), masks, strict=True)
            out = torch.cat([_attend(*row) for row in rows])
        else:
            out = _attend(query, keys, values, hidden)
        main, camera = out.float().chunk(2, dim=1)
        return self.combine(main, camera, projected, geometry), new

    def advance(self, state: WindowState, new: WindowNew, frames: FramePass) -> WindowState:
        """The window with the frame in it."""
        parts = {name: part[:, None] for name, part in new._asdict().items()}
        return slide_window(state, WindowState(**parts), frames)


def _attend(
    query: Float[Tensor, "b m s d"],
    keys: Float[Tensor, "b m k d"],
    values: Float[Tensor, "b m k d"],
    hidden: Float[Tensor, "b 1 1 k"] | None,
) -> Float[Tensor, "b m s d"]:
    """Softmax attention of m heads, scaled queries, with what is added to the logits."""
    logits = torch.bmm(query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
    if hidden is not None:
        logits = (logits.view(*query.shape[:2], *logits.shape[1:]) + hidden).flatten(0, 1)
    return torch.bmm(logits.softmax(dim=-1), values.flatten(0, 1)).view(query.shape)
