"""Where the cells of the latent grid lie on the ground: what turns tokens into metres.

How far to the left a lane marking lies follows from where it stands in the picture only for whoever
knows how high the camera is mounted and how wide it sees. The network is never told the height, and
a few convolutions cannot work out the rest.

The world frame has z up and the ground at z = 0. Axes: b rows, s cells in reading order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NUM_CHANNELS = 3
"""Numbers a cell."""
_FARTHEST_ASIDE_M = 20.0
"""Larger lateral distances say no more than this one."""


def token_ground(
    world_from_camera: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 4"],
    grid: tuple[int, int],
    cell: int,
) -> Float[Tensor, "b s 3"]:
    """The ground behind the middle of every cell.

    A ray d = ((u - cx) / fx, (v - cy) / fy, 1) of a camera C_z above the ground meets it at depth
    1 / w with w = -(R d)_z / C_z, and never where that is negative.

    Args:
        world_from_camera: Pose of the picture [m].
        intrinsics: fx, fy, cx, cy [px].
        grid: Rows and columns of the grid.
        cell: Side of a cell [px].

    Returns:
        10 / depth [1/m], distance to the right of the optical axis over 10 m, and 1; all 0 where
        there is no ground. float32.
    """
    rows, columns = grid
    fx, fy, cx, cy = (part[:, None, None] for part in intrinsics.double().unbind(-1))
    pose = world_from_camera.double()
    u = cell * (torch.arange(columns, dtype=torch.float64, device=pose.device) + 0.5)
    v = cell * (torch.arange(rows, dtype=torch.float64, device=pose.device)[:, None] + 0.5)
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    down = -(pose[:, 2, :3, None, None] * torch.stack([x, y, torch.ones_like(x)], dim=1)).sum(dim=1)
    height = pose[:, 2, 3, None, None]
    hits = (down > 0) & (height > 0)
    w = torch.where(hits, down / height, 1.0)
    aside = (x / w).clamp(-_FARTHEST_ASIDE_M, _FARTHEST_ASIDE_M)
    found = torch.stack([10 * w, aside / 10, torch.ones_like(w)], dim=-1)
    return torch.where(hits[..., None], found, 0.0).flatten(1, 2).float()
