"""Whether the ground of a drawn drive moves as its cameras say.

A stream that redraws its own pictures can let the texture of the road stand still, or lag, and look
as good as ever to a critic of pictures. But the ground is a plane and the cameras are known: where
its detail must be in the next picture follows from where it is in this one.

Axes: b rows, t latent frames, j pictures of each, h and w of the picture, y and x of its squares.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.lanes import Piece
from sanawm_gym.worldmodel.ground_warp import fine_detail, warp_over_ground

_SQUARE = 8
"""Side of the squares in which motion is compared [px]."""


def ground_agreement(
    before: Float[Tensor, "*n 3 h w"],
    after: Float[Tensor, "*n 3 h w"],
    seen_from: Float[Tensor, "*n 4 4"],
    pose: Float[Tensor, "*n 4 4"],
    intrinsics: Float[Tensor, "*n 4"],
) -> Float[Tensor, "*n y x"]:
    """How well the ground's fine detail follows the camera: 1 where it does, 0 where unrelated.

    The correlation, square by square of the lower half, of a picture's detail with that of the
    picture before it carried over the ground. Bare ground has nothing to correlate: 0.

    Args:
        before: RGB in [-1, 1].
        after: The picture that followed.
        seen_from: world_from_camera of the first [m].
        pose: world_from_camera of the second [m].
        intrinsics: fx, fy, cx, cy [px].
    """
    leading = before.shape[:-3]
    before, after = before.flatten(0, -4), after.flatten(0, -4)
    seen_from, pose = seen_from.flatten(0, -3), pose.flatten(0, -3)
    carried = warp_over_ground(before, seen_from, pose[:, None], intrinsics.flatten(0, -2))[:, 0]
    first, second = (fine_detail(x)[..., x.shape[-2] // 2 :, :] for x in (carried, after))

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.mean(dim=1, keepdim=True), _SQUARE)[:, 0]

    size = mean(first.square()) * mean(second.square())
    agreement = mean(first * second) / (size + 1e-8).sqrt()
    squares: Tensor = agreement.unflatten(0, leading)
    return squares


def motion_error(
    drawn: Float[Tensor, "n 3 j h w"], recorded: Float[Tensor, "n 3 j h w"], piece: Piece
) -> Float[Tensor, " b"]:
    """What the drawn ground lacks, against the recorded one, in following the cameras.

    Compared are the last two pictures within each latent frame and the last pictures of
    consecutive ones. 0 for rows whose recording did not move with these cameras.

    Args:
        drawn: The last j >= 2 pictures of every latent frame of the piece but the first, rows
            (b t).
        recorded: Those of the recording.
        piece: Gives the cameras.
    """
    b = len(piece.lanes)
    poses = piece.poses[:, 1:].to(drawn.device)
    lens = piece.intrinsics.to(drawn.device)[:, None].expand(-1, poses.shape[1], -1)

    def agreement(pictures: Tensor) -> list[Tensor]:
        clips = rearrange(pictures, "(b t) c j h w -> b t j c h w", b=b)
        early, last, at = clips[:, :, -2], clips[:, :, -1], poses[:, :, -1]
        pairs = [(early, last, poses[:, :, -2], at, lens)]
        if clips.shape[1] > 1:
            pairs.append((last[:, :-1].detach(), last[:, 1:], at[:, :-1], at[:, 1:], lens[:, 1:]))
        return [ground_agreement(*pair) for pair in pairs]

    with torch.no_grad():
        wanted = agreement(recorded)
    lacking = [
        (want - got).clamp_min(0).mean(dim=(1, 2, 3))
        for want, got in zip(wanted, agreement(drawn), strict=True)
    ]
    comparable = ~torch.tensor(piece.exchanged, device=drawn.device)
    return torch.stack(lacking).mean(dim=0) * comparable
