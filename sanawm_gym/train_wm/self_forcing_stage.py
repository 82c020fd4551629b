"""Stage ``self-forcing``: train the streaming student on its own drives.

A network that has only ever continued recordings does not know what its own mistakes look like, and
a minute of them washes a road away. Here lanes carry the network's *own* past: each step draws the
next few latent frames of a drive that may already be long, along recorded cameras, and a critic
compares short windows of it with recorded windows of the same motion. No drawn frame is regressed
onto the recording: after a few seconds the true future is no longer determined by what was drawn,
and regression would teach the mean of all futures, a grey blur.

The teacher-forced loss of the ``streaming`` stage goes on beside it, so that the answer to the
wheel is not traded away for looks. [source: self forcing, Huang et al. 2025, arXiv 2506.08009, with
its adversarial variant]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanawm_gym.train_wm.critic import Critic, critic_losses, motion_features
from sanawm_gym.train_wm.lanes import Lanes, Piece
from sanawm_gym.train_wm.stream_stage import (
    StreamBatch,
    StreamObjective,
    StreamStageConfig,
)
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.sampler import sample_chunk
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True, kw_only=True)
class SelfForcingStageConfig(StreamStageConfig):
    """Train the streaming student on its own drives (start from streaming with --init)."""

    own_lanes_per_step: int = 2
    """Own drives advanced each step."""
    own_lanes: int = 8
    """Own drives in progress at any time."""
    own_piece: int = 3
    """Latent frames drawn with gradients each step."""
    adversarial_weight: float = 0.1
    """Weight of the generator's loss beside the velocity error."""
    penalty: float = 0.05
    """Weight of the critic's zero-centred gradient penalty."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the streaming sampler that is trained."""


@dataclass(frozen=True)
class OwnBatch:
    """A teacher-forced batch and the next pieces of some own drives."""

    teacher: StreamBatch
    piece: Piece
    eps: Tensor
    jitter: Tensor


class SelfForcingWeights(WorldWeights):
    """Network and text encoder, and the critic that is thrown away afterwards."""

    def __init__(self, base: WorldWeights) -> None:
        super().__init__(base.network, base.text_encoder)
        self.critic = Critic(base.network.config.in_channels, window=3)


