"""What one pass over tokens before the recurrence is told and gives; see `kernels.prepare`.

Axes: b clips, t frames, s tokens of a frame, c width, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Complex, Float
from torch import Tensor


class Operator(NamedTuple):
    """What happens to a token's channels.

    Attributes:
        table: Rotary codes of whole heads, or of their second half.
        matrix: For the first half of every head, acting on rows; None turns whole heads.
        conjugate: Turn backwards.
    """

    table: Complex[Tensor, "b t s 1 n"]
    matrix: Float[Tensor, "b t s 4 4"] | None = None
    conjugate: bool = False


class Norm(NamedTuple):
    """RMSNorm over the width, ReLU, and a factor.

    Attributes:
        weight: Of the norm.
        eps: Of the norm.
        scale: Factor after the ReLU.
    """

    weight: Float[Tensor, " c"]
    eps: float
    scale: float = 1.0


class Prepared(NamedTuple):
    """Result of a pass over tokens.

    Attributes:
        out: After the operator.
        plain: Before it, if asked for.
        inflation: |out|^2 / |plain|^2 by token and head, if asked for.
    """

    out: Float[Tensor, "b t s h d"]
    plain: Float[Tensor, "b t s h d"] | None = None
    inflation: Float[Tensor, "b t s h"] | None = None
