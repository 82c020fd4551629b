"""Stage ``vae``: train the causal video autoencoder on raw clips.

The loss is the squared error of the pixels, the same of their differences along rows, columns and
time (which weighs lane markings and silhouettes up against large smooth areas: the perceptual term,
which needs no network trained elsewhere), and a small Kullback-Leibler term that keeps latents near
a unit Gaussian. Absolute errors were tried first: the median they ask for is a flat picture
wherever an edge's place is uncertain, and they learnt slower.

With ``adversarial_weight`` a patch critic, which is thrown away afterwards, asks from some step on
that decoded pictures look recorded. It makes them sharper at the price of their error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from sanawm_gym.train_wm.clip_draw import draw_length
from sanawm_gym.train_wm.critic import Critic, critic_losses
from sanawm_gym.train_wm.frames import FrameClips, save_samples, to_bytes
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.recording import ReadingConfig, conclude
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.worldmodel.autoencoder import (
    DRIVE_AUTOENCODER,
    VideoAutoencoder,
    VideoAutoencoderConfig,
)
from sanawm_gym.worldmodel.folder import save_module
from sanawm_gym.worldmodel.noise import mix_seed

NUM_JUDGED = 2
"""Consecutive pictures that the critic sees together."""
_MEASURED_FRAMES = 17
"""Raw frames of the clips whose latents are measured."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderStageConfig:
    """Train the causal video autoencoder."""

    data: Path
    """Dataset folder written by ``sanawm-gym record``."""
    trainer: TrainerConfig
    """Length, speed and output folder."""
    model: VideoAutoencoderConfig = field(default_factory=lambda: DRIVE_AUTOENCODER)
    """Size of the autoencoder."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """Size and clock of the pictures, and how much damage is borne."""
    clip_frames: int = 9
    """Raw frames of a training clip, a multiple of the temporal stride plus one."""
    shortest_clip: int | None = None
    """Raw frames of the shortest training clip, a multiple of the temporal stride plus one; every
    step draws a length between it and ``clip_frames``. None is always ``clip_frames``."""
    batch_size: int = 1
    """Clips a forward pass, of all processes together."""
    kl_weight: float = 5e-5
    """Weight of the mean Kullback-Leibler divergence per latent number."""
    gradient_weight: float = 1.0
    """Weight of the error of pixel differences, the perceptual term, >= 0."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial term, >= 0; 0 trains without a critic."""
    adversarial_start: int = 2000
    """Optimiser steps before the critic begins to learn and to be heard, >= 0."""
    critic_rate: float = 1.0
    """Learning rate of the critic over that of the autoencoder, > 0."""
    critic_weight: float = 0.1
    """Weight of the critic's own loss, > 0. Adam does not see it; it keeps the critic's gradient
    from dominating the norm that is clipped."""
    critic_smoothness: float = 0.01
    """Weight of the critic's change under grain in the pictures, >= 0 (`critic.critic_losses`)."""
    memory_gb: float = 8.0
    """Room for decoded pictures in the memory of each process [GB], > 0; what does not fit is
    decoded again whenever it is drawn. 100,000 frames of 128x72 are 2.8 GB."""
    init: Path | None = None
    """Weights to start from (an ``autoencoder.safetensors``)."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other."""
        self.reading.check_stride(self.model.spatial_stride)
        stride = self.model.temporal_stride
        for frames in (self.clip_frames, self.shortest):
            if frames % stride != 1 % stride or frames > self.clip_frames:
                raise ValueError(
                    f"got clips of {self.shortest} to {self.clip_frames} frames, expected "
                    f"multiples of the temporal stride {stride} plus one"
                )
        if not self.memory_gb > 0:
            raise ValueError(f"memory_gb must be positive, got {self.memory_gb}")
        self._check_adversary()

    def _check_adversary(self) -> None:
        positive = (self.critic_rate, self.critic_weight)
        others = (self.adversarial_weight, self.adversarial_start, self.critic_smoothness)
        if min(positive) <= 0 or min(others) < 0:
            raise ValueError(
                f"got critic_rate, critic_weight {positive}, expected > 0; and adversarial_weight, "
                f"adversarial_start, critic_smoothness {others}, expected >= 0"
            )
        stride = self.model.temporal_stride
        if self.adversarial_weight and (self.shortest == 1 or stride % NUM_JUDGED):
            raise ValueError(
                f"got adversarial_weight with clips of {self.shortest} frames and temporal stride "
                f"{stride}, but the critic sees {NUM_JUDGED} frames after the first together: "
                "expected longer clips and an even stride"
            )

    @property
    def shortest(self) -> int:
        """Raw frames of the shortest training clip."""
        return self.clip_frames if self.shortest_clip is None else self.shortest_clip


