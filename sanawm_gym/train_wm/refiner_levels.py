"""Noise levels that a refiner is trained at: logit-normal, shifted, and cut off at sigma_s.

sigma = sigmoid(z), z ~ N(m, 1) cut off at logit(sigma_s); the mean m grows with the number of
tokens, as more of a long video shows through the same noise. A tenth of the levels is uniform over
(0, sigma_s], so that none is never seen. Source: the released training code of SANA-WM's refiner,
whose numbers are those of LTX's trainer.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_TOKENS, _MEANS = (1024, 4096), (0.95, 2.05)
_LEAST = 1e-4
"""Smallest level that is drawn."""


def refiner_shift(num_tokens: int) -> float:
    """Mean m of z: 0.95 at 1,024 tokens or fewer, 2.05 at 4,096 or more, linear between."""
    share = (num_tokens - _TOKENS[0]) / (_TOKENS[1] - _TOKENS[0])
    return _MEANS[0] + min(1.0, max(0.0, share)) * (_MEANS[1] - _MEANS[0])


def sample_levels(
    shape: tuple[int, ...],
    *,
    top: float,
    shift: float,
    uniform_share: float,
    generator: torch.Generator,
) -> Float[Tensor, "..."]:
    """Draw noise levels in (0, top].

    Args:
        shape: Shape of the result.
        top: sigma_s, in (0, 1].
        shift: Mean m of the normal distribution, see :func:`refiner_shift`.
        uniform_share: Share drawn uniformly instead.
        generator: CPU generator.
    """
    normal = torch.distributions.Normal(
        torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    )
    # A cut-off normal by its quantiles: nothing is drawn twice, so each level costs one number.
    bound = math.inf if top >= 1 else math.log(top / (1 - top)) - shift
    below = float(normal.cdf(torch.tensor(bound, dtype=torch.float64)))
    quantile = below * torch.rand(shape, generator=generator, dtype=torch.float64)
    cut = torch.sigmoid(shift + normal.icdf(quantile.clamp(1e-12, 1 - 1e-12)))
    even = top * torch.rand(shape, generator=generator, dtype=torch.float64)
    is_even = torch.rand(shape, generator=generator) < uniform_share
    return torch.where(is_even, even, cut).clamp(_LEAST, top).float()
