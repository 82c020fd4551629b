"""Stage ``ode``: a few-step student that begins where its teacher's trajectories lead.

Each chunk is shown at one of the noise levels that the trajectory was kept at, drawn at random, and
the student is asked for the trajectory's end. There is no luck in that: noise and first picture
determine the end, so the student learns a map and not a mean. [source: CausVid, Yin et al. 2025,
arXiv 2412.07772, section 4.3; as released for SANA-WM]

Two forms. ``chunk_causal`` reads the whole clip at once, the past at levels of its own, as the
released recipe does. ``streaming`` reads it chunk after chunk against a clean past in the
network's memory, in exactly the form in which it is driven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sanawm_gym.train_wm.clip_path import ClipPath, Origin
from sanawm_gym.train_wm.network_stage import (
    NetworkObjective,
    NetworkStageConfig,
    mean_of_rows,
)
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.student_sample import sample_student
from sanawm_gym.train_wm.student_stream import StudentStream
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.train_wm.trajectory_store import TrajectoryStore
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, velocity_to_x_0
from sanawm_gym.worldmodel.noise import mix_seed


@dataclass(frozen=True, kw_only=True)
class OdeTrainerConfig(TrainerConfig):
    """As the trainer of the other stages, with defaults for this one."""

    steps: int = 3000
    """Optimiser steps; 3000 in the released recipe."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW; 2e-5 in the released recipe, whose network is 600 times as
    large."""
    weight_decay: float = 0.01
    """AdamW decay of matrices; vectors (gains, biases, gates) are never decayed."""


@dataclass(frozen=True, kw_only=True)
class OdeStageConfig(NetworkStageConfig):
    """Teach a student the ends of its teacher's trajectories."""

    trajectories: Path
    """Folder written by the ``trajectories`` stage; the student learns its noise levels."""
    trainer: OdeTrainerConfig
    """Length, speed and output folder."""
    form: Literal["streaming", "chunk_causal"] = "streaming"
    """How a clip is read: chunk after chunk behind a clean past, or at once with the past noisy at
    levels of its own as in the released recipe."""
    origin: Origin = "moving"
    """Where cameras are measured from in the streaming form: the last picture before each chunk, as
    worlds are driven here, or the clip's first picture as in the released model."""
    batch_size: int = 4
    """Trajectories a forward pass, of all processes together, >= 1."""
    shift: float = 8.0
    """Not used: the levels are those of the trajectories."""
    caption_dropout: float = 0.0
    """Share of trajectories shown with an empty caption, 0 to 1; none as released, since each of
    them was drawn under its caption."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class OdeBatch:
    """Trajectories, and at which level each frame is shown."""

    x_0: Float[Tensor, "b c t y x"]
    x_sigma: Float[Tensor, "b c t y x"]
    sigma: Float[Tensor, "b t"]
    """0 at the first frame, which is given, and where a chunk is shown clean."""
    warped: Float[Tensor, "b c t y x"] | None
    path: ClipPath
    captions: list[str]


class OdeObjective(NetworkObjective):
    """Error of the clean latents that the student sees from somewhere on the way to them."""

    def __init__(self, config: OdeStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.config = config
        self.store = TrajectoryStore(config.trajectories)
        self.autoencoder[0].to(device)
        if config.model.warp_condition and self.store[0].warped is None:
            raise ValueError(
                f"{config.trajectories} has no pictures carried over the ground, which a network "
                "with warp_condition needs: make the trajectories with --autoencoder"
            )

    def batch(self, step: int, rank: int, num_ranks: int) -> OdeBatch:
        """Random trajectories, and a random level for every chunk."""
        config = self.config
        numbers = rows_of_rank("batch_size", config.batch_size, rank, num_ranks)
        rows = Rows(numbers, mix_seed(config.trainer.seed, step))
        places = rows.pick(range(len(self.store)))
        found = [self.store[place] for place in places]
        snapshots = torch.stack([one.snapshots.float() for one in found]).transpose(2, 3)
        levels = self._levels(rows)
        dropped = (rows.rand() < config.caption_dropout).tolist()
        index = levels[:, None, None, :, None, None].expand(-1, 1, *snapshots.shape[2:])
        sigma = torch.tensor([*self.store.sigmas, 0.0])[levels]
        sigma[:, 0] = 0.0
        warped = None
        if config.model.warp_condition:
            pictures = [one.warped.float() for one in found if one.warped is not None]
            warped = torch.stack(pictures).transpose(1, 2)
        clips = [one.clip() for one in found]
        stride = config.model.temporal_stride
        return OdeBatch(
            x_0=snapshots[:, -1],
            x_sigma=snapshots.gather(1, index)[:, 0],
            sigma=sigma,
            warped=warped,
            path=ClipPath.of(clips, self.store.num_latents, stride, config.picture),
            captions=[
                "" if drop else one.caption for drop, one in zip(dropped, found, strict=True)
            ],
        )

    def _levels(self, rows: Rows) -> Int[Tensor, "b t"]:
        """Which snapshot of each frame is shown, one a chunk."""
        chunks = chunk_sizes(self.store.num_latents, self.config.model, "chunk_causal")
        # A noisy past may as well be clean; a clean past stands beside every noisy frame anyway.
        choices = len(self.store.sigmas) + (self.config.form == "chunk_causal")
        levels = (rows.rand(len(chunks)) * choices).long().clamp(max=choices - 1)
        return levels.repeat_interleave(torch.tensor(chunks), dim=1)

    def forward(self, batch: OdeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the clean latents, over frames that are shown with noise."""
        x_0, sigma = batch.x_0.to(self.device), batch.sigma.to(self.device)
        x_sigma = batch.x_sigma.to(self.device)
        text = self.weights.text(batch.captions)
        v = self._reader()(batch, x_sigma, sigma, x_0, text)
        drawn = velocity_to_x_0(x_sigma, v.float(), sigma)
        error = ((drawn - x_0).square() * self.channel_weights).mean(dim=(1, 3, 4))
        loss = mean_of_rows(error, (sigma > 0).float())
        metrics = {"loss": loss.detach()}
        pure = sigma == 1
        if pure.any():
            metrics["from_noise"] = error.detach()[pure].mean()
        return loss, metrics

    def _reader(self) -> Callable[..., Float[Tensor, "b c t y x"]]:
        """How velocities of all frames are read; a stream of single frames in two passes."""
        config, model = self.config, self.config.model
        if config.form == "chunk_causal":
            return self._clip
        single = (model.chunk_size, model.first_chunk_size) == (1, 1) and model.recent_chunks >= 0
        return self._frames if single and config.origin == "moving" else self._stream

    def _clip(
        self, batch: OdeBatch, x_sigma: Tensor, sigma: Tensor, x_0: Tensor, text: TextContext
    ) -> Float[Tensor, "b c t y x"]:
        """Velocities of the clip at once, every chunk at its level."""
        camera = batch.path.whole(self.config.model, batch.warped).to(self.device)
        v: Tensor = self.weights.network(
            x_sigma, NUM_TIMESTEPS * sigma, text, camera, mode="chunk_causal"
        )
        return v

    def _stream(
        self, batch: OdeBatch, x_sigma: Tensor, sigma: Tensor, x_0: Tensor, text: TextContext
    ) -> Float[Tensor, "b c t y x"]:
        """Velocities chunk after chunk, each against what the clean ones before it left behind."""
        network = self.weights.network
        state = network.initial_state(len(x_0), *batch.path.grid, device=self.device)
        velocities = []
        for chunk in batch.path.chunks(self.config.model, self.config.origin):
            if chunk.transport is not None:
                state = state.reanchor(chunk.transport.to(self.device))
            span = slice(chunk.start, chunk.stop)
            camera = chunk.camera.to(self.device)
            if batch.warped is not None:
                camera = replace(camera, warped=batch.warped[:, :, span].to(self.device))
            level, clean = sigma[:, span], x_0[:, :, span]
            v = torch.zeros_like(clean)
            if chunk.stop > 1:
                v, _ = network.step(
                    x_sigma[:, :, span],
                    NUM_TIMESTEPS * level,
                    text,
                    camera,
                    state,
                    update_state=False,
                )
            velocities.append(v.float())
            if chunk.stop < x_0.shape[2]:
                past = torch.zeros_like(level)
                _, state = network.step(clean, past, text, camera, state, update_state=True)
        return torch.cat(velocities, dim=2)

    def _frames(
        self, batch: OdeBatch, x_sigma: Tensor, sigma: Tensor, x_0: Tensor, text: TextContext
    ) -> Float[Tensor, "b c t y x"]:
        """As :meth:`_stream`: one pass over the clean frames, then all noisy ones at once."""
        network = self.weights.network
        camera, transport = batch.path.moving(self.config.model)
        camera = replace(camera, warped=batch.warped).to(self.device)
        unrolled = network.unroll(
            x_0,
            torch.zeros_like(sigma),
            text,
            camera,
            network.initial_state(len(x_0), *batch.path.grid, device=self.device),
            transport=transport.to(self.device),
        )
        v, _ = network.step(
            rearrange(x_sigma, "b c t y x -> (b t) c 1 y x"),
            NUM_TIMESTEPS * rearrange(sigma, "b t -> (b t) 1"),
            text,
            camera.frames_as_rows(),
            unrolled.states_before,
            update_state=False,
        )
        return rearrange(v, "(b t) c 1 y x -> b c t y x", b=len(x_0))

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out clips drawn by the student alone, below the truth."""
        assert isinstance(weights, WorldWeights)
        see = self.autoencoder[0]
        return sample_student(
            weights,
            StudentStream(weights.network, see, self.config.origin),
            see,
            self.held_out_clips,
            num_latents=self.store.num_latents,
            sigmas=self.store.sigmas,
            picture=self.config.picture,
            path=path,
        )


def run_ode_stage(config: OdeStageConfig) -> None:
    """Train, or go on training, a student on its teacher's trajectories."""

    def make(device: torch.device) -> Objective:
        return OdeObjective(config, device)

    train(make, config.trainer)
