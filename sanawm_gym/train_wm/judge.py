"""What a network that sees whole clips takes a noised drawing to come from.

Axes: b clips, c channels, t latent frames, y and x of the latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.clip_path import ClipPath
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, add_noise, velocity_to_x_0


@dataclass(frozen=True)
class Question:
    """A drawing with noise on it. Its first frame was given and stays clean."""

    x_sigma: Float[Tensor, "b c t y x"]
    level: Float[Tensor, "b t"]
    """Noise level of each frame, 0 at the first."""
    path: ClipPath
    shown: Float[Tensor, "b c t y x"] | None
    """Warped pictures for judges with ``warp_condition``; None shows them nothing."""

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "b c t y x"],
        sigma: Float[Tensor, " b"],
        eps: Float[Tensor, "b c t y x"],
        path: ClipPath,
        shown: Float[Tensor, "b c t y x"] | None,
    ) -> Question:
        """Put noise of one level a clip on all frames that were drawn."""
        level = sigma[:, None] * drawn_frames(x)
        return cls(add_noise(x, eps, level), level, path, shown)

    def velocity(self, judge: WorldWeights, captions: Sequence[str]) -> Float[Tensor, "b c t y x"]:
        """What a judge answers under captions."""
        camera = self.path.whole(judge.network.config, self.shown).to(self.x_sigma.device)
        text = judge.text(captions)
        v: Tensor = judge.network(self.x_sigma, NUM_TIMESTEPS * self.level, text, camera)
        return v.float()

    def clean(self, v: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b c t y x"]:
        """Clean latents that an answer implies."""
        return velocity_to_x_0(self.x_sigma, v, self.level)


def drawn_frames(x: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b t"]:
    """1 for the frames of a clip that were drawn, 0 for the first, which was given."""
    drawn = torch.ones(x.shape[0], x.shape[2], device=x.device)
    drawn[:, 0] = 0.0
    return drawn
