"""Distribution matching: which way to move drawings so that a teacher would have made them.

A drawing x is noised to x_sigma. The teacher says what it takes x_sigma to come from (*real*), and
so does a critic that has learnt the student's drawings (*fake*). Along fake - real the density of
the student's drawings grows against that of the teacher's; gradient descent walks the other way. At
the optimum both say the same. The step is divided by the mean |x - real|, so that every noise level
weighs alike. [source: DMD, Yin et al. 2024, arXiv 2311.18828 and 2405.14867, eq. 7-8 of the first]

Axes: b clips, c channels, t latent frames, y and x of the latent grid.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.flow import shift_sigma

_SMALLEST = 1e-6
"""Least mean |x - real| that is divided by."""


def score_sigma(
    uniform: Float[Tensor, " b"], shift: float, limits: tuple[float, float]
) -> Float[Tensor, " b"]:
    """Noise levels at which real and fake are asked: uniform, shifted, then clamped.

    Args:
        uniform: Numbers drawn uniformly from [0, 1), one a clip.
        shift: See `flow.shift_sigma`; 10 in the released recipe.
        limits: Least and largest level; timesteps 20 and 980 in the released recipe.
    """
    return shift_sigma(uniform, shift).clamp(*limits)


def matching_direction(
    x: Float[Tensor, "b c t y x"],
    real: Float[Tensor, "b c t y x"],
    fake: Float[Tensor, "b c t y x"],
    is_target: Float[Tensor, "b t"],
    channel_weights: Float[Tensor, "1 c 1 1 1"],
) -> Float[Tensor, "b c t y x"]:
    """(fake - real) / mean |x - real| of each clip; zero at frames that are no targets.

    Args:
        x: Drawing.
        real: Clean latents that the teacher reads out of the noised drawing.
        fake: The same of the critic.
        is_target: 1 for frames that were drawn, 0 for given ones.
        channel_weights: What an error in a channel counts for, in numerator and mean alike; all
            ones in the released recipe.
    """
    target = is_target[:, None, :, None, None]
    size = x[0, :, 0].numel() * is_target.sum(dim=1)
    gap = ((x - real).abs() * channel_weights * target).sum(dim=(1, 2, 3, 4)) / size
    return (fake - real) * channel_weights * target / gap.clamp_min(_SMALLEST).view(-1, 1, 1, 1, 1)


def matching_loss(
    x: Float[Tensor, "b c t y x"],
    direction: Float[Tensor, "b c t y x"],
    is_target: Float[Tensor, "b t"],
) -> Float[Tensor, ""]:
    """Loss whose gradient in x is `direction` over the number of values in target frames.

    Half the mean squared error against the constant x - direction.
    """
    error = (x - (x - direction).detach()).square() * is_target[:, None, :, None, None]
    return 0.5 * error.sum() / (is_target.sum() * x[0, :, 0].numel())
