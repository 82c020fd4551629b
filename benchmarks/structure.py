"""How much of a picture's structure another one shows: multi-scale structural similarity.

SSIM compares mean, contrast and correlation of grey values under a Gaussian window; MS-SSIM
multiplies contrast and correlation over halved resolutions with the weights that observers were
found to give them [Wang 2003, eq. 7]. The first three of its five scales are used, their weights
made to add up to 1: the fifth of a picture of 72 rows would have four. It has no parameters to
train and knows nothing of any world, so it cannot favour the one whose encoder judges beside it.

Axes: n pictures, h rows, w columns.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

WEIGHTS = np.array([0.0448, 0.2856, 0.3001]) / 0.6305
STABLE = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
"""C1 and C2, which keep quotients of small numbers tame."""


def ms_ssim(first: UInt8[np.ndarray, "*n h w 3"], second: UInt8[np.ndarray, "*n h w 3"]) -> float:
    """Mean similarity of pairs of pictures, 1 for equal ones, about 0 for unrelated ones."""
    shape = (-1, *first.shape[-3:])
    a, b = (np.reshape(one, shape).astype(np.float64).mean(axis=-1) for one in (first, second))
    product = np.ones(len(a))
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = _halved(a), _halved(b)
        luminance, structure = _terms(a, b)
        if scale + 1 == len(WEIGHTS):
            structure = luminance * structure
        product = product * structure.mean(axis=(1, 2)).clip(0) ** weight
    return float(product.mean())


def _terms(
    a: Float[np.ndarray, "n h w"], b: Float[np.ndarray, "n h w"]
) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]:
    """Maps of the luminance term and of contrast times correlation."""
    mean_a, mean_b = _local(a), _local(b)
    var_a, var_b = _local(a * a) - mean_a**2, _local(b * b) - mean_b**2
    covariance = _local(a * b) - mean_a * mean_b
    c_1, c_2 = STABLE
    luminance = (2 * mean_a * mean_b + c_1) / (mean_a**2 + mean_b**2 + c_1)
    return luminance, (2 * covariance + c_2) / (var_a + var_b + c_2)


def _local(x: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n h w"]:
    return np.asarray(gaussian_filter(x, (0.0, 1.5, 1.5), truncate=3.5))


def _halved(x: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n h2 w2"]:
    """Means of squares of four pixels; an odd last row or column is left out."""
    even = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
