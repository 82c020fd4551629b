"""Self-attention by softmax over tokens of several frames: every fourth block.

No ReLU and no key scale; rotary codes (main) and rays (camera) as in recurrent blocks. A clip
attends within a chunk and back to all earlier ones; a stream attends to its window (sink and recent
frames) and to its own chunk.

Axes: b clips, t frames, s tokens of a frame, f frames of a window, h heads, d channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .attention import AttentionOutput, SelfAttention
from .frame_pass import FramePass
from .ops.frame_gdn import gather_frames
from .precision import attend_heads
from .rope import rotate
from .state import WindowState, map_part, move_frames
from .ucpe import apply_key_value, apply_output, apply_query, clamp_rms


def attend(
    query: Float[Tensor, "b n h d"],
    key: Float[Tensor, "b m h d"],
    value: Float[Tensor, "b m h d"],
    scale: float,
    visible: Bool[Tensor, "b m"] | None = None,
) -> Float[Tensor, "b n h d"]:
    """Softmax attention with an optional mask over keys."""
    mask = None if visible is None else visible[:, None, None]
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return attend_heads(query, key, value, mask, scale).transpose(1, 2)


class SoftmaxAttention(SelfAttention):
    """Softmax self-attention."""

    @property
    def camera_scale(self) -> float:
        """Logit scale of the camera branch; see `SanaWMConfig.softmax_camera_scale`."""
        return self._scale(self.config.softmax_camera_scale)

    def forward(
        self, a: Float[Tensor, "b t s c"], frames: FramePass, state: WindowState | None
    ) -> AttentionOutput:
        """Attend.

        Args:
            a: Modulated tokens.
            frames: Shared data of the call.
            state: Memory before the first frame; None for a whole clip.
        """
        query, new = self._project(a, frames)
        if state is None:
            main = self._clip(query[0], new.key, new.value, frames, self.main_scale)
            camera = None
            if query[1] is not None:
                camera = self._clip(
                    query[1], new.camera_key, new.camera_value, frames, self.camera_scale
                )
            return AttentionOutput(self._finish(a, main, camera, frames), None, None)
        if frames.keep == "every":
            return self._unroll(a, query, new, frames, state)
        return self._step(a, query, new, frames, state)

    @property
    def main_scale(self) -> float:
        """Logit scale of the main branch; see `SanaWMConfig.softmax_main_scale`."""
        return self._scale(self.config.softmax_main_scale)

    def _scale(self, size_of: Literal["padded", "head_dim"]) -> float:
        size = self.config.head_dim
        if size_of == "padded" and size < 256:
            size = next(n for n in (size if size in (32, 64) else 128, 128, 256) if n >= size)
        return 1.0 / math.sqrt(size)

    def _project(
        self, a: Tensor, frames: FramePass
    ) -> tuple[tuple[Tensor, Tensor | None], WindowState]:
        """Placed queries (main, camera) and what a window would store of these frames."""
        query, key, value = self.qkv(a).chunk(3, dim=-1)
        value = self.heads(value)
        query = rotate(self.heads(self.q_norm(query)), frames.rotary).to(value.dtype)
        key = rotate(self.heads(self.k_norm(key)), frames.rotary).to(value.dtype)
        if frames.rays is None:
            nothing = torch.zeros_like(key)
            new = WindowState(key=key, value=value, camera_key=nothing, camera_value=nothing)
            return (query, None), new
        rays = frames.rays
        dtype = rays.query.dtype
        plain_query = self.heads(self.q_norm_cam(self.q_proj_cam(a))).to(dtype)
        plain_key = self.heads(self.k_norm_cam(self.k_proj_cam(a))).to(dtype)
        plain_value = self.heads(self.v_proj_cam(a)).to(dtype)
        ray_query = apply_query(plain_query, rays)
        ray_key, ray_value = apply_key_value(plain_key, plain_value, rays)
        if self.config.ucpe_rms_clamp_softmax:
            ray_query = clamp_rms(plain_query, ray_query)
            ray_key = clamp_rms(plain_key, ray_key)
            ray_value = clamp_rms(plain_value, ray_value)
        new = WindowState(
            key=key,
            value=value,
            camera_key=ray_key.to(value.dtype),
            camera_value=ray_value.to(value.dtype),
        )
        return (query, ray_query.to(value.dtype)), new

    def _finish(self, a: Tensor, main: Tensor, camera: Tensor | None, frames: FramePass) -> Tensor:
        """Leave ray space, gate and project; branches come as (b, t s, h, d)."""
        main = main.reshape(*a.shape[:3], *main.shape[-2:])
        if camera is not None:
            assert frames.rays is not None
            rays = frames.rays
            camera = camera.reshape(main.shape).to(rays.output.dtype)
            camera = apply_output(camera, rays)
        dtype = torch.promote_types(main.dtype, torch.float32)
        return self.combine(a, main.to(dtype), camera, frames.known)

    def _clip(
        self, query: Tensor, key: Tensor, value: Tensor, frames: FramePass, scale: float
    ) -> Tensor:
        outputs, end, first = [], 0, 0
        if frames.slices is not None:
            key, value = (gather_frames(x, frames.slices) for x in (key, value))
            first = frames.slices.span(frames.slices.rank)[0]
        for size in frames.chunks:
            start, end = end, end + size
            asking = query[:, max(0, start - first) : max(0, end - first)]
            if asking.shape[1]:  # of a sliced clip, some chunks lie with others
                read, told = key[:, :end].flatten(1, 2), value[:, :end].flatten(1, 2)
                outputs.append(attend(asking.flatten(1, 2), read, told, scale))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _read(
        self,
        a: Tensor,
        query: tuple[Tensor, Tensor | None],
        full: WindowState,
        frames: FramePass,
        visible: Tensor | None,
    ) -> Tensor:
        """Attend rows of queries (n, frames, s, h, d) to rows of full windows."""
        mask = None
        if visible is not None:
            mask = visible.repeat_interleave(full.key.shape[2], dim=1)
        main = attend(
            query[0].flatten(1, 2), full.key.flatten(1, 2), full.value.flatten(1, 2),
            self.main_scale, mask,
        )  # fmt: skip
        camera = None
        if query[1] is not None:
            camera = attend(
                query[1].flatten(1, 2), full.camera_key.flatten(1, 2),
                full.camera_value.flatten(1, 2), self.camera_scale, mask,
            )  # fmt: skip
        return self._finish(a, main, camera, frames)

    def _step(
        self,
        a: Tensor,
        query: tuple[Tensor, Tensor | None],
        new: WindowState,
        frames: FramePass,
        state: WindowState,
    ) -> AttentionOutput:
        full = _join(state, new, dim=1)
        visible = frames.visible
        if visible is not None:
            visible = F.pad(visible, (0, a.shape[1]), value=True)
        out = self._read(a, query, full, frames, visible)
        if frames.keep == "nothing":
            return AttentionOutput(out, None, None)
        return AttentionOutput(out, slide_window(state, new, frames), None)

    def _unroll(
        self,
        a: Tensor,
        query: tuple[Tensor, Tensor | None],
        new: WindowState,
        frames: FramePass,
        state: WindowState,
    ) -> AttentionOutput:
        """All frames at once, each with the window that a stream would have had."""
        assert frames.windows is not None and frames.visible is not None
        num_frames = a.shape[1]
        sequence = _join(state, new, dim=1)
        row = torch.arange(a.shape[0], device=a.device)[:, None, None]
        seen = map_part(sequence, lambda x: x[row, frames.windows.source])  # type: ignore[union-attr]
        if frames.windows.moves is not None:
            moves = frames.windows.moves
            seen = WindowState(
                key=move_frames(seen.key, moves.main),
                value=seen.value,
                camera_key=move_frames(seen.camera_key, moves.camera),
                camera_value=move_frames(seen.camera_value, moves.camera),
            )
        every = map_part(seen, lambda x: x.flatten(0, 1))
        own = map_part(new, lambda x: x.flatten(0, 1)[:, None])
        full = _join(every, own, dim=1)
        rows = (query[0].flatten(0, 1)[:, None], None)
        if query[1] is not None:
            rows = (rows[0], query[1].flatten(0, 1)[:, None])  # type: ignore[assignment]
        visible = F.pad(frames.visible.flatten(0, 1), (0, 1), value=True)
        out = self._read(a, rows, full, frames, visible)
        at_end = map_part(full, lambda x: x.unflatten(0, (-1, num_frames))[:, -1])
        last = self._slide_one(at_end, new, frames)
        return AttentionOutput(out, last, every)

    def _slide_one(self, full: WindowState, new: WindowState, frames: FramePass) -> WindowState:
        """Window after the last frame, from that frame's window with itself at the end."""
        sink = self.config.sink_frames
        recent = self.config.num_recent_frames
        assert frames.is_first is not None
        alone = frames.is_first[:, None, None, None, None] & (new.key.shape[1] == 1)
        begun = _as_sink(map_part(full, lambda x: x[:, -1:]), frames)

        def slide(x: Tensor, first: Tensor) -> Tensor:
            kept = x[:, x.shape[1] - recent :]
            if not sink:
                return kept
            return torch.cat([torch.where(alone, first, x[:, :sink]), kept], dim=1)

        names = [field.name for field in fields(full)]
        return WindowState(
            **{name: slide(getattr(full, name), getattr(begun, name)) for name in names}
        )


