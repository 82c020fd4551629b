"""Smooth random fields over the plane, the same at whatever resolution they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from .opencv import cv2

SIZE = 128  # cells of one period


class Noise:
    """A periodic field of smooth random values, about zero mean and unit variance."""

    def __init__(self, seed: int) -> None:
        """Draw the field.

        Args:
            seed: Seed of the values.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        field = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
        wide = np.pad(field, 8, mode="wrap")
        field = np.asarray(cv2.GaussianBlur(wide, (0, 0), 0.8)[8:-8, 8:-8], dtype=np.float32)
        field = (field - field.mean()) / field.std()
        self._field = np.pad(field, ((0, 1), (0, 1)), mode="wrap")

    def __call__(
        self,
        x: Float32[np.ndarray, "h w"],
        y: Float32[np.ndarray, "h w"],
        cell: float,
        offset: float = 0.0,
    ) -> Float32[np.ndarray, "h w"]:
        """Read the field.

        Args:
            x: First coordinate [m].
            y: Second coordinate [m].
            cell: Size of one random cell [m].
            offset: Shift in cells, to read another part of the field.
        """
        u, v = x * np.float32(1 / cell), y * np.float32(1 / cell)
        u = wrap(u + np.float32(offset), SIZE)
        v = wrap(v + np.float32(1.7 * offset), SIZE)
        return cv2.remap(self._field, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def smoothstep(
    low: float, high: float, value: Float[np.ndarray, "*s"] | np.floating[Any]
) -> Float[np.ndarray, "*s"]:
    """0 below low, 1 above high, a smooth step between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def wrap(value: Float32[np.ndarray, "h w"], period: int) -> Float32[np.ndarray, "h w"]:
    """Value modulo a period, in [0, period] (several times faster than numpy's remainder)."""
    return np.asarray(value - np.float32(period) * np.floor(value * np.float32(1.0 / period)))
