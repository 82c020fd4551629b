"""What a streaming network draws: held-out drives continued along their true cameras.

Two figures here reward a blurred picture (PSNR does, beyond a second or two), so the deviation of
the latents and the sharpness of the pictures stand beside them, and a contact sheet to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from sanawm_gym.train_wm.frames import save_samples, to_bytes
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.text import CaptionEncoder
from sanawm_gym.worldmodel.world import WorldConfig, WorldModel


def sample_stream(
    network: SanaWM,
    text_encoder: CaptionEncoder,
    autoencoder: VideoAutoencoder,
    clips: Sequence[LatentClip],
    *,
    picture: tuple[int, int],
    path: Path,
    sigmas: tuple[float, ...] = (1.0,),
    num_clips: int = 8,
    context: int = 5,
    ahead: int = 16,
) -> dict[str, float]:
    """Continue held-out clips and compare with what really came.

    Args:
        network: Streaming network.
        text_encoder: Its text encoder.
        autoencoder: Decodes truth and drawing alike, so that only the network is judged.
        clips: Held-out clips; those too short are passed over.
        picture: Height and width of the pictures [px].
        path: Contact sheet to write, a video of the same name beside it.
        sigmas: Noise levels of the sampler.
        num_clips: Clips to continue.
        context: True latent frames given.
        ahead: Latent frames drawn.

    Returns:
        ``psnr_1s``, ``psnr_2s`` [dB]; ``sharpness`` and ``latent_std`` at the end as ratios to the
        truth. Nothing if all clips are too short.
    """
    config = WorldConfig(height=picture[0], width=picture[1], sigmas=sigmas)
    world = WorldModel(config, network, autoencoder, text_encoder)
    stride = autoencoder.config.temporal_stride
    chosen = [clip for clip in clips if clip.latents.shape[0] >= context + ahead][:num_clips]
    if not chosen:
        return {}
    latents = torch.stack([clip.latents[: context + ahead].float() for clip in chosen])
    truth = np.stack([to_bytes(film) for film in autoencoder.decode(latents.transpose(1, 2))])
    poses = np.stack([clip.poses.numpy() for clip in [_shorten(c, truth.shape[1]) for c in chosen]])
    given = stride * (context - 1) + 1
    state = world.start(
        truth[:, :given],
        prompts=[clip.caption for clip in chosen],
        intrinsics=np.stack([clip.intrinsics.numpy() for clip in chosen]),
        seeds=list(range(len(chosen))),
        poses=poses[:, :given],
    )
    drawn = []
    for begin in range(given, given + ahead * stride, stride):
        frames, state = world.step(state, poses[:, begin : begin + stride])
        drawn.append(frames)
    video, future = np.concatenate(drawn, axis=1), truth[:, given:]
    save_samples(path, future, video, fps=config.fps, stride=8)
    return {
        "psnr_1s": _psnr(video[:, 12:16], future[:, 12:16]),
        "psnr_2s": _psnr(video[:, 28:32], future[:, 28:32]),
        "sharpness": _sharpness(video[:, -8:]) / _sharpness(future[:, -8:]),
        "latent_std": float(state.latent.std() / latents[:, -1].std()),
    }


def _shorten(clip: LatentClip, num_frames: int) -> LatentClip:
    return replace(clip, poses=clip.poses[:num_frames])


def _psnr(drawn: UInt8[np.ndarray, "..."], truth: UInt8[np.ndarray, "..."]) -> float:
    error = np.mean((drawn.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / error))


def _sharpness(frames: UInt8[np.ndarray, "b f h w 3"]) -> float:
    return float(np.abs(np.diff(frames.astype(np.float32), axis=-2)).mean())
