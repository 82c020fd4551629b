"""Plücker maps: every raw frame's rays as line coordinates, packed per latent frame.

A line with unit direction d through the camera centre o is (d, o x d), six numbers that do not
depend on the point chosen along it. A latent frame stands for several raw frames; their maps are
stacked in the channel axis, channel = frame_in_group * 6 + component, so that motion inside the
latent frame is visible to the network. [SANA-WM section 2.3 of the spec.]

Axes: b clips, t latent frames, r raw frames of a latent frame, s tokens, h rows and w columns.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from .precision import exact
from .ucpe import pixel_rays


def plucker_map(
    world_from_camera: Float[Tensor, "b t r 4 4"],
    intrinsics: Float[Tensor, "b t 4"] | Float[Tensor, "b t r 4"],
    grid: tuple[int, int],
) -> Float[Tensor, "b c t h w"]:
    """Packed Plücker map of grouped raw frames.

    Args:
        world_from_camera: Poses of the raw frames, translations in camera units.
        intrinsics: fx, fy, cx, cy in latent-grid units, shared by a group or one a raw frame.
        grid: Rows and columns.
    """
    rotation = world_from_camera[..., :3, :3]
    rays = pixel_rays(intrinsics if intrinsics.ndim == 4 else intrinsics[:, :, None], grid)
    with exact(rays.device):
        direction = rays @ rotation.transpose(-1, -2)
    centre = world_from_camera[..., None, :3, 3].expand_as(direction)
    lines = torch.cat([direction, torch.linalg.cross(centre, direction)], dim=-1)
    return rearrange(lines, "b t r (h w) k -> b (r k) t h w", h=grid[0])
