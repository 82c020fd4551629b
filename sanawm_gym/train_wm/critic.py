"""What own drives are judged by: a small critic of pictures, and their appearance row by row.

The critic sees a few consecutive decoded pictures and gives one score a patch. In latents a critic
was found to reward variance that nobody sees; in pictures it asks for edges, and it learns to ask
sooner when fine detail is shown to it separately. It is also told the row, since what belongs on
the road does not belong in the sky, and the caption, since a town does not belong in the desert.

Axes: b clips, n pictures a clip, h and w of the picture.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.worldmodel.ground_warp import fine_detail

_GRAIN = 0.05
"""Deviation of the noise against which the critic is kept smooth, in pictures of [-1, 1]."""

NUM_ROWS = 9
"""Bands of the picture, from top to bottom, whose appearance is compared."""


class Critic(nn.Module):
    """A patch critic: convolutions over stacked pictures and their fine detail.

    Args:
        num_pictures: Pictures n it sees at once.
        width: Channels after the first halving; they double twice.
        caption_channels: Size e of the captions' features; 0 for a critic that reads none.
    """

    def __init__(self, num_pictures: int, width: int = 48, caption_channels: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6 * num_pictures + 1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(4 * width, 1, 3, padding=1)
        self.caption: nn.Linear | None = None
        if caption_channels:
            self.caption = nn.Linear(caption_channels, 4 * width)
            nn.init.normal_(self.caption.weight, std=0.1)

    def forward(
        self, pictures: Float[Tensor, "b 3 n h w"], captions: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b 1 y x"]:
        """Score of every patch, near 1 for what looks recorded and near 0 for what does not.

        Args:
            pictures: RGB in [-1, 1].
            captions: Features of what should be seen, for a critic that reads them; they enter as
                an inner product [projection discriminator, Miyato and Koyama 2018, arXiv
                1802.05637].
        """
        stacked = rearrange(pictures, "b c n h w -> b (n c) h w")
        b, _, h, w = stacked.shape
        row = torch.linspace(-1, 1, h, device=stacked.device, dtype=stacked.dtype)
        rows = row[:, None].expand(b, 1, h, w)
        seen = self.layers(torch.cat([stacked, 4 * fine_detail(stacked), rows], dim=1))
        result: Tensor = self.score(seen)
        if self.caption is not None:
            if captions is None:
                raise ValueError("got no captions, but this critic reads them; expected a row each")
            asked = self.caption(captions)[..., None, None]
            result = result + (seen * asked).mean(dim=1, keepdim=True)
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
    critic: Critic,
    real: Float[Tensor, "b 3 n h w"],
    drawn: Float[Tensor, "b 3 n h w"],
    grain: Float[Tensor, "b 3 n h w"],
    smoothness: float,
    captions: tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Least-squares losses for critic and generator, patch by patch.

    The critic minimises (D(real) - 1)^2 + D(drawn)^2; if it reads captions, also half of D(real,
    caption of something else)^2 [Reed et al. 2016, arXiv 1605.05396]; and the change of its scores
    under a little grain, which bounds its gradient as R1 does [Lin et al. 2025, arXiv 2501.08316,
    approximated R1]. The generator minimises (D(drawn) - 1)^2 with the critic held fixed. Their
    gradients touch disjoint parameters, so both may be added and sent back together.

    Args:
        critic: The critic.
        real: Recorded pictures.
        drawn: Drawn pictures.
        grain: Standard normal noise.
        smoothness: Weight of the change under grain, over the variance of that grain.
        captions: Features of what both are to show, and of something else, for a critic that reads
            them. Drawn a row, since other rows of the batch may be with other processes.

    Returns:
        Critic loss and generator loss. [source: Mao et al. 2017, arXiv 1611.04076; patches as in
        Isola et al. 2017, arXiv 1611.07004]
    """
    seen = torch.cat([real, drawn.detach()])
    asked = None if captions is None else torch.cat([captions[0], captions[0]])
    scores = critic(seen, asked)
    judged_real, judged_drawn = scores.chunk(2)
    critic_loss = (judged_real - 1).square().mean() + judged_drawn.square().mean()
    if captions is not None:
        own, other = captions
        unasked = critic(real, other).square().mean(dim=(1, 2, 3))
        critic_loss = critic_loss + 0.5 * (unasked * (own != other).any(dim=1)).mean()
    if smoothness:
        change = critic(seen + _GRAIN * torch.cat([grain, grain]), asked) - scores
        critic_loss = critic_loss + smoothness / _GRAIN**2 * change.square().mean()
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    shown = (drawn, None if captions is None else captions[0])
    judged: Tensor = torch.func.functional_call(critic, fixed, shown)
    return critic_loss, (judged - 1).square().mean()