class JudgedAutoencoder(nn.Module):
    """The autoencoder, and the critic that is thrown away afterwards."""

    def __init__(self, autoencoder: VideoAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.critic = Critic(NUM_JUDGED)


@dataclass(frozen=True)
class AutoencoderBatch:
    """Clips and all noise of a forward pass."""

    frames: Float[Tensor, "b 3 f h w"]
    noise: Float[Tensor, "b c t y x"]
    """Of the posterior."""
    grain: Float[Tensor, "b 3 n h w"] | None
    """In the pictures that the critic sees; None where none is heard."""


class AutoencoderObjective(Objective):
    """Reconstruction of clips through the sampled posterior."""

    def __init__(self, config: AutoencoderStageConfig, device: torch.device) -> None:
        super().__init__()
        self.config = config
        self.clips = FrameClips(
            config.data, config.reading, longest=config.clip_frames, memory_gb=config.memory_gb
        )
        model = VideoAutoencoder(config.model)
        if config.init is not None:
            model.load_state_dict(load_file(config.init))
        self.autoencoder = model.to(device)
        self.judged = JudgedAutoencoder(model).to(device) if config.adversarial_weight else None

    def trained(self) -> nn.Module:
        """The autoencoder, with its critic where there is one."""
        return self.autoencoder if self.judged is None else self.judged

    def learning_rate_factor(self, name: str) -> float:
        """The critic may learn faster than what it judges."""
        return self.config.critic_rate if name.startswith("critic.") else 1.0

    def batch(self, step: int, rank: int, num_ranks: int) -> AutoencoderBatch:
        """Clips, the posterior's noise and, once the critic is heard, the grain it is shown."""
        config, model = self.config, self.config.model
        numbers = rows_of_rank("batch_size", config.batch_size, rank, num_ranks)
        seed, stride = config.trainer.seed, model.temporal_stride
        length = draw_length(config.shortest, config.clip_frames, stride, seed=seed, step=step)
        rows = Rows(numbers, mix_seed(seed, step))
        frames = torch.stack([self.clips.draw(length, each) for each in rows.generators])
        height, width = (side // model.spatial_stride for side in config.reading.picture)
        cells = model.latent_channels, (length - 1) // stride + 1, height, width
        noise = rows.randn(*cells)
        heard = step // config.trainer.accumulation >= config.adversarial_start
        if self.judged is None or not heard:
            return AutoencoderBatch(frames, noise, None)
        return AutoencoderBatch(frames, noise, rows.randn(*frames[0, :, 1:].shape))

    def forward(self, batch: AutoencoderBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch."""
        model = self.autoencoder
        frames = batch.frames.to(model.latents_mean.device)
        mean, log_variance = model.posterior(frames)
        z = mean + (0.5 * log_variance).exp() * batch.noise.to(mean.device)
        drawn = model.decode(model.normalize(z)).float()
        mse = (drawn - frames).square().mean()
        edges = edge_error(drawn, frames)
        kl = 0.5 * (mean.float().square() + log_variance.exp() - log_variance - 1).mean()
        loss = 4 * (mse + self.config.gradient_weight * edges) + self.config.kl_weight * kl
        metrics = {
            "loss": loss.detach(),
            "mse": mse.detach(),
            "edges": edges.detach(),
            "kl": kl.detach(),
            "psnr": psnr(drawn.detach(), frames),
        }
        if batch.grain is None:
            return loss, metrics
        adversarial, heard = self._adversarial(frames, drawn, batch.grain.to(frames.device))
        return loss + adversarial, {**metrics, **heard}

    def _adversarial(
        self, frames: Tensor, drawn: Tensor, grain: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted losses of generator and critic over all pictures but a clip's first."""
        assert self.judged is not None

        def together(clip: Tensor) -> Tensor:
            return rearrange(clip, "b c (t n) h w -> (b t) c n h w", n=NUM_JUDGED)

        critic_loss, generator_loss = critic_losses(
            self.judged.critic,
            together(frames[:, :, 1:]),
            together(drawn[:, :, 1:]),
            together(grain),
            self.config.critic_smoothness,
        )
        total = (
            self.config.adversarial_weight * generator_loss
            + self.config.critic_weight * critic_loss
        )
        return total, {"critic": critic_loss.detach(), "generator": generator_loss.detach()}

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Truth above reconstruction for held-out clips, and their PSNR."""
        model = _autoencoder_of(weights)
        length = min(self.config.clip_frames, 2 * self.config.model.temporal_stride + 1)
        clips = self.clips.held_out_clips(length, most=8).to(model.latents_mean.device)
        drawn = torch.cat([model.decode(model.encode(clip[None])) for clip in clips])
        scores = [
            float(psnr(one[None], clip[None])) for one, clip in zip(drawn, clips, strict=True)
        ]
        save_samples(
            path,
            np.stack([to_bytes(clip) for clip in clips]),
            np.stack([to_bytes(one) for one in drawn]),
            fps=self.config.reading.fps,
            stride=2,
        )
        return {"held_out_psnr": sum(scores) / len(scores)}

    def export(self, weights: nn.Module, out: Path) -> None:
        """Measure the latents' mean and deviation on training clips, then write the weights."""
        model = _autoencoder_of(weights)
        measure_latents(model, self.clips)
        save_module(out, "autoencoder", model, model.config)
        conclude([self.clips.recording], out)


def _autoencoder_of(weights: nn.Module) -> VideoAutoencoder:
    """The autoencoder among what is trained; the critic stays behind."""
    model = weights.autoencoder if isinstance(weights, JudgedAutoencoder) else weights
    assert isinstance(model, VideoAutoencoder)
    return model


@torch.no_grad()
def measure_latents(model: VideoAutoencoder, clips: FrameClips, num_clips: int = 200) -> None:
    """Set the model's normalisation to the statistics of encoded training clips."""
    model.latents_mean.zero_()
    model.latents_std.fill_(1.0)
    stride = model.config.temporal_stride
    length = (min(_MEASURED_FRAMES, clips.longest) - 1) // stride * stride + 1
    generator = torch.Generator().manual_seed(0)
    latents = [
        model.encode(clips.draw(length, generator)[None].to(model.latents_mean.device))
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
