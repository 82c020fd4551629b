"""Stages ``bidirectional`` and ``chunk-causal``: flow matching on whole clips.

Both show the network a clip with noise on it and ask for the velocity. In the first the whole clip
has one noise level and every frame sees every other; it is the teacher. In the second every chunk
has a level of its own and sees no later chunk. With probability 0.9 the first latent frame is given
clean, which makes a video out of a picture. The origin of the cameras is a random frame of the
clip, because a drive meets poses ahead of, at and behind its origin.

A network with ``warp_condition`` looks at the picture before each latent frame, carried over the
ground to it. A stream always has one; a clip that is drawn at once has none, unless the recorded
ones are given. The network learns both: a share of the clips (``shown``) comes with the recorded
pictures, the others with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sanawm_gym.train_wm.clip_draw import ClipDraw, draw_length
from sanawm_gym.train_wm.frames import save_samples, to_bytes
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.network_stage import (
    NetworkObjective,
    NetworkStageConfig,
    mean_of_rows,
)
from sanawm_gym.train_wm.noise_levels import chunk_sigmas
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.teacher_sampler import Grid, TeacherSampler
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.flow import (
    NUM_TIMESTEPS,
    add_noise,
    sample_sigma,
)
from sanawm_gym.worldmodel.folder import read_json
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.ops.frame_gdn import ClipSlices


@dataclass(frozen=True, kw_only=True)
class ClipStageConfig(NetworkStageConfig):
    """Flow matching on clips."""

    clip: int = 13
    """Latent frames of a training clip."""
    shortest_clip: int | None = None
    """Latent frames of the shortest training clip, 2 to ``clip``; every step draws a length between
    the two. None is always ``clip``."""
    beginnings: float = 0.2
    """Share of the training clips that begin where an encoded clip does, 0 to 1: only there stands
    the latent frame of a single picture, with which a drawn video begins. The others begin
    anywhere, each place as likely as any other."""
    camera_dropout: float = 0.0
    """Share of the training clips whose camera the network is not told, 0 to 1: both camera
    branches are left out, which guidance against a network without camera asks for. The released
    code has this option and leaves it off."""
    batch_size: int = 1
    """Clips a forward pass, of all processes together."""
    clean_first: float = 0.9
    """Share of clips whose first latent frame is given."""
    mode: Literal["bidirectional", "chunk_causal"] = "bidirectional"
    """Which frames see which."""
    shown: float = 0.5
    """With ``warp_condition``: share of the training clips, 0 to 1, in which the network is shown
    the recorded picture before each latent frame, carried over the ground, as a stream is shown its
    own. Of the others it is shown nothing, as when clips are drawn at once. With 0 the network can
    only judge and draw whole clips (``--show nothing`` of later stages); with 1 it knows every
    frame by the one before it (``--show recorded`` or ``drawn``)."""

    def __post_init__(self) -> None:
        """Refuse lengths and shares that cannot be."""
        if not 2 <= self.shortest <= self.clip:
            raise ValueError(
                f"got clips of {self.shortest} to {self.clip} latent frames, expected at least 2 "
                "and shortest_clip at most clip"
            )
        for name in ("beginnings", "camera_dropout", "shown"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 ... 1, got {getattr(self, name)}")
        model = self.model
        chunks = (model.chunk_size, model.first_chunk_size)
        if self.mode == "chunk_causal" and self.shows and chunks != (1, 1):
            raise ValueError(
                f"got shown={self.shown} with warp_condition and chunks of {chunks[0]}, after a "
                f"first one of {chunks[1]}: only a stream of single frames has a picture before "
                "every latent frame; expected shown=0, or a model without warp_condition"
            )

    @property
    def shows(self) -> bool:
        """Whether any clip comes with its pictures."""
        return self.model.warp_condition and self.shown > 0

    @property
    def shortest(self) -> int:
        """Latent frames of the shortest training clip."""
        return self.clip if self.shortest_clip is None else self.shortest_clip


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

    def frames(self, start: int, stop: int) -> ClipBatch:
        """Latent frames start ... stop - 1 of all clips."""
        return ClipBatch(
            x_0=self.x_0[:, :, start:stop],
            camera=self.camera.frames(start, stop),
            captions=self.captions,
            sigma=self.sigma[:, start:stop],
            eps=self.eps[:, :, start:stop],
        )


class ClipObjective(NetworkObjective):
    """Velocity error over all frames that are not given."""

    def __init__(self, config: ClipStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.config = config
        lengths = [clip.latents.shape[0] for clip in self.train_clips]
        self._draw = ClipDraw(lengths, config.clip, "latent frames")
        self._team: dist.ProcessGroup | None = None

    def share_time(self, team: dist.ProcessGroup) -> None:
        """Hold only a slice of every clip."""
        size = dist.get_world_size(team)
        if self.config.shortest < size:
            raise ValueError(
                f"got clips of {self.config.shortest} latent frames or more and context_parallel "
                f"{size}: each process needs one of them at least"
            )
        self._team = team

    def batch(self, step: int, rank: int, num_ranks: int) -> ClipBatch:
        """Random pieces of random clips."""
        config = self.config
        numbers = rows_of_rank("batch_size", config.batch_size, rank, num_ranks)
        seed = config.trainer.seed
        length = draw_length(config.shortest, config.clip, 1, seed=seed, step=step)
        rows = Rows(numbers, mix_seed(seed, step))
        latents, cameras, captions, sigmas, known = [], [], [], [], []
        for generator in rows.generators:
            number, start = self._draw.draw(length, generator, beginnings=config.beginnings)
            clip, span = self.train_clips[number], slice(start, start + length)
            origin = int(torch.randint(length, (), generator=generator))
            latents.append(clip.latents[span].float().transpose(0, 1))
            camera = self._camera(clip, span, origin)
            dropped = torch.rand(2, generator=generator)
            captions.append("" if dropped[0] < config.caption_dropout else clip.caption)
            known.append(dropped[1] >= config.camera_dropout)
            sigmas.append(self._sigma(length, generator))
            if config.shows and torch.rand((), generator=generator) < config.shown:
                camera = replace(camera, warped=_pictures(clip, span))
            cameras.append(camera)
        x_0, camera = torch.stack(latents), CameraCondition.concat(cameras)
        if config.camera_dropout:
            camera = replace(camera, known=torch.stack(known))
        return ClipBatch(
            x_0=x_0,
            camera=camera,
            captions=captions,
            sigma=torch.stack(sigmas),
            eps=rows.randn(*x_0.shape[1:]),
        )

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared velocity error; frames at sigma = 0 are context, rows count alike."""
        slices = None if self._team is None else ClipSlices.even(batch.x_0.shape[2], self._team)
        counted = (batch.sigma > 0).float().to(self.device)
        batch = batch if slices is None else batch.frames(*slices.span(slices.rank))
        x_0, eps = batch.x_0.to(self.device), batch.eps.to(self.device)
        sigma = batch.sigma.to(self.device)
        v = self.weights.network(
            add_noise(x_0, eps, sigma),
            NUM_TIMESTEPS * sigma,
            self.weights.text(batch.captions),
            batch.camera.to(self.device),
            mode=self.config.mode,
            slices=slices,
        )
        error = self.velocity_error(v, x_0, eps)
        if slices is None:
            loss = mean_of_rows(error, counted)
        else:
            # A frame weighs what it does in the whole clip; the team's losses will be averaged.
            share = counted / counted.sum(dim=1, keepdim=True).clamp_min(1.0)
            mine = slice(*slices.span(slices.rank))
            loss = len(slices.sizes) * (error * share[:, mine]).sum(dim=1).mean()
        return loss, {"loss": loss.detach()}

    def _camera(self, clip: LatentClip, span: slice, origin: int) -> CameraCondition:
        model, poses = self.config.model, clip.poses
        stride = model.temporal_stride
        path = poses[stride * span.start : stride * (span.stop - 1) + 1]
        camera = clip_camera(
            (torch.linalg.inv(path[stride * origin]) @ path)[None],
            clip.intrinsics[None],
            image_size=self.config.picture,
            grid=(clip.latents.shape[-2], clip.latents.shape[-1]),
            config=model,
        )
        if not model.warp_condition:
            return camera
        nothing = torch.zeros(clip.latents[span].shape).transpose(0, 1)[None]
        return replace(camera, warped=nothing)

    def _sigma(self, length: int, generator: torch.Generator) -> Float[Tensor, " t"]:
        config = self.config
        if config.mode == "bidirectional":
            level = sample_sigma(
                (1,), shift=config.shift, generator=generator, device=torch.device("cpu")
            )
            sigma = level.repeat(length)
        else:
            chunks = chunk_sizes(length, config.model, "chunk_causal")
            sigma = chunk_sigmas(chunks, shift=config.shift, generator=generator)
        if torch.rand((), generator=generator) < config.clean_first:
            sigma[0] = 0.0
        return sigma

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out clips generated from their first latent frame in 20 steps, below the truth.

        The network is shown nothing, unless it has always been shown the recorded pictures.
        """
        assert isinstance(weights, WorldWeights)
        lengths = [clip.latents.shape[0] for clip in self.held_out_clips]
        count = min(self.config.clip, max(lengths))
        chosen = [clip for clip in self.held_out_clips if clip.latents.shape[0] >= count][:4]
        pairs: tuple[list[UInt8[np.ndarray, "f h w 3"]], ...] = ([], [])
        spread = []
        sampler = TeacherSampler(
            network=weights.network,
            mode=self.config.mode,
            grid=Grid.of(20, self.config.shift, (1.0,)),
            guidance=1.0,
            lag=0.0,
        )
        for index, clip in enumerate(chosen):
            span = slice(0, count)
            truth = clip.latents[None, span].float().transpose(1, 2).to(self.device)
            generator = torch.Generator().manual_seed(index)
            camera = self._camera(clip, span, 0)
            if self.config.shows and self.config.shown == 1:
                camera = replace(camera, warped=_pictures(clip, span))
            drawn = sampler.draw(
                truth[:, :, :1],
                torch.randn(truth.shape, generator=generator).to(self.device),
                weights.text([clip.caption]),
                None,
                camera.to(self.device),
            )[-1]
            spread.append(float(drawn[:, :, -1].std() / truth[:, :, -1].std()))
            for part, latents in zip(pairs, (truth, drawn), strict=True):
                part.append(to_bytes(self.autoencoder[0].decode(latents.cpu())[0]))
        save_samples(path, np.stack(pairs[0]), np.stack(pairs[1]), fps=16.0, stride=8)
        return {"latent_std": sum(spread) / len(spread)}


def _pictures(clip: LatentClip, span: slice) -> Float[Tensor, "1 c t y x"]:
    """The recorded picture before each latent frame of a piece, of which the first has none."""
    warped = clip.warped[span].float().transpose(0, 1)[None].clone()
    warped[:, :, 0] = 0.0
    return warped


def check_shown(teacher: Path, *, is_shown: bool) -> None:
    """Refuse a teacher with ``warp_condition`` that never learnt from what it is to be shown.

    Args:
        teacher: Output folder of a stage; one that does not say is taken on trust.
        is_shown: Whether it will be shown pictures.

    Raises:
        ValueError: If it was trained otherwise.
    """
    run = teacher / "run.json"
    config = read_json(run).get("config", {}) if run.is_file() else {}
    if "clean_first" not in config:
        return
    # Before there was a choice, nothing was shown.
    shown = config.get("shown", 0.0)
    if shown == (0.0 if is_shown else 1.0):
        raise ValueError(
            f"{teacher} was trained with shown={shown}: a teacher that is to be shown "
            f"{'pictures' if is_shown else 'nothing'} has to have learnt it; expected "
            f"{'show=nothing' if is_shown else 'pictures to be shown'}, or another teacher"
        )


def run_clip_stage(config: ClipStageConfig) -> None:
    """Train, or go on training, on whole clips."""

    def make(device: torch.device) -> Objective:
        return ClipObjective(config, device)

    train(make, config.trainer)
