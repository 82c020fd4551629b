"""Stage ``vae``: train the causal video autoencoder on raw clips.

The loss is the squared error of the pixels, the same of their differences along rows, columns and
time (which weighs lane markings and silhouettes up against large smooth areas), and a small
Kullback-Leibler term that keeps latents near a unit Gaussian. Absolute errors were tried first: the
median they ask for is a flat picture wherever an edge's place is uncertain, and they learnt slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from sanawm_gym.train_wm.frames import FrameClips, save_samples, to_bytes
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.worldmodel.autoencoder import (
    DRIVE_AUTOENCODER,
    VideoAutoencoder,
    VideoAutoencoderConfig,
)
from sanawm_gym.worldmodel.folder import save_module
from sanawm_gym.worldmodel.noise import mix_seed


@dataclass(frozen=True, kw_only=True)
class AutoencoderStageConfig:
    """Train the causal video autoencoder."""

    data: Path
    """Dataset folder written by ``sanawm-gym record``."""
    trainer: TrainerConfig
    """Length, speed and output folder."""
    model: VideoAutoencoderConfig = field(default_factory=lambda: DRIVE_AUTOENCODER)
    """Size of the autoencoder."""
    clip_frames: int = 9
    """Raw frames of a training clip, a multiple of the temporal stride plus one."""
    batch_size: int = 1
    """Clips a forward pass."""
    kl_weight: float = 5e-5
    """Weight of the mean Kullback-Leibler divergence per latent number."""
    gradient_weight: float = 1.0
    """Weight of the error of pixel differences."""
    init: Path | None = None
    """Weights to start from (an ``autoencoder.safetensors``)."""


class AutoencoderObjective(Objective):
    """Reconstruction of clips through the sampled posterior."""

    def __init__(self, config: AutoencoderStageConfig, device: torch.device) -> None:
        super().__init__()
        self.config = config
        self.clips = FrameClips(config.data)
        model = VideoAutoencoder(config.model)
        if config.init is not None:
            model.load_state_dict(load_file(config.init))
        self.autoencoder = model.to(device)

    def trained(self) -> nn.Module:
        """The autoencoder."""
        return self.autoencoder

    def batch(self, step: int, rank: int, num_ranks: int) -> tuple[Tensor, int]:
        """Clips and the seed of the posterior's noise."""
        generator = torch.Generator().manual_seed(mix_seed(self.config.trainer.seed, step, rank))
        frames = self.clips.draw(self.config.batch_size, self.config.clip_frames, generator)
        return frames, mix_seed(self.config.trainer.seed, step, rank, 1)

    def forward(self, batch: tuple[Tensor, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch."""
        frames, seed = batch
        model = self.autoencoder
        frames = frames.to(model.latents_mean.device)
        mean, log_variance = model.posterior(frames)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        z = mean + (0.5 * log_variance).exp() * noise.to(mean.device)
        drawn = model.decode(model.normalize(z)).float()
        mse = (drawn - frames).square().mean()
        edges = edge_error(drawn, frames)
        kl = 0.5 * (mean.float().square() + log_variance.exp() - log_variance - 1).mean()
        loss = 4 * (mse + self.config.gradient_weight * edges) + self.config.kl_weight * kl
        return loss, {
            "loss": loss.detach(),
            "mse": mse.detach(),
            "edges": edges.detach(),
            "kl": kl.detach(),
            "psnr": psnr(drawn.detach(), frames),
        }

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Truth above reconstruction for held-out clips, and their PSNR."""
        assert isinstance(weights, VideoAutoencoder)
        truth, drawings, scores = [], [], []
        for index in list(self.clips.held_out_indices)[:8]:
            clip = self.clips.clip(index, 60, 9)[None].to(weights.latents_mean.device)
            drawn = weights.decode(weights.encode(clip))
            scores.append(float(psnr(drawn, clip)))
            truth.append(to_bytes(clip[0]))
            drawings.append(to_bytes(drawn[0]))
        save_samples(path, np.stack(truth), np.stack(drawings), fps=16.0, stride=2)
        return {"held_out_psnr": sum(scores) / len(scores)}

    def export(self, weights: nn.Module, out: Path) -> None:
        """Measure the latents' mean and deviation on training clips, then write the weights."""
        assert isinstance(weights, VideoAutoencoder)
        measure_latents(weights, self.clips)
        save_module(out, "autoencoder", weights, weights.config)


@torch.no_grad()
def measure_latents(model: VideoAutoencoder, clips: FrameClips, num_clips: int = 200) -> None:
    """Set the model's normalisation to the statistics of encoded training clips."""
    model.latents_mean.zero_()
    model.latents_std.fill_(1.0)
    generator = torch.Generator().manual_seed(0)
    latents = [
        model.encode(clips.draw(1, 17, generator).to(model.latents_mean.device))
        for _ in range(num_clips)
    ]
    stacked = torch.cat(latents)
    model.latents_mean.copy_(stacked.mean(dim=(0, 2, 3, 4)))
    model.latents_std.copy_(stacked.std(dim=(0, 2, 3, 4)))


def edge_error(
    drawn: Float[Tensor, "b 3 f h w"], truth: Float[Tensor, "b 3 f h w"]
) -> Float[Tensor, ""]:
    """Mean squared error of the differences between neighbouring pixels and frames."""
    difference = drawn - truth
    return (
        difference.diff(dim=-1).square().mean()
        + difference.diff(dim=-2).square().mean()
        + 0.5 * difference.diff(dim=-3).square().mean()
    )


def psnr(drawn: Float[Tensor, "b 3 f h w"], truth: Float[Tensor, "b 3 f h w"]) -> Tensor:
    """Peak signal-to-noise ratio of RGB in [-1, 1] [dB]."""
    error = (drawn.float().clamp(-1, 1) - truth.float()).square().mean()
    return 10 * torch.log10(4.0 / error)


def run_autoencoder_stage(config: AutoencoderStageConfig) -> None:
    """Train, or go on training, the autoencoder."""

    def make(device: torch.device) -> Any:
        return AutoencoderObjective(config, device)

    train(make, config.trainer)