class SelfForcingObjective(StreamObjective):
    """Teacher-forced velocity error plus an adversarial loss on own drives."""

    def __init__(self, config: SelfForcingStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.own = config
        self.student = SelfForcingWeights(self.weights).to(device)
        self.weights = self.student
        self._own_lanes: Lanes | None = None
        self._own_resumed: dict[str, list[int]] | None = None
        self._own_states: dict[int, SanaWMState] = {}
        self._tails: dict[int, Tensor] = {}

    def batch(self, step: int, rank: int, num_ranks: int) -> OwnBatch:  # type: ignore[override]
        """The teacher's batch, the own lanes' next pieces and their noise."""
        own = self.own
        seed = mix_seed(own.trainer.seed, rank, 11)
        if self._own_lanes is None:
            self._own_lanes = Lanes(
                self.train_clips,
                num_lanes=own.own_lanes,
                piece=own.own_piece,
                model=own.model,
                picture=own.picture,
                seed=seed,
            )
            if self._own_resumed is not None:
                self._own_lanes.load_progress(self._own_resumed)
        count = own.own_lanes_per_step
        lanes = [(step * count + i) % own.own_lanes for i in range(count)]
        piece = self._own_lanes.read(lanes)
        generator = torch.Generator().manual_seed(mix_seed(seed, step))
        shape = (len(own.sigmas), *piece.latents.shape)
        windows = (count * own.own_piece, 3, piece.latents.shape[1], *piece.latents.shape[-2:])
        return OwnBatch(
            teacher=super().batch(step, rank, num_ranks),
            piece=piece,
            eps=torch.randn(shape, generator=generator),
            jitter=0.05 * torch.randn(windows, generator=generator),
        )

    def forward(self, batch: OwnBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Sum of the velocity error, the generator's loss and the critic's loss."""
        loss, metrics = super().forward(batch.teacher)
        judged = self._advance(batch)
        if judged is None:
            return loss, metrics
        critic_loss, generator_loss = judged
        total = loss + self.own.adversarial_weight * generator_loss + critic_loss
        return total, {
            **metrics,
            "critic": critic_loss.detach(),
            "generator": generator_loss.detach(),
        }

    def _advance(self, batch: OwnBatch) -> tuple[Tensor, Tensor] | None:
        """Draw the own lanes' next frames; None while every one of them only begins."""
        piece, own = batch.piece, self.own
        text = self.weights.text(piece.captions)
        real = piece.latents.to(self.device)
        begins = torch.tensor(piece.begins, device=self.device)
        state = self.incoming(piece, self._own_states)
        drawn, state = self._draw(batch, text, state, begins)
        tails = torch.stack(
            [
                real[row, :, :2].transpose(0, 1) if first else self._tails[lane]
                for row, (lane, first) in enumerate(zip(piece.lanes, piece.begins, strict=True))
            ]
        )
        drawn_clip = torch.cat([tails, drawn.transpose(1, 2)], dim=1)
        for row, lane in enumerate(piece.lanes):
            self._own_states[lane] = state.detach().select([row])
            self._tails[lane] = drawn_clip[row, -2:].detach()
        going = [row for row, first in enumerate(piece.begins) if not first]
        if not going:
            return None
        # Windows of recorded frames of the same motion: the piece alone holds them from its third
        # frame on, so one window a row is judged, and the drawn one ends at the same frame.
        real_window = real[going].transpose(1, 2)[:, -3:]
        drawn_window = drawn_clip[going][:, -3:]
        motion = motion_features(
            piece.camera.select(going).frames(own.own_piece - 3, own.own_piece),
            own.model.camera_unit_m,
        ).to(self.device)
        return critic_losses(
            self.student.critic,
            real_window,
            drawn_window,
            motion,
            penalty=own.penalty,
            noise=batch.jitter[: len(going)].to(self.device),
        )

    def _draw(
        self, batch: OwnBatch, text: TextContext, state: SanaWMState, begins: Tensor
    ) -> tuple[Tensor, SanaWMState]:
        """Draw the piece frame by frame; rows whose clip begins read the true frames instead."""
        piece, network = batch.piece, self.weights.network
        camera = piece.camera.to(self.device)
        frames = []
        for index in range(piece.latents.shape[2]):
            state = state.reanchor(piece.transport[:, index].to(self.device))
            now = camera.frames(index, index + 1)
            noises = [eps[:, :, index : index + 1].to(self.device) for eps in batch.eps]
            x_0 = sample_chunk(network, noises, self.own.sigmas, text, now, state)
            given = piece.latents[:, :, index : index + 1].to(self.device)
            x_0 = torch.where(begins[:, None, None, None, None], given, x_0)
            clean = torch.zeros(x_0.shape[0], 1, device=self.device)
            _, state = network.step(x_0, clean, text, now, state, update_state=True)
            frames.append(x_0)
        return torch.cat(frames, dim=2), state

    def progress(self) -> dict[str, Any]:
        """Teacher lanes, own lanes, their states and last frames."""
        return {
            **super().progress(),
            "own_lanes": None if self._own_lanes is None else self._own_lanes.progress(),
            "own_states": {lane: state.tensors() for lane, state in self._own_states.items()},
            "tails": dict(self._tails),
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Take all of it back."""
        super().load_progress(progress)
        self._own_resumed = progress["own_lanes"]
        self._own_states = self.restore(progress["own_states"])
        self._tails = {lane: tail.to(self.device) for lane, tail in progress["tails"].items()}

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write network and text encoder; the critic stays behind."""
        assert isinstance(weights, SelfForcingWeights)
        weights.save(out)


def run_self_forcing_stage(config: SelfForcingStageConfig) -> None:
    """Train, or go on training, the streaming student on its own drives."""

    def make(device: torch.device) -> Objective:
        return SelfForcingObjective(config, device)

    train(make, config.trainer)
