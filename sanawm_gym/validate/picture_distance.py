"""How far a set of pictures is from reference video: a Frechet distance and plain statistics.

Frechet distance of two sets of feature vectors under the Gaussians fitted to them,
|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) [Heusel 2017, eq. 6, there with Inception features]. The
features here are the activations before the head of the world's own video encoder, frozen, averaged
over a coarse grid and reduced by a PCA fitted on reference video. They see what matters in these
small pictures (where road, verge and sky are) and need no foreign network. They know nothing that
the encoder threw away, so sharpness, colours and latent deviation stand beside them.

Axes: f frames, t latent frames, n vectors, k features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder

GRID = (3, 4)
"""Rows and columns that activations are averaged over."""
BINS = 4
"""Levels of each colour in a histogram."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is kept of a stretch of video; a row a latent frame (0.25 s)."""

    features: Float[np.ndarray, "t k"]
    """Activations of the encoder."""
    colours: Float[np.ndarray, "t bins"]
    """Histograms over RGB, each adding up to 1."""
    sharpness: Float[np.ndarray, " t"]
    """Mean difference of neighbouring pixels in a row, 0-255."""
    latent_std: Float[np.ndarray, " t"]
    """Deviation of the latent frame over channels and cells."""

    def at(self, rows: np.ndarray) -> Pictures:
        """Some of the latent frames, by index or mask."""
        return Pictures(
            features=self.features[rows],
            colours=self.colours[rows],
            sharpness=self.sharpness[rows],
            latent_std=self.latent_std[rows],
        )


def joined(parts: list[Pictures]) -> Pictures:
    """Several stretches as one set."""
    return Pictures(
        features=np.concatenate([part.features for part in parts]),
        colours=np.concatenate([part.colours for part in parts]),
        sharpness=np.concatenate([part.sharpness for part in parts]),
        latent_std=np.concatenate([part.latent_std for part in parts]),
    )


def look(autoencoder: VideoAutoencoder, frames: UInt8[np.ndarray, "f h w 3"]) -> Pictures:
    """Look at a clip of s k + 1 frames; the first only leads in, k latent frames count."""
    kept: list[Tensor] = []
    weight, stride = autoencoder.latents_mean, autoencoder.config.temporal_stride
    hook = autoencoder.encoder.coarse.register_forward_hook(
        lambda module, inputs, output: kept.append(output)
    )
    pixels = torch.from_numpy(np.array(frames)).to(weight.device).permute(3, 0, 1, 2)[None]
    try:
        with torch.no_grad():
            latents = autoencoder.encode((pixels.float() / 127.5 - 1).to(weight.dtype))
    finally:
        hook.remove()
    pooled = F.adaptive_avg_pool2d(kept[0].float(), GRID).flatten(1)
    last = frames[stride::stride]  # one picture a latent frame is enough for the statistics
    levels = last.astype(np.int64) * BINS // 256
    index = (levels[..., 0] * BINS + levels[..., 1]) * BINS + levels[..., 2]
    counts = [np.bincount(one.ravel(), minlength=BINS**3) for one in index]
    return Pictures(
        features=pooled[1:].cpu().numpy().astype(np.float64),
        colours=np.stack(counts) / index[0].size,
        sharpness=np.abs(np.diff(last.astype(np.float64), axis=2)).mean(axis=(1, 2, 3)),
        latent_std=latents[0, :, 1:].float().std(dim=(0, 2, 3)).cpu().numpy().astype(np.float64),
    )


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Reference video, ready to be compared with."""

    mean: Float[np.ndarray, " k"]
    axes: Float[np.ndarray, "k2 k"]
    scale: float
    reference: Pictures

    @classmethod
    def of(cls, reference: Pictures, num_axes: int = 48) -> Yardstick:
        """Fit the axes; distances are in units of the reference's variance along all of them."""
        mean = reference.features.mean(axis=0)
        _, values, axes = np.linalg.svd(reference.features - mean, full_matrices=False)
        variance = values**2 / max(1, len(reference.features) - 1)
        used = slice(0, min(num_axes, len(values)))
        return cls(
            mean=mean,
            axes=axes[used],
            scale=float(variance[used].sum()),
            reference=reference,
        )

    def distance(self, drawn: Pictures, reference: Pictures | None = None) -> float:
        """Frechet distance to the reference, or to a part of it."""
        first = (drawn.features - self.mean) @ self.axes.T
        second = ((reference or self.reference).features - self.mean) @ self.axes.T
        return frechet(first, second) / self.scale

    def floor(self, drives: list[Pictures], count: int) -> float:
        """Mean distance of as many reference drives as are judged to the other ones."""
        rng, found = np.random.default_rng(0), []
        count = min(count, len(drives) // 2)
        for _ in range(5):
            order = rng.permutation(len(drives))
            parts = [joined([drives[i] for i in half]) for half in (order[:count], order[count:])]
            found.append(self.distance(*parts))
        return float(np.mean(found))

    def statistics(self, drawn: Pictures) -> dict[str, float]:
        """Plain figures, those of the reference as the unit where there is one."""
        reference = self.reference
        colours = np.abs(drawn.colours.mean(axis=0) - reference.colours.mean(axis=0)).sum() / 2
        return {
            "sharpness": float(drawn.sharpness.mean() / reference.sharpness.mean()),
            "colour_distance": float(colours),
            "latent_std": float(drawn.latent_std.mean() / reference.latent_std.mean()),
        }


def frechet(first: Float[np.ndarray, "n k"], second: Float[np.ndarray, "m k"]) -> float:
    """Squared Frechet distance of the Gaussians of two sets."""
    gap = first.mean(axis=0) - second.mean(axis=0)
    c_1, c_2 = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (first, second))
    values, vectors = np.linalg.eigh(c_1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ c_2 @ root).clip(0)).sum()
    return float(gap @ gap + np.trace(c_1) + np.trace(c_2) - 2 * shared)
