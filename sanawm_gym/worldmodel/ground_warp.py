"""A picture carried along the camera's path as if everything it shows were the ground or the sky.

Most of what a driver sees one moment later is what is seen now, moved: the road slides along its
plane, and what stands above the horizon turns with the camera. This warp knows no more than that.
Things that stand up from the ground come out bent, and what enters at the edges repeats the edge; a
network that is shown the result has these to correct and the rest to keep.

The world frame has z up and the ground at z = 0, as `sanawm_gym.geometry` says.

Axes: b rows, n target frames, h and w of the picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .autoencoder import VideoAutoencoder
from .engine import FrameCodec
from .precision import exact

MIN_CAMERA_HEIGHT_M = 0.1
"""Lowest camera that can see a ground plane."""
_NEAREST = 1e-3


def check_camera_height(world_from_camera: Float[Tensor, "*n 4 4"]) -> None:
    """Refuse cameras in or under the ground.

    Raises:
        ValueError: If a camera centre lies lower than `MIN_CAMERA_HEIGHT_M`.
    """
    lowest = float(world_from_camera[..., 2, 3].min())
    if not lowest >= MIN_CAMERA_HEIGHT_M:
        raise ValueError(
            f"got a camera {lowest:g} m above the ground, expected at least "
            f"{MIN_CAMERA_HEIGHT_M:g}: this world reads the ground plane, so give poses in a world "
            "frame with z up and the ground at z = 0"
        )


def warp_over_ground(
    picture: Float[Tensor, "b 3 h w"],
    seen_from: Float[Tensor, "b 4 4"],
    poses: Float[Tensor, "b n 4 4"],
    intrinsics: Float[Tensor, "b 4"],
) -> Float[Tensor, "b n 3 h w"]:
    """Redraw a picture from other poses over the plane z = 0 and a sky infinitely far away.

    A ray d of a camera at C meets the ground at C + d / w with w = max(0, -d_z) / C_z, and never
    where w is 0. In homogeneous coordinates, seen from C', that point is d + w (C - C').

    Args:
        picture: RGB, any range.
        seen_from: world_from_camera of the picture [m].
        poses: world_from_camera of the pictures to draw [m]; float64 when far from 0.
        intrinsics: fx, fy, cx, cy [px], of all of them.
    """
    height, width = picture.shape[-2:]
    num_poses = poses.shape[1]
    lens = intrinsics.to(picture)
    fx, fy, cx, cy = (part[:, None, None] for part in lens.unbind(-1))
    u = torch.arange(width, dtype=lens.dtype, device=lens.device) + 0.5
    v = torch.arange(height, dtype=lens.dtype, device=lens.device)[:, None] + 0.5
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    # Coordinates are planes of pixels: matrices multiply from the left, once for all pixels.
    rays = torch.stack([x, y, torch.ones_like(x)], dim=1).flatten(2)[:, None]
    moved = (poses[..., :3, 3:] - seen_from[:, None, :3, 3:]).to(lens)
    rotation, before = (pose[..., :3, :3].to(lens) for pose in (poses, seen_from[:, None]))
    camera_height = poses[..., 2:3, 3:].to(lens)
    with exact(lens.device):
        to_before = before.transpose(-1, -2)
        down = -(rotation[..., 2:, :] @ rays)
        w = down.clamp_min(0) / camera_height
        seen = (to_before @ rotation) @ rays + (to_before @ moved) * w
    depth = seen[:, :, 2].clamp_min(_NEAREST)
    columns = (fx * seen[:, :, 0] / depth + cx) * (2 / width) - 1
    rows = (fy * seen[:, :, 1] / depth + cy) * (2 / height) - 1
    places = torch.stack([columns, rows], dim=-1)
    drawn = F.grid_sample(
        picture[:, None].expand(-1, num_poses, -1, -1, -1).flatten(0, 1),
        places.view(-1, height, width, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    frames: Tensor = drawn.unflatten(0, (-1, num_poses))
    return frames


def fine_detail(pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """What a binomial blur of 5 x 5 pixels takes away from pictures."""
    kernel = pictures.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    weight = torch.outer(kernel, kernel).expand(pictures.shape[1], 1, 5, 5)
    padded = F.pad(pictures, (2, 2, 2, 2), mode="replicate")
    return pictures - F.conv2d(padded, weight, groups=pictures.shape[1])


def warped_latent(
    autoencoder: FrameCodec,
    picture: Float[Tensor, "b 3 h w"],
    seen_from: Float[Tensor, "b 4 4"],
    poses: Float[Tensor, "b s 4 4"],
    intrinsics: Float[Tensor, "b 4"],
    sharpening: float = 0.0,
) -> Float[Tensor, "b c 1 y x"]:
    """Latent of the warped pictures of one latent frame, float32.

    Args:
        autoencoder: Encodes them as a group of their own.
        picture: Last picture, RGB in [-1, 1].
        seen_from: Its world_from_camera [m].
        poses: world_from_camera of the s raw frames that follow [m].
        intrinsics: fx, fy, cx, cy [px].
        sharpening: See `SanaWMConfig.warp_sharpening` [1/m].
    """
    if sharpening:
        path = (poses[:, -1, :3, 3] - seen_from[:, :3, 3]).norm(dim=-1).to(picture)
        crisp = picture + sharpening * path[:, None, None, None] * fine_detail(picture)
        picture = crisp.clamp(-1.0, 1.0)
    places = (x.to(picture.device) for x in (seen_from, poses, intrinsics))
    drawn = warp_over_ground(picture, *places).transpose(1, 2)
    return autoencoder.encode_group(drawn).float()


def warped_clip(
    autoencoder: VideoAutoencoder,
    frames: Float[Tensor, "b 3 f h w"],
    poses: Float[Tensor, "b f 4 4"],
    intrinsics: Float[Tensor, "b 4"],
) -> Float[Tensor, "b c t y x"]:
    """`warped_latent` of every latent frame of a clip of f = s (t - 1) + 1 frames; the first is 0.

    Args:
        autoencoder: See `warped_latent`.
        frames: The clip as decoded, RGB in [-1, 1].
        poses: world_from_camera of its frames [m].
        intrinsics: fx, fy, cx, cy [px].
    """
    stride, space = autoencoder.config.temporal_stride, autoencoder.config.spatial_stride
    num_clips, num_frames = frames.shape[0], frames.shape[2]
    num_steps = (num_frames - 1) // stride
    size = (
        autoencoder.config.latent_channels,
        1,
        frames.shape[3] // space,
        frames.shape[4] // space,
    )
    first = torch.zeros(num_clips, *size, device=frames.device)
    if num_steps == 0:
        return first
    last = frames[:, :, : num_frames - 1 : stride].transpose(1, 2).flatten(0, 1)
    following = poses[:, 1:].unflatten(1, (num_steps, stride)).flatten(0, 1)
    latents = warped_latent(
        autoencoder,
        last,
        poses[:, : num_frames - 1 : stride].flatten(0, 1),
        following,
        intrinsics.repeat_interleave(num_steps, dim=0),
    )
    later = latents.unflatten(0, (num_clips, num_steps))[:, :, :, 0].transpose(1, 2)
    return torch.cat([first, later], dim=2)