def slide_window(state: WindowState, new: WindowState, frames: FramePass) -> WindowState:
    """The window after a chunk: its frames at the end, and in the sink if it was the first."""
    sink, recent = frames.config.sink_frames, frames.config.num_recent_frames
    begun = _as_sink(new, frames)

    def slide(old: Tensor, added: Tensor, first: Tensor) -> Tensor:
        kept = torch.cat([old[:, sink:], added], dim=1)
        if recent >= 0:
            kept = kept[:, kept.shape[1] - recent :]
        if not sink:
            return kept
        assert frames.is_first is not None
        head = torch.zeros_like(old[:, :sink])
        length = min(sink, first.shape[1])
        head = torch.cat([first[:, :length], head[:, length:]], dim=1)
        is_first = frames.is_first[:, None, None, None, None]
        return torch.cat([torch.where(is_first, head, old[:, :sink]), kept], dim=1)

    parts = {
        field.name: slide(*(getattr(x, field.name) for x in (state, new, begun)))
        for field in fields(state)
    }
    return WindowState(**parts)


def _as_sink(new: WindowState, frames: FramePass) -> WindowState:
    """First frames as a sink keeps them."""
    if frames.sink_move is None:
        return new
    main, camera = (matrix[:, None] for matrix in frames.sink_move)
    return WindowState(
        key=move_frames(new.key, main),
        value=new.value,
        camera_key=move_frames(new.camera_key, camera),
        camera_value=move_frames(new.camera_value, camera),
    )


def _join(first: WindowState, second: WindowState, dim: int) -> WindowState:
    """Concatenate two windows."""
    parts = {
        field.name: torch.cat([getattr(x, field.name) for x in (first, second)], dim=dim)
        for field in fields(first)
    }
    return WindowState(**parts)
