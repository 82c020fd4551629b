"""What stands between the projections of a recurrent block and its recurrence.

Norms, ReLU, key scale and what places a token, rotary codes or rays: every result needs one look at
its token, so on a GPU a kernel makes them in one pass (`ops.frame_gdn.kernels.prepare`), while the
torch form below is what results on a CPU are defined by. Which of the two, `ops.frame_gdn.backend`
decides. The kernel leaves tokens in the dtype of the projections, where the torch form widens them
to that of the recurrence; small heads, whose rays are dense matrices (`ucpe.MAX_DENSE_HEAD`), have
no kernel, since a single product of torch does all their work.

Axes: b clips, t frames, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from .ops.frame_gdn import chosen_form
from .ops.frame_gdn.preparation import Norm, Operator
from .precision import RMSNorm
from .rope import rotate
from .ucpe import RayOperators, apply_key_value, apply_output, apply_query, clamp_rms


class MainTokens(NamedTuple):
    """What the main branch's two recurrences take.

    Attributes:
        query: Positive, not turned: for the denominator.
        key: The same, scaled.
        turned_query: For the numerator.
        turned_key: The same.
        value: As projected.
    """

    query: Float[Tensor, "b t s h d"]
    key: Float[Tensor, "b t s h d"]
    turned_query: Float[Tensor, "b t s h d"]
    turned_key: Float[Tensor, "b t s h d"]
    value: Float[Tensor, "b t s h d"]


class CameraTokens(NamedTuple):
    """What the camera branch's recurrence takes, in world space.

    Attributes:
        query: Positive, moved by the rays.
        key: The same, scaled.
        value: Moved by the rays.
        inflation: Growth of |key|^2 by the move.
    """

    query: Float[Tensor, "b t s h d"]
    key: Float[Tensor, "b t s h d"]
    value: Float[Tensor, "b t s h d"]
    inflation: Float[Tensor, "b t s h"]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the tokens of one branch of a block are prepared.

    Attributes:
        query_norm: Norm of the queries.
        key_norm: Norm of the keys.
        num_heads: Heads in the width.
        key_scale: Factor on the keys.
        dtype: Of the recurrence, at least float32.
        clamp: Scale heads down to the RMS that they had before their rays (camera branch).
    """

    query_norm: RMSNorm
    key_norm: RMSNorm
    num_heads: int
    key_scale: float
    dtype: torch.dtype
    clamp: bool = False

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, -1))
        return heads

    def _positive(self, x: Tensor, norm: RMSNorm) -> Tensor:
        return self._heads(F.relu(norm(x))).to(self.dtype)

    def _norms(self) -> tuple[Norm, Norm]:
        """Those of queries and keys as the kernels take them."""
        first, second = self.query_norm, self.key_norm
        assert first.eps is not None and second.eps is not None
        return Norm(first.weight, first.eps), Norm(second.weight, second.eps, self.key_scale)

    def main(
        self,
        query: Float[Tensor, "b t s c"],
        key: Float[Tensor, "b t s c"],
        value: Float[Tensor, "b t s c"],
        rotary: Complex[Tensor, "b t s 1 d2"],
    ) -> MainTokens:
        """Prepare the main branch.

        Args:
            query: As projected.
            key: After the short convolution.
            value: As projected.
            rotary: Codes of whole heads.
        """
        head_dim = query.shape[-1] // self.num_heads
        unmade = None if head_dim % 4 == 0 else f"heads of {head_dim} channels are no fours"
        if chosen_form(query, head_dim, unmade) == "triton":
            from .ops.frame_gdn.kernels.prepare import prepare_tokens

            asked, kept = (
                prepare_tokens(x, Operator(rotary), self.num_heads, norm=norm, keep_plain=True)
                for x, norm in zip((query, key), self._norms(), strict=True)
            )
            assert asked.plain is not None and kept.plain is not None
            return MainTokens(asked.plain, kept.plain, asked.out, kept.out, self._heads(value))
        query = self._positive(query, self.query_norm)
        key = self._positive(key, self.key_norm) * self.key_scale
        value = self._heads(value).to(self.dtype)
        return MainTokens(query, key, rotate(query, rotary), rotate(key, rotary), value)

    def camera(
        self,
        query: Float[Tensor, "b t s c"],
        key: Float[Tensor, "b t s c"],
        value: Float[Tensor, "b t s c"],
        rays: RayOperators,
    ) -> CameraTokens:
        """Prepare the camera branch.

        Args:
            query: As projected.
            key: After the short convolution.
            value: As projected.
            rays: What places the tokens.
        """
        head_dim = query.shape[-1] // self.num_heads
        if chosen_form(query, head_dim, _without_kernel(head_dim, rays)) == "triton":
            from .ops.frame_gdn.kernels.prepare import prepare_tokens

            query_norm, key_norm = self._norms()
            seen, written = (Operator(rays.rotary, x) for x in (rays.query, rays.key_value))
            asked = prepare_tokens(query, seen, self.num_heads, norm=query_norm, clamp=self.clamp)
            kept = prepare_tokens(
                key, written, self.num_heads, norm=key_norm, clamp=self.clamp, inflation=True
            )
            given = prepare_tokens(value, written, self.num_heads, clamp=self.clamp)
            assert kept.inflation is not None
            return CameraTokens(asked.out, kept.out, given.out, kept.inflation)
        query = self._positive(query, self.query_norm)
        key = self._positive(key, self.key_norm)
        key = key * self.key_scale
        value = self._heads(value).to(self.dtype)
        ray_query = apply_query(query, rays)
        ray_key, ray_value = apply_key_value(key, value, rays)
        if self.clamp:
            ray_query = clamp_rms(query, ray_query)
            ray_key, ray_value = clamp_rms(key, ray_key), clamp_rms(value, ray_value)
        size = key.square().sum(-1).clamp_min(1e-12)
        inflation = ray_key.square().sum(-1).clamp_min(1e-12) / size
        return CameraTokens(ray_query, ray_key, ray_value, inflation)


def camera_output(x: Float[Tensor, "b t s h d"], rays: RayOperators) -> Float[Tensor, "b t s h d"]:
    """What the camera branch read, back in the frames of the reading rays."""
    num_heads, head_dim = x.shape[-2:]
    if chosen_form(x, head_dim, _without_kernel(head_dim, rays)) == "torch":
        return apply_output(x, rays)
    from .ops.frame_gdn.kernels.prepare import prepare_tokens

    back = Operator(rays.rotary, rays.output, conjugate=True)
    return prepare_tokens(x.flatten(-2), back, num_heads).out


def _without_kernel(head_dim: int, rays: RayOperators) -> str | None:
    """What about a ray branch its kernel is not made for."""
    if rays.query.shape[-1] != 4:
        return f"rays of heads of {head_dim} channels are dense matrices, a single torch product"
    if head_dim % 8:
        return f"half a head of {head_dim} channels is no fours"
    if rays.query.requires_grad:
        return "its kernel gives rays no gradient"
    return None
