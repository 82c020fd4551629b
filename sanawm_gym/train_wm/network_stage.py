"""What every stage that trains the network shares: data, weights, and how an error is weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.latent_clips import LatentClip, load_latent_clips
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.official_clips import is_official, load_official_clips
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig
from sanawm_gym.train_wm.weights import WorldWeights, make_weights
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.config import DRIVE, SanaWMConfig
from sanawm_gym.worldmodel.flow import velocity


@dataclass(frozen=True, kw_only=True)
class NetworkStageConfig:
    """Settings of all stages that train the network."""

    latents: Path
    """Folder written by the ``latents`` stage, or by its ``--official``: a folder with ``raw`` and
    ``latents`` in the published zip/npz layout."""
    autoencoder: Path
    """Folder written by the ``vae`` stage, for samples and the weight of each latent channel."""
    trainer: TrainerConfig
    """Length, speed and output folder."""
    model: SanaWMConfig = field(default_factory=lambda: DRIVE)
    """Size of the network."""
    init: Path | None = None
    """Folder with weights of an earlier stage to start from."""
    picture: tuple[int, int] = (72, 128)
    """Height and width of the pictures [px]."""
    shift: float = 8.0
    """Shift of the noise levels."""
    caption_dropout: float = 0.1
    """Share of clips trained with an empty caption."""
    weigh_channels: bool = True
    """Measure errors in latents before normalisation. Normalised channels all have unit variance,
    yet the decoder hears a few of them a hundred times louder than the rest."""
    gradient_checkpointing: bool = False
    """Keep only what enters a block for the backward pass and compute the rest again: the same
    gradients for about a third more time and a fraction of the memory."""


class NetworkObjective(Objective):
    """Latent clips, fresh or earlier weights, and a frozen autoencoder to look through.

    Args:
        config: Settings.
        device: Where the weights and the passes are; clips stay on the CPU.
        rollouts: What networks drew in place of some of the clips.
    """

    def __init__(
        self, config: NetworkStageConfig, device: torch.device, rollouts: Sequence[Path] = ()
    ) -> None:
        super().__init__()
        self.device = device
        self.train_clips, self.held_out_clips = _load_clips(config, rollouts)
        captions = [clip.caption for clip in self.train_clips]
        self.weights = self._open_weights(config, captions).to(device)
        self.weights.network.gradient_checkpointing = config.gradient_checkpointing
        # A list hides it from training.
        self.autoencoder: list[VideoAutoencoder] = [self._open_autoencoder(config)]
        variance = self.autoencoder[0].latents_std.square()
        weights = variance / variance.mean() if config.weigh_channels else torch.ones_like(variance)
        self.channel_weights = weights.view(1, -1, 1, 1, 1).to(device)

    def _open_weights(self, config: NetworkStageConfig, captions: list[str]) -> WorldWeights:
        return make_weights(config.model, captions, config.init)

    def _open_autoencoder(self, config: NetworkStageConfig) -> Any:
        """What has `latents_std`, and decodes samples."""
        return load_autoencoder(config.autoencoder)

    def trained(self) -> nn.Module:
        """Network and text encoder."""
        return self.weights

    def velocity_error(
        self,
        v: Float[Tensor, "b c t y x"],
        x_0: Float[Tensor, "b c t y x"],
        eps: Float[Tensor, "b c t y x"],
    ) -> Float[Tensor, "b t"]:
        """Weighted mean squared error of a predicted velocity, a number a latent frame."""
        error = (v - velocity(x_0, eps)).square() * self.channel_weights
        return error.mean(dim=(1, 3, 4))

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write network and text encoder."""
        assert isinstance(weights, WorldWeights)
        weights.save(out)


def mean_of_rows(error: Float[Tensor, "b t"], counted: Float[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Mean over the counted frames of every row, then over the rows.

    Rows count alike however many of their frames do, so that a row weighs the same in whatever
    batch and process it stands.

    Args:
        error: A number a frame.
        counted: 1 for frames that count, 0 for others.
    """
    return ((error * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1.0)).mean()


def _load_clips(
    config: NetworkStageConfig, rollouts: Sequence[Path]
) -> tuple[list[LatentClip], list[LatentClip]]:
    """Training and held-out clips, of whichever layout the folder has."""
    if not is_official(config.latents):
        return load_latent_clips(config.latents, rollouts, picture=config.picture)
    if rollouts:
        raise ValueError(
            f"got rollouts for {config.latents}, which has the published layout; expected the "
            "folder of the latents stage from which they were drawn"
        )
    parts = load_official_clips(
        config.latents, picture=config.picture, temporal_stride=config.model.temporal_stride
    )
    if config.model.warp_condition and any(not len(clip.warped) for part in parts for clip in part):
        raise ValueError(
            f"{config.latents} has no pictures carried over the ground, but the network has "
            "warp_condition: turn it off, or encode the recordings with the latents stage"
        )
    return parts
