"""What heads read on true video: the clean pass over the simulator's own pictures.

In a generated world heads read pictures that the world has drawn. Shown the reference world's
pictures along the same cameras instead, their errors are their own: what is worse in the generated
world comes from what it draws.

Axes: f raw frames, t latent frames, q quantities.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from sanawm_gym.train_wm.heads_features import CleanPass, clip_ground
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.ground_warp import warped_clip


@torch.no_grad()
def read_video(
    world: WorldModel,
    frames: UInt8[np.ndarray, "f h w 3"],
    poses: Float64[np.ndarray, "f 4 4"],
    intrinsics: Float64[np.ndarray, " 4"],
    caption: str,
) -> tuple[Float64[np.ndarray, "t q"], Float64[np.ndarray, "t q"]]:
    """Mean and deviation of every quantity at the last raw frame of every latent frame.

    Args:
        world: One with heads.
        frames: A clip of a multiple of the temporal stride plus one frames, at its picture size.
        poses: world_from_camera, with the ground at z = 0 [m].
        intrinsics: fx, fy, cx, cy [px].
        caption: What it shows.
    """
    heads, codec = world.heads, world.autoencoder
    assert heads is not None
    kind = codec.latents_mean
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None]
    latents = codec.encode((pixels.to(kind.device).float() / 127.5 - 1).to(kind.dtype))
    path, lens = torch.from_numpy(poses.copy()), torch.from_numpy(intrinsics.copy())
    warped = torch.zeros_like(latents)
    if world.network.config.warp_condition:
        warped = warped_clip(codec, codec.decode(latents).float(), path[None], lens[None])
    clip = LatentClip(
        latents=latents[0].float().transpose(0, 1).cpu(),
        warped=warped[0].float().transpose(0, 1).cpu(),
        poses=path,
        intrinsics=lens,
        caption=caption,
    )
    size = (world.height, world.width)
    weights = WorldWeights(world.network, world.text_encoder)
    features = CleanPass(weights, size, kind.device).features(clip)
    ground = clip_ground(clip, size)
    read = heads.read(features.to(kind.device), ground.to(kind.device))
    return read.mean.double().cpu().numpy(), read.deviation.double().cpu().numpy()
