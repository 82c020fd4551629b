"""A small critic of latent motion: does this short window look like recorded driving?

It sees a few consecutive latent frames and how the camera moved between them, and gives one score a
patch. Seen at latent resolution a window is a stack of 9x16 maps, so the critic costs next to
nothing beside the network it judges.

Axes: b windows, n latent frames a window, c latent channels, y and x of the latent grid.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.worldmodel.camera_condition import CameraCondition

MOTION_CHANNELS = 8
"""Numbers that describe one latent frame's camera motion, see :func:`motion_features`."""


class Critic(nn.Module):
    """Convolutions over a window of latents, with the motion added to every cell.

    Args:
        latent_channels: Channels c of the latents.
        window: Latent frames n a window.
        width: Channels of the first layer; later ones have twice as many.
    """

    def __init__(self, latent_channels: int, window: int, width: int = 96) -> None:
        super().__init__()
        self.window = window
        self.stem = nn.Conv2d(latent_channels * window, width, 3, padding=1)
        self.motion = nn.Linear(MOTION_CHANNELS * window, width)
        self.mid = nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.score = nn.Conv2d(2 * width, 1, 3, stride=2, padding=1)

    def forward(
        self, latents: Float[Tensor, "b n c y x"], motion: Float[Tensor, "b n m"]
    ) -> Float[Tensor, " b"]:
        """Mean patch score of every window; higher is more like a recording."""
        x = self.stem(rearrange(latents, "b n c y x -> b (n c) y x"))
        x = x + self.motion(rearrange(motion, "b n m -> b (n m)"))[:, :, None, None]
        x = x + self.mid(F.silu(x))
        x = self.down(F.silu(x))
        x = x + self.deep(F.silu(x))
        result: Tensor = self.score(F.silu(x)).mean(dim=(1, 2, 3))
        return result


def motion_features(camera: CameraCondition, unit_m: float) -> Float[Tensor, "b n m"]:
    """Translation and rotation over each latent frame and the field of view, as eight numbers.

    Args:
        camera: Every latent frame's camera in its own moving origin.
        unit_m: Metres that count as 1.
    """
    pose = camera.world_from_camera
    translation = pose[..., :3, 3] / unit_m
    # Off-diagonal halves of R - R^T are the rotation vector times its sinc: linear in small turns.
    skew = 0.5 * (pose[..., :3, :3] - pose[..., :3, :3].transpose(-1, -2))
    rotation = 10 * torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    focal = camera.intrinsics[..., :2] / camera.intrinsics[..., 2:]
    return torch.cat([4 * translation, rotation, focal], dim=-1)


def critic_losses(
    critic: Critic,
    real: Float[Tensor, "b n c y x"],
    drawn: Float[Tensor, "b n c y x"],
    motion: Float[Tensor, "b n m"],
    *,
    penalty: float,
    noise: Float[Tensor, "b n c y x"],
) -> tuple[Tensor, Tensor]:
    """Relativistic losses for critic and generator on paired windows of equal motion.

    The critic minimises softplus(D(drawn) - D(real)) plus a zero-centred penalty on how much its
    score moves under a small ``noise`` around both (a finite-difference form of the R1 and R2
    penalties); the generator minimises softplus(D(real) - D(drawn)) with the critic held fixed.
    Their gradients touch disjoint parameters, so both may be added and sent back together.

    Args:
        critic: The critic.
        real: Recorded windows.
        drawn: Windows drawn along the same cameras.
        motion: See :func:`motion_features`.
        penalty: Weight of the penalty.
        noise: Small perturbation, the same for both.

    Returns:
        Critic loss and generator loss. [source: Huang et al. 2024, arXiv 2501.05441]
    """
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    d_real, d_drawn = critic(real, motion), critic(drawn.detach(), motion)
    moved_real = critic(real + noise, motion) - d_real
    moved_drawn = critic(drawn.detach() + noise, motion) - d_drawn
    scale = noise.square().mean()
    smooth = (moved_real.square() + moved_drawn.square()).mean() / scale
    critic_loss = F.softplus(d_drawn - d_real).mean() + penalty * smooth
    generator_loss = F.softplus(
        _call(critic, fixed, real, motion) - _call(critic, fixed, drawn, motion)
    ).mean()
    return critic_loss, generator_loss


def _call(critic: Critic, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    result: Tensor = torch.func.functional_call(critic, dict(parameters), inputs)
    return result
