"""What clips and streams of a released world begin with.

Axes: b rows, f pictures, h rows and w columns of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What b clips begin with.

    Attributes:
        images: First pictures, RGB bytes of the world's size (`camera.fit_image` cuts to it).
        prompts: One a row.
        intrinsics: fx, fy, cx, cy of every row in pixels of the world's pictures; or, where the
            lens zooms, of every picture of its path.
        seeds: One a row; rows with equal seeds and paths are equal.
    """

    images: UInt8[np.ndarray, "b h w 3"]
    prompts: Sequence[str]
    intrinsics: Float[np.ndarray, "b 4"] | Float[np.ndarray, "b f 4"]
    seeds: Sequence[int]

    @property
    def rays(self) -> Float[Tensor, "b 4"] | Float[Tensor, "b f 4"]:
        """The intrinsics in float64."""
        return torch.tensor(np.asarray(self.intrinsics, dtype=np.float64))

    @property
    def zooms(self) -> bool:
        """Whether every picture has a lens of its own."""
        return np.ndim(self.intrinsics) == 3
