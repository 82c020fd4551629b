"""What own drives are judged by: a small critic of pictures, and their appearance row by row.

The critic sees a few consecutive decoded pictures and gives one score a patch. In latents a critic
was found to reward variance that nobody sees; in pictures it asks for edges, and it learns to ask
sooner when fine detail is shown to it separately.

Axes: b clips, n pictures a clip, h and w of the picture.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.worldmodel.ground_warp import fine_detail

NUM_ROWS = 9
"""Bands of the picture, from top to bottom, whose appearance is compared."""


class Critic(nn.Module):
    """A patch critic: convolutions over stacked pictures and their fine detail.

    Args:
        num_pictures: Pictures n it sees at once.
        width: Channels after the first halving; they double twice.
    """

    def __init__(self, num_pictures: int, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6 * num_pictures, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, pictures: Float[Tensor, "b 3 n h w"]) -> Float[Tensor, "b 1 y x"]:
        """Score of every patch, near 1 for what looks recorded and near 0 for what does not."""
        stacked = rearrange(pictures, "b c n h w -> b (n c) h w")
        result: Tensor = self.layers(torch.cat([stacked, 4 * fine_detail(stacked)], dim=1))
        return result


def appearance_error(
    drawn: Float[Tensor, "b 3 n h w"], real: Float[Tensor, "b 3 n h w"]
) -> Float[Tensor, ""]:
    """Mean absolute difference in colour, contrast and fine detail of every band of rows.

    After a few seconds a drive of one's own shows other things than the recording it shares its
    cameras with, yet under the same sky, in the same light and with as much to see.
    """

    def bands(pictures: Tensor) -> Tensor:
        return rearrange(pictures, "b c n (r h) w -> b c r (n h w)", r=NUM_ROWS)

    def detail(pictures: Tensor) -> Tensor:
        frames = rearrange(pictures, "b c n h w -> (b n) c h w")
        fine = rearrange(fine_detail(frames), "(b n) c h w -> b c n h w", b=len(pictures))
        return (bands(fine).square().mean(dim=-1) + 1e-6).sqrt()

    colour = (bands(drawn).mean(dim=-1) - bands(real).mean(dim=-1)).abs().mean()
    contrast = [(bands(x).var(dim=-1) + 1e-6).sqrt() for x in (drawn, real)]
    fine = (detail(drawn) - detail(real)).abs().mean()
    return colour + (contrast[0] - contrast[1]).abs().mean() + 2 * fine


def critic_losses(
    critic: Critic, real: Float[Tensor, "b 3 n h w"], drawn: Float[Tensor, "b 3 n h w"]
) -> tuple[Tensor, Tensor]:
    """Least-squares losses for critic and generator, patch by patch.

    The critic minimises (D(real) - 1)^2 + D(drawn)^2, the generator (D(drawn) - 1)^2 with the
    critic held fixed. Their gradients touch disjoint parameters, so both may be added and sent back
    together.

    Args:
        critic: The critic.
        real: Recorded pictures.
        drawn: Drawn pictures.

    Returns:
        Critic loss and generator loss. [source: Mao et al. 2017, arXiv 1611.04076; patches as in
        Isola et al. 2017, arXiv 1611.07004]
    """
    critic_loss = (critic(real) - 1).square().mean() + critic(drawn.detach()).square().mean()
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    judged: Tensor = torch.func.functional_call(critic, fixed, (drawn,))
    return critic_loss, (judged - 1).square().mean()
