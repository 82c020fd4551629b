"""Self-attention by the frame-wise gated delta rule, with an unnormalised camera branch beside it.

Main branch: q, k through RMSNorm and ReLU; the numerator uses rotated queries and keys, the
denominator unrotated ones, so positions redistribute mass without making any:

    out = (q~^T S) / (q^T z + eps)

Camera branch: q, k, v moved into world space by their rays, numerator only. A large camera
translation inflates keys beyond the 1/sqrt(D*S) that keeps the erasure stable, so the write
strength is divided by the mean inflation of |k|^2 over the frame where that exceeds 1.

Axes: b clips, t frames, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .attention import AttentionOutput, SelfAttention
from .config import SanaWMConfig
from .frame_pass import FramePass
from .gdn_prepare import Preparation, camera_output
from .ops.frame_gdn import FrameGDNResult, exchange_halo, frame_gdn, frame_gdn_step
from .ops.frame_gdn.fla_parts import decay_of_gate
from .precision import RMSNorm, exact
from .short_conv import ShortConv
from .state import GDNState


class _Memory(NamedTuple):
    """Initial values of the three recurrences."""

    matrix: Tensor | None = None
    mass: Tensor | None = None
    camera: Tensor | None = None


class GDNAttention(SelfAttention):
    """Recurrent self-attention."""

    def __init__(self, config: SanaWMConfig) -> None:
        super().__init__(config)
        self.conv_k = ShortConv(config.hidden_size, config.conv_kernel_size)
        self.conv_k_cam = ShortConv(config.hidden_size, config.conv_kernel_size)

    def forward(
        self, a: Float[Tensor, "b t s c"], frames: FramePass, state: GDNState | None
    ) -> AttentionOutput:
        """Attend.

        Args:
            a: Modulated tokens.
            frames: Shared data of the call.
            state: Memory before the first frame; None is empty.
        """
        memory = _Memory()
        if state is not None:
            memory = _Memory(state.matrix, state.mass, state.camera_matrix)
        strength = self.beta_proj(a).to(torch.promote_types(a.dtype, torch.float32)).sigmoid()
        decay = self._decay(a)
        main, key, (numerator, mass) = self._main(a, frames, strength, decay, state, memory)
        camera, camera_key, moved = None, None, None
        if frames.rays is not None:
            camera, camera_key, moved = self._camera(a, frames, strength, decay, state, memory)
        out = self.combine(a, main, camera, frames.known)
        if state is None or frames.keep == "nothing":
            return AttentionOutput(out, None, None)
        keys = _Tails(state.key_tail, key, frames)
        camera_keys = _Tails(state.camera_key_tail, camera_key, frames)
        last = GDNState(
            matrix=numerator.final,
            mass=mass.final,
            camera_matrix=state.camera_matrix if moved is None else moved.final,
            key_tail=keys.after,
            camera_key_tail=camera_keys.after,
        )
        if frames.keep == "last":
            return AttentionOutput(out, last, None)
        camera_matrix = (
            state.camera_matrix.repeat_interleave(a.shape[1], dim=0)
            if moved is None
            else moved.before.flatten(0, 1)
        )
        every = GDNState(
            matrix=numerator.before.flatten(0, 1),
            mass=mass.before.flatten(0, 1),
            camera_matrix=camera_matrix,
            key_tail=keys.before,
            camera_key_tail=camera_keys.before,
        )
        return AttentionOutput(out, last, every)

    def _decay(self, a: Tensor) -> Tensor:
        """Share of memory kept per frame and head: exp(-exp(A_log) softplus(gate + dt_bias))."""
        dtype = torch.promote_types(a.dtype, torch.float32)
        return decay_of_gate(self.gate_proj(a.mean(dim=2)).to(dtype), self.A_log, self.dt_bias)

    def _main(
        self,
        a: Tensor,
        frames: FramePass,
        strength: Tensor,
        decay: Tensor,
        state: GDNState | None,
        memory: _Memory,
    ) -> tuple[Tensor, Tensor, tuple[FrameGDNResult, FrameGDNResult]]:
        query, key, value = self.qkv(a).chunk(3, dim=-1)
        past = None if state is None else state.key_tail
        raw_key = key
        key = _filter(self.conv_k, key, frames, past)
        tokens = self._preparation(a, self.q_norm, self.k_norm, strength).main(
            query, key, value, frames.rotary
        )
        turn = None if frames.moves is None else frames.moves.main
        numerator = _recur(
            tokens.turned_query, tokens.turned_key, tokens.value, strength, decay, frames,
            memory.matrix, turn, None,
        )  # fmt: skip
        ones = torch.ones_like(tokens.value[..., :1])
        mass = _recur(
            tokens.query, tokens.key, ones, strength, decay, frames, memory.mass, None, None
        )
        out = numerator.output / (mass.output + self.config.denominator_eps)
        return out, raw_key, (numerator, mass)

    def _camera(
        self,
        a: Tensor,
        frames: FramePass,
        strength: Tensor,
        decay: Tensor,
        state: GDNState | None,
        memory: _Memory,
    ) -> tuple[Tensor, Tensor, FrameGDNResult]:
        assert frames.rays is not None
        past = None if state is None else state.camera_key_tail
        raw_key = self.k_proj_cam(a)
        key = _filter(self.conv_k_cam, raw_key, frames, past)
        tokens = self._preparation(a, self.q_norm_cam, self.k_norm_cam, strength).camera(
            self.q_proj_cam(a), key, self.v_proj_cam(a), frames.rays
        )
        inflation = tokens.inflation.mean(dim=2, keepdim=True)
        discounted = strength / inflation.clamp_min(1.0)
        left = None if frames.moves is None else frames.moves.camera
        right = None if left is None else left.transpose(-1, -2)
        read = _recur(
            tokens.query, tokens.key, tokens.value, discounted, decay, frames,
            memory.camera, left, right,
        )  # fmt: skip
        return camera_output(read.output, frames.rays), raw_key, read

    def _preparation(
        self, a: Tensor, query_norm: RMSNorm, key_norm: RMSNorm, strength: Tensor
    ) -> Preparation:
        return Preparation(
            query_norm=query_norm, key_norm=key_norm, num_heads=self.config.num_attention_heads,
            key_scale=self.key_scale(a.shape[2]), dtype=strength.dtype,
            clamp=self.config.ucpe_rms_clamp_gdn,
        )  # fmt: skip


def _filter(convolution: ShortConv, key: Tensor, frames: FramePass, past: Tensor | None) -> Tensor:
    """The short convolution, which reads the neighbours' frames where a clip is sliced."""
    slices, reach = frames.slices, convolution.kernel_size - 1
    if slices is None:
        filtered: Tensor = convolution(key, frames.chunks, past)
        return filtered
    wide = exchange_halo(key, slices, before=reach, after=reach)
    chunks = slices.local_chunks(frames.chunks, after=reach)
    whole: Tensor = convolution(wide[:, reach:], chunks, wide[:, :reach])
    return whole[:, : key.shape[1]]


