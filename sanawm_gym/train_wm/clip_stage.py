"""Stages ``bidirectional`` and ``chunk-causal``: flow matching on whole clips.

Both show the network a clip with noise on it and ask for the velocity. In the first the whole clip
has one noise level and every frame sees every other; it is the teacher. In the second every chunk
has a level of its own and sees no later chunk. With probability 0.9 the first latent frame is given
clean, which makes a video out of a picture. The origin of the cameras is a random frame of the
clip, because a drive meets poses ahead of, at and behind its origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sanawm_gym.train_wm.frames import save_samples, to_bytes
from sanawm_gym.train_wm.latents_stage import LatentClip
from sanawm_gym.train_wm.network_stage import NetworkObjective, NetworkStageConfig
from sanawm_gym.train_wm.noise_levels import chunk_sigmas
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.flow import (
    NUM_TIMESTEPS,
    add_noise,
    euler_sigmas,
    sample_sigma,
)
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.sampler import sample_clip


@dataclass(frozen=True, kw_only=True)
class ClipStageConfig(NetworkStageConfig):
    """Flow matching on clips."""

    clip: int = 13
    """Latent frames of a training clip."""
    batch_size: int = 1
    """Clips a forward pass."""
    clean_first: float = 0.9
    """Share of clips whose first latent frame is given."""
    mode: Literal["bidirectional", "chunk_causal"] = "bidirectional"
    """Which frames see which."""


@dataclass(frozen=True, kw_only=True)
class BidirectionalStageConfig(ClipStageConfig):
    """Train the bidirectional teacher on clips."""


@dataclass(frozen=True, kw_only=True)
class ChunkCausalStageConfig(ClipStageConfig):
    """Train the chunk-causal network on clips with a noise level a chunk."""

    mode: Literal["bidirectional", "chunk_causal"] = "chunk_causal"
    """Which frames see which."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips, their cameras and all noise of a step."""

    x_0: Float[Tensor, "b c t y x"]
    camera: CameraCondition
    captions: list[str]
    sigma: Float[Tensor, "b t"]
    eps: Float[Tensor, "b c t y x"]


class ClipObjective(NetworkObjective):
    """Velocity error over all frames that are not given."""

    def __init__(self, config: ClipStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.config = config

    def batch(self, step: int, rank: int, num_ranks: int) -> ClipBatch:
        """Random pieces of random clips."""
        config = self.config
        generator = torch.Generator().manual_seed(mix_seed(config.trainer.seed, step, rank))

        def draw(stop: int) -> int:
            return int(torch.randint(stop, (), generator=generator))

        latents, cameras, captions, sigmas = [], [], [], []
        for _ in range(config.batch_size):
            clip = self.train_clips[draw(len(self.train_clips))]
            start = draw(clip.latents.shape[0] - config.clip + 1)
            latents.append(clip.latents[start : start + config.clip].float().transpose(0, 1))
            cameras.append(self._camera(clip, start, draw(config.clip)))
            dropped = torch.rand((), generator=generator) < config.caption_dropout
            captions.append("" if dropped else clip.caption)
            sigmas.append(self._sigma(generator))
        x_0 = torch.stack(latents)
        return ClipBatch(
            x_0=x_0,
            camera=CameraCondition.concat(cameras),
            captions=captions,
            sigma=torch.stack(sigmas),
            eps=torch.randn(x_0.shape, generator=generator),
        )

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared velocity error; frames at sigma = 0 are context, not targets."""
        x_0, eps = batch.x_0.to(self.device), batch.eps.to(self.device)
        sigma = batch.sigma.to(self.device)
        v = self.weights.network(
            add_noise(x_0, eps, sigma),
            NUM_TIMESTEPS * sigma,
            self.weights.text(batch.captions),
            batch.camera.to(self.device),
            mode=self.config.mode,
        )
        error = self.velocity_error(v, x_0, eps)
        is_target = (sigma > 0).float()
        loss = (error * is_target).sum() / is_target.sum()
        return loss, {"loss": loss.detach()}

    def _camera(self, clip: LatentClip, start: int, origin: int) -> CameraCondition:
        model, poses = self.config.model, clip.poses
        stride, stop = model.temporal_stride, start + self.config.clip
        path = poses[stride * start : stride * (stop - 1) + 1]
        camera = clip_camera(
            (torch.linalg.inv(poses[stride * (start + origin)]) @ path)[None],
            clip.intrinsics[None],
            image_size=self.config.picture,
            grid=(clip.latents.shape[-2], clip.latents.shape[-1]),
            config=model,
        )
        if not model.warp_condition:
            return camera
        # The clip is drawn at once: when any of it is, there is no last picture to carry along.
        nothing = torch.zeros(clip.latents[start:stop].shape).transpose(0, 1)[None]
        return replace(camera, warped=nothing)

    def _sigma(self, generator: torch.Generator) -> Float[Tensor, " t"]:
        config = self.config
        if config.mode == "bidirectional":
            level = sample_sigma(
                (1,), shift=config.shift, generator=generator, device=torch.device("cpu")
            )
            sigma = level.repeat(config.clip)
        else:
            chunks = chunk_sizes(config.clip, config.model, "chunk_causal")
            sigma = chunk_sigmas(chunks, shift=config.shift, generator=generator)
        if torch.rand((), generator=generator) < config.clean_first:
            sigma[0] = 0.0
        return sigma

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out clips generated from their first latent frame in 20 steps, below the truth."""
        assert isinstance(weights, WorldWeights)
        count = self.config.clip
        pairs: tuple[list[UInt8[np.ndarray, "f h w 3"]], ...] = ([], [])
        spread = []
        for index, clip in enumerate(self.held_out_clips[:4]):
            truth = clip.latents[None, :count].float().transpose(1, 2).to(self.device)
            generator = torch.Generator().manual_seed(index)
            drawn = sample_clip(
                weights.network,
                truth[:, :, :1],
                torch.randn(truth.shape, generator=generator).to(self.device),
                euler_sigmas(20, self.config.shift),
                weights.text([clip.caption]),
                None,
                self._camera(clip, 0, 0).to(self.device),
            )
            spread.append(float(drawn[:, :, -1].std() / truth[:, :, -1].std()))
            for part, latents in zip(pairs, (truth, drawn), strict=True):
                part.append(to_bytes(self.autoencoder[0].decode(latents.cpu())[0]))
        save_samples(path, np.stack(pairs[0]), np.stack(pairs[1]), fps=16.0, stride=8)
        return {"latent_std": sum(spread) / len(spread)}


def run_clip_stage(config: ClipStageConfig) -> None:
    """Train, or go on training, on whole clips."""

    def make(device: torch.device) -> Objective:
        return ClipObjective(config, device)

    train(make, config.trainer)
