"""What a refiner makes of held-out drafts: figures, and a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from sanawm_gym.train_wm.frames import to_bytes
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.refiner_pairs import cut_pieces
from sanawm_gym.video import contact_sheet, write_video
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.noise import row_noise
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.sampler import refine_clip
from sanawm_gym.worldmodel.text import CaptionEncoder
from sanawm_gym.worldmodel.world_config import WorldConfig


@torch.no_grad()
def sample_refiner(
    refiner: Refiner,
    text_encoder: CaptionEncoder,
    autoencoder: VideoAutoencoder,
    clips: Sequence[LatentClip],
    *,
    path: Path,
    num_clips: int = 6,
    num_frames: int = 17,
) -> dict[str, float]:
    """Refine held-out drafts block by block and compare with what really came.

    Args:
        refiner: Its own refined frames are its history.
        text_encoder: Encodes the captions.
        autoencoder: Decodes all three.
        clips: Held-out clips with drafts; those too short are passed over.
        path: Contact sheet to write: truth, draft and refined below each other, clip by clip. The
            same as a video stands beside it, a column a clip.
        num_clips: Clips to refine.
        num_frames: Latent frames of each, the sink included.

    Returns:
        Mean square error of latents, and sharpness of pictures over that of the truth, of draft and
        refined.
    """
    longest = max(clip.latents.shape[0] for clip in clips)
    num_frames = min(num_frames, longest)
    chosen = [clip for clip in clips if clip.latents.shape[0] >= num_frames][:num_clips]
    piece = cut_pieces([(clip, 0) for clip in chosen], sink=1, num_frames=num_frames)
    device, sink = refiner.proj_in.weight.device, refiner.config.sink_frames
    draft = torch.cat([piece.truth[:, :, :sink], piece.draft[:, :, sink:]], dim=2)
    seeds = torch.arange(len(chosen))
    noise = row_noise(seeds, torch.zeros_like(seeds), 0, tuple(draft.shape[1:]))
    features, mask = text_encoder(piece.captions)
    refined = refine_clip(
        refiner, draft.to(device), noise.to(device), features.to(device), mask.to(device)
    ).cpu()
    videos = {
        name: _decoded(autoencoder, latents)
        for name, latents in (("truth", piece.truth), ("draft", draft), ("refined", refined))
    }
    at = np.linspace(1, num_frames - 1, 8).round().astype(int) * autoencoder.config.temporal_stride
    rows = [videos[name][row, at] for row in range(len(chosen)) for name in videos]
    Image.fromarray(contact_sheet(np.concatenate(rows), columns=len(at))).save(path)
    film = np.stack(list(videos.values())).transpose(2, 0, 3, 1, 4, 5)
    film = film.reshape(film.shape[0], film.shape[1] * film.shape[2], -1, 3)
    write_video(path.with_suffix(".mp4"), film, WorldConfig.fps)
    sharpness = {name: _sharpness(video) for name, video in videos.items()}
    return {
        "draft_mse": float((draft - piece.truth)[:, :, sink:].square().mean()),
        "refined_mse": float((refined - piece.truth)[:, :, sink:].square().mean()),
        "draft_sharpness": sharpness["draft"] / sharpness["truth"],
        "refined_sharpness": sharpness["refined"] / sharpness["truth"],
    }


def _decoded(
    autoencoder: VideoAutoencoder, latents: Float[Tensor, "b c t y x"]
) -> UInt8[np.ndarray, "b f h w 3"]:
    return np.stack([to_bytes(frames) for frames in autoencoder.decode(latents)])


def _sharpness(frames: UInt8[np.ndarray, "b f h w 3"]) -> float:
    return float(np.abs(np.diff(frames.astype(np.float32), axis=-2)).mean())