def _recur(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    frames: FramePass,
    initial: Tensor | None,
    left: Tensor | None,
    right: Tensor | None,
) -> FrameGDNResult:
    """Run the delta rule by the form that suits the call."""
    with exact(q.device):
        if q.shape[1] == 1 and initial is not None and frames.keep != "every":
            out, final = frame_gdn_step(
                q[:, 0], k[:, 0], v[:, 0], beta[:, 0], decay[:, 0], initial.to(beta.dtype)
            )
            return FrameGDNResult(out[:, None], initial[:, None], final)
        return frame_gdn(
            q, k, v, beta, decay, chunks=frames.chunks, initial=initial, left=left, right=right,
            slices=frames.slices,
        )  # fmt: skip


class _Tails:
    """Inputs that the short convolution of later frames will need."""

    def __init__(self, past: Tensor, new: Tensor | None, frames: FramePass) -> None:
        self._reach = past.shape[1]
        self._num_frames = sum(frames.chunks)
        # Without a camera its keys do not exist; the past stays as it was.
        self._stays = new is None
        self._extended = past if new is None else torch.cat([past.to(new.dtype), new], dim=1)

    @property
    def after(self) -> Tensor:
        """The last frames."""
        return self._extended[:, self._extended.shape[1] - self._reach :]

    @property
    def before(self) -> Tensor:
        """The frames before each frame, with rows (b t)."""
        starts = [0 if self._stays else frame for frame in range(self._num_frames)]
        windows = [self._extended[:, i : i + self._reach] for i in starts]
        return torch.stack(windows, dim=1).flatten(0, 1)
