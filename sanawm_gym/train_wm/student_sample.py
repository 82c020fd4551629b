"""What a few-step student draws from held-out first pictures, for its stages' samples.

Unlike `stream_sample` this needs no world around the network, so it also serves networks that draw
several latent frames at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sanawm_gym.train_wm.clip_path import ClipPath
from sanawm_gym.train_wm.frames import save_samples, to_bytes
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.student_stream import StudentStream
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder

_NUM_CLIPS = 4


@torch.no_grad()
def sample_student(
    weights: WorldWeights,
    stream: StudentStream,
    autoencoder: VideoAutoencoder,
    clips: Sequence[LatentClip],
    *,
    num_latents: int,
    sigmas: Sequence[float],
    picture: tuple[int, int],
    path: Path,
) -> dict[str, float]:
    """Draw held-out clips from their first latent frame and write them below the truth.

    Args:
        weights: Network and text encoder to be judged.
        stream: Their stream.
        autoencoder: Decodes truth and drawing alike, on the network's device.
        clips: Held-out clips; those too short are passed over.
        num_latents: Latent frames of the drawings, the first one included.
        sigmas: Noise levels to draw at.
        picture: Height and width of the pictures [px].
        path: Contact sheet to write, a video of the same name beside it.

    Returns:
        ``latent_std`` and ``sharpness`` of the last latent frame as ratios to the truth, and the
        error of all latents that were drawn, ``latent_mse``; nothing if all clips are too short.
    """
    chosen = [clip for clip in clips if clip.latents.shape[0] >= num_latents][:_NUM_CLIPS]
    if not chosen:
        return {}
    stride = weights.network.config.temporal_stride
    device = next(weights.parameters()).device
    truth = torch.stack([clip.latents[:num_latents].float() for clip in chosen]).transpose(1, 2)
    truth = truth.to(device)
    generator = torch.Generator().manual_seed(0)
    noises = torch.randn((len(sigmas), *truth.shape), generator=generator).to(device)
    drawing = stream.draw(
        truth[:, :, :1],
        noises,
        sigmas,
        weights.text([clip.caption for clip in chosen]),
        ClipPath.of(chosen, num_latents, stride, picture),
    )
    films = [
        np.stack([to_bytes(frames) for frames in autoencoder.decode(latents).float()])
        for latents in (truth, drawing.latents)
    ]
    save_samples(path, *films, fps=16.0, stride=2 * stride)
    edges = [np.abs(np.diff(film[:, -stride:].astype(np.float32), axis=3)).mean() for film in films]
    return {
        "latent_std": float(drawing.latents[:, :, -1].std() / truth[:, :, -1].std()),
        "sharpness": float(edges[1] / edges[0]),
        "latent_mse": float((drawing.latents - truth)[:, :, 1:].square().mean()),
    }
