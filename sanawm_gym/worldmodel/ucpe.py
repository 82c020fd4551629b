"""Unified camera positional encoding: attention in which tokens meet in world space.

Each token has a ray, hence a rigid frame: P maps homogeneous world coordinates to ray coordinates.
The first half of a camera head is cut into groups of four channels on which P acts, the second half
carries rotary codes:

    q' = (P^T + RoPE) q,   k', v' = (P^-1 + RoPE) (k, v),   out = (P + RoPE*) out'

(+ is the direct sum). A score is then q^T (P_q P_k^-1) k: only the relation of the two rays counts.
The frame of a ray: z along the ray, x = camera down axis x z, y = z x x, all normalised. Rays pass
through integer grid points, no half-pixel offset. [Source: UCPE as used in SANA-WM, section 2.2 of
arXiv 2605.15178 and the released code.]

Moving the origin of the world by G (new = G old) turns P^-1 into G P^-1, so stored keys and values
move by G and nothing else changes: `origin_matrices`.

Axes: b clips, t frames, s tokens of a frame, h heads, d channels of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from .precision import exact
from .rope import frame_shift_matrix, rotate

MAX_DENSE_HEAD = 64
"""Heads up to this size are moved by one dense D x D matrix per token, which is one batched product
instead of several small operations; larger heads would pay for it in memory."""


class RayOperators(NamedTuple):
    """What a call's camera does to tokens; made once and shared by all blocks.

    Matrices act on channels written as rows, x -> x @ matrix. They are either 4 x 4, for the groups
    of the first half of a head, or D x D with the rotary codes of the other half included.

    Attributes:
        query: P, since (P^T q)^T = q^T P.
        key_value: P^-T.
        output: P^T.
        rotary: Codes of the other half of the head, for 4 x 4 matrices.
    """

    query: Float[Tensor, "b t s m m"]
    key_value: Float[Tensor, "b t s m m"]
    output: Float[Tensor, "b t s m m"]
    rotary: Complex[Tensor, "b t s 1 d4"]


class OriginMatrices(NamedTuple):
    """What a move of the origin does to one head of stored keys and values (as columns).

    Attributes:
        main: On keys of the main branch.
        camera: On keys and values of the camera branch.
    """

    main: Float[Tensor, "*n d d"]
    camera: Float[Tensor, "*n d d"]


def pixel_rays(intrinsics: Float[Tensor, "*n 4"], grid: tuple[int, int]) -> Float[Tensor, "*n s 3"]:
    """Unit rays through the integer points of the latent grid, in the camera frame.

    Args:
        intrinsics: fx, fy, cx, cy in latent-grid units.
        grid: Rows and columns.
    """
    rows, columns = grid
    fx, fy, cx, cy = (part[..., None, None] for part in intrinsics.unbind(-1))
    u = torch.arange(columns, dtype=intrinsics.dtype, device=intrinsics.device)
    v = torch.arange(rows, dtype=intrinsics.dtype, device=intrinsics.device)[:, None]
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(-3, -2)
    return F.normalize(rays, dim=-1)


def world_from_ray(
    world_from_camera: Float[Tensor, "*n 4 4"], rays: Float[Tensor, "*n s 3"]
) -> Float[Tensor, "*n s 4 4"]:
    """Rigid frame of every ray: columns x, y, z and the camera centre.

    A ray that is not finite gets the identity.
    """
    rotation = world_from_camera[..., :3, :3]
    direction = rays @ rotation.transpose(-1, -2)
    z = F.normalize(direction, dim=-1, eps=1e-6)
    down = rotation[..., None, :, 1].expand_as(z)
    x = F.normalize(torch.linalg.cross(down, z), dim=-1, eps=1e-6)
    y = F.normalize(torch.linalg.cross(z, x), dim=-1, eps=1e-6)
    centre = world_from_camera[..., None, :3, 3].expand_as(z)
    upper = torch.stack([x, y, z, centre], dim=-1)
    # Made where it is needed: a number brought from the host would stop a GPU, or a recording.
    lower = torch.zeros_like(upper[..., :1, :])
    lower[..., 3] = 1.0
    frames = torch.cat([upper, lower], dim=-2)
    finite = direction.isfinite().all(dim=-1)[..., None, None]
    return torch.where(finite, frames, torch.eye(4, dtype=frames.dtype, device=frames.device))


def invert_rigid(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """Closed-form inverse of rigid transforms."""
    rotation = pose[..., :3, :3].transpose(-1, -2)
    centre = -(rotation @ pose[..., :3, 3:])
    return torch.cat([torch.cat([rotation, centre], dim=-1), pose[..., 3:, :]], dim=-2)


def ray_operators(
    world_from_camera: Float[Tensor, "b t 4 4"],
    intrinsics: Float[Tensor, "b t 4"],
    grid: tuple[int, int],
    rotary: Complex[Tensor, "b t s 1 d4"],
) -> RayOperators:
    """Operators of all tokens of a call.

    Args:
        world_from_camera: Camera poses, translations in camera units.
        intrinsics: fx, fy, cx, cy in latent-grid units.
        grid: Rows and columns.
        rotary: Camera table of `rotary_tables`.
    """
    inverse = world_from_ray(world_from_camera, pixel_rays(intrinsics, grid))
    operator = invert_rigid(inverse)
    contragredient = inverse.transpose(-1, -2)
    if 4 * rotary.shape[-1] <= MAX_DENSE_HEAD:
        operator = _dense(operator, rotary)
        contragredient = _dense(contragredient, rotary)
    return RayOperators(operator, contragredient, operator.transpose(-1, -2), rotary)


def _dense(operator: Tensor, rotary: Tensor) -> Tensor:
    """Direct sum of D/8 copies of a 4 x 4 matrix and the rotary codes, acting on rows."""
    pairs = rotary.shape[-1]
    half = 2 * pairs
    dense = operator.new_zeros(*operator.shape[:-2], 2 * half, 2 * half)
    _set_diagonal_blocks(dense[..., :half, :half], operator)
    cos, sin = rotary[..., 0, :].real, rotary[..., 0, :].imag
    for row, column, part in ((0, 0, cos), (1, 1, cos), (0, 1, sin), (1, 0, -sin)):
        rows = dense[..., half + row :: 2, half + column :: 2]
        rows.diagonal(dim1=-2, dim2=-1).copy_(part)
    return dense


def _set_diagonal_blocks(matrix: Tensor, block: Tensor) -> None:
    """Write the same small block along the diagonal, in place."""
    size = block.shape[-1]
    blocks = matrix.unflatten(-2, (-1, size)).unflatten(-1, (-1, size))
    blocks.diagonal(dim1=-4, dim2=-2).copy_(block[..., None])


def apply_query(x: Float[Tensor, "b t s h d"], rays: RayOperators) -> Float[Tensor, "b t s h d"]:
    """Queries into world space."""
    return _apply(x, rays.query, rays.rotary)


def apply_key_value(
    key: Float[Tensor, "b t s h d"], value: Float[Tensor, "b t s h d"], rays: RayOperators
) -> tuple[Float[Tensor, "b t s h d"], Float[Tensor, "b t s h d"]]:
    """Keys and values into world space."""
    both = _apply(torch.cat([key, value], dim=-2), rays.key_value, rays.rotary)
    moved_key, moved_value = both.chunk(2, dim=-2)
    return moved_key, moved_value


def apply_output(x: Float[Tensor, "b t s h d"], rays: RayOperators) -> Float[Tensor, "b t s h d"]:
    """What was read back into the frame of the reading ray."""
    return _apply(x, rays.output, rays.rotary.conj())


def _apply(x: Tensor, operator: Tensor, rotary: Tensor) -> Tensor:
    num_heads, num_channels = x.shape[-2:]
    if operator.shape[-1] == num_channels:
        rows = x.reshape(-1, num_heads, num_channels)
        with exact(x.device):
            return torch.bmm(rows, operator.flatten(0, 2)).view(x.shape)
    half = num_channels // 2
    groups = x[..., :half].reshape(-1, num_heads * half // 4, 4)
    with exact(x.device):
        projected = torch.bmm(groups, operator.flatten(0, 2)).view(*x.shape[:-1], half)
    turned = rotate(x[..., half:], rotary)
    return torch.cat([projected.to(turned.dtype), turned], dim=-1)


def clamp_rms(before: Float[Tensor, "*n d"], after: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Scale `after` down, per token and head, to at most the RMS of `before`."""
    ratio = (before.square().mean(-1, keepdim=True) + 1e-6) / (
        after.square().mean(-1, keepdim=True) + 1e-6
    )
    return after * ratio.sqrt().clamp(max=1.0)


def origin_matrices(
    new_from_old: Float[Tensor, "*n 4 4"], frame_shift: Int[Tensor, "*n"], head_dim: int
) -> OriginMatrices:
    """Matrices that re-express stored keys and values in a new origin and frame numbering.

    Args:
        new_from_old: Maps coordinates of the old origin to the new one, in camera units.
        frame_shift: Added to the frame index.
        head_dim: Channels of a head.

    Returns:
        float64 matrices.
    """
    half = head_dim // 2
    pose = new_from_old.to(torch.float64)
    camera = pose.new_zeros(*pose.shape[:-2], head_dim, head_dim)
    _set_diagonal_blocks(camera[..., :half, :half], pose)
    camera[..., half:, half:] = frame_shift_matrix(frame_shift, head_dim, half)
    return OriginMatrices(frame_shift_matrix(frame_shift, head_dim, head_dim), camera)
