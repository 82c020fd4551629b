"""Stage ``streaming``: teach the network to continue a stream, one latent frame at a time.

Two passes over the same piece of a drive. The *clean pass* reads the true latents at timestep 0 and
leaves, before every frame, the state a stream would have there. The *noisy pass* predicts every
frame's velocity from noise, all frames at once, each against its own state: the whole past is clean
(teacher forcing), and the network is trained in exactly the form in which it will be driven.

With ``rollouts`` the past is a mixture of the truth and of what the network made of it when it was
left alone, while the target stays true. Enough of the truth shows through to tell what is right,
and the answer to one's own mistakes is learnt at the price of teacher forcing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.lanes import Lanes, Piece
from sanawm_gym.train_wm.network_stage import (
    NetworkObjective,
    NetworkStageConfig,
    mean_of_rows,
)
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.stream_sample import sample_stream
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.flow import (
    NUM_TIMESTEPS,
    add_noise,
    sample_sigma,
    velocity_to_x_0,
)
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True, kw_only=True)
class StreamStageConfig(NetworkStageConfig):
    """Train the streaming network, the past being true."""

    piece: int = 4
    """Latent frames a training step and lane; gradients reach back to the piece's beginning."""
    lanes_per_step: int = 4
    """Lanes a forward pass, of all processes together; 4 on a CPU, 64 or more on a GPU. Frames of
    one drive resemble each other, so several short pieces teach more than one long piece."""
    lanes: int = 64
    """Drives in progress at any time, of all processes together."""
    pure_noise: float = 0.25
    """Share of frames trained at sigma = 1, where the first denoising step begins."""
    context_noise: float = 0.1
    """Largest deviation of the Gaussian noise added to the clean context and to the warped
    pictures, drawn a row."""
    rollouts: tuple[Path, ...] = ()
    """Folders written by the ``rollouts`` stage, the newest last: what the network itself drew
    along the cameras of some clips. Mixed into the past that is shown, it teaches to draw the true
    next frame although the past has gone wrong."""
    mixed_pieces: float = 0.7
    """Share of the pieces, where there are rollouts, whose past is mixed, 0 to 1."""
    largest_mix: float = 0.9
    """Largest weight of the drawn past against the true one, drawn a row, 0 to 1. At 1 nothing
    would tell which of all futures is the true one."""


@dataclass(frozen=True)
class StreamBatch:
    """One training step's data, noise and incoming states."""

    piece: Piece
    sigma: Float[Tensor, "b t"]
    eps: Float[Tensor, "b c t y x"]
    context: Float[Tensor, "b c t y x"]
    captions: list[str]


class StreamObjective(NetworkObjective):
    """Velocity error of every frame against its own streaming state."""

    def __init__(self, config: StreamStageConfig, device: torch.device) -> None:
        super().__init__(config, device, config.rollouts)
        self.config = config
        self._lanes: Lanes | None = None
        self._states: dict[int, SanaWMState] = {}
        self._resumed_lanes: dict[int, dict[str, int]] = {}

    def lanes(self, rank: int, num_ranks: int) -> Lanes:
        """This process's readers."""
        if self._lanes is None:
            mine = rows_of_rank("lanes", self.config.lanes, rank, num_ranks)
            self._lanes = Lanes(
                self.train_clips,
                lanes=mine,
                piece=self.config.piece,
                model=self.config.model,
                picture=self.config.picture,
                seed=mix_seed(self.config.trainer.seed, 0),
            )
            self._lanes.load_progress(self._resumed_lanes)
            self._states = {lane: x for lane, x in self._states.items() if lane in mine}
        return self._lanes

    def batch(self, step: int, rank: int, num_ranks: int) -> StreamBatch:
        """Next pieces of the lanes whose turn it is, and all noise of the step."""
        config = self.config
        count, total = config.lanes_per_step, config.lanes
        numbers = rows_of_rank("lanes_per_step", count, rank, num_ranks)
        piece = self.lanes(rank, num_ranks).read([(step * count + i) % total for i in numbers])
        rows = Rows(numbers, mix_seed(config.trainer.seed, step, 7))
        x_0 = piece.latents
        shape, t = x_0.shape[1:], x_0.shape[2]
        sigma = torch.stack(
            [
                sample_sigma((t,), shift=config.shift, generator=each, device=x_0.device)
                for each in rows.generators
            ]
        )
        pure = rows.rand(t) < config.pure_noise
        grain = config.context_noise * rows.rand(1, 1, 1, 1)
        dropped = rows.rand() < config.caption_dropout
        past = x_0
        if piece.drawn is not None:
            mixed = rows.rand(1, 1, 1, 1) < config.mixed_pieces
            share = config.largest_mix * rows.rand(1, 1, 1, 1) * mixed
            past = torch.lerp(x_0, piece.drawn.latents, share)
            if piece.camera.warped is not None:
                warped = torch.lerp(piece.camera.warped, piece.drawn.warped, share)
                piece = replace(piece, camera=replace(piece.camera, warped=warped))
        if piece.camera.warped is not None:
            warped = piece.camera.warped
            grained = warped + grain * rows.randn(*shape)
            # The first frame of a clip has no picture before it, hence nothing to soil.
            first = (
                torch.tensor(piece.begins)[:, None, None, None, None]
                & (torch.arange(t) == 0)[:, None, None]
            )
            camera = replace(piece.camera, warped=torch.where(first, warped, grained))
            piece = replace(piece, camera=camera)
        return StreamBatch(
            piece=piece,
            sigma=torch.where(pure, 1.0, sigma),
            eps=rows.randn(*shape),
            context=past + grain * rows.randn(*shape),
            captions=[
                "" if drop else text
                for drop, text in zip(dropped.tolist(), piece.captions, strict=True)
            ],
        )

    def forward(self, batch: StreamBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared velocity error of the frames that have a past; rows count alike."""
        piece = batch.piece
        x_0 = piece.latents.to(self.device)
        camera = piece.camera.to(self.device)
        text = self.weights.text(batch.captions)
        state = self.incoming(piece, self._states)
        context = batch.context.to(self.device)
        before, after = self._clean_pass(context, text, camera, state, piece)
        sigma, eps = batch.sigma.to(self.device), batch.eps.to(self.device)
        x_sigma = add_noise(x_0, eps, sigma)
        v = self._noisy_pass(x_sigma, sigma, text, camera, before)
        error = self.velocity_error(v, x_0, eps)
        begins = torch.tensor(piece.begins, device=self.device)
        has_past = torch.ones_like(sigma)
        has_past[:, 0] = (~begins).float()
        loss = mean_of_rows(error, has_past)
        for row, lane in enumerate(piece.lanes):
            self._states[lane] = after.detach().select([row])
        drawn = velocity_to_x_0(x_sigma, v.detach(), sigma)
        pure = (sigma == 1) & (has_past > 0)
        one_step = (drawn - x_0).square().mean(dim=(1, 3, 4))
        return loss, {
            "loss": loss.detach(),
            "one_step_mse": one_step[pure].mean() if pure.any() else loss.detach(),
        }

    def incoming(self, piece: Piece, states: dict[int, SanaWMState]) -> SanaWMState:
        """States of the piece's lanes, empty for rows whose clip begins."""
        size = (piece.latents.shape[-2], piece.latents.shape[-1])
        empty = self.weights.network.initial_state(1, *size, device=self.device)
        rows = [
            empty if begins or lane not in states else states[lane]
            for lane, begins in zip(piece.lanes, piece.begins, strict=True)
        ]
        return SanaWMState.concat(rows)

    def _clean_pass(
        self,
        context: Tensor,
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
        piece: Piece,
    ) -> tuple[SanaWMState, SanaWMState]:
        clean = torch.zeros(context.shape[0], context.shape[2], device=self.device)
        unrolled = self.weights.network.unroll(
            context, clean, text, camera, state, transport=piece.transport.to(self.device)
        )
        return unrolled.states_before, unrolled.state_after

    def _noisy_pass(
        self,
        x_sigma: Tensor,
        sigma: Tensor,
        text: TextContext,
        camera: CameraCondition,
        before: SanaWMState,
    ) -> Tensor:
        v, _ = self.weights.network.step(
            rearrange(x_sigma, "b c t y x -> (b t) c 1 y x"),
            NUM_TIMESTEPS * rearrange(sigma, "b t -> (b t) 1"),
            text,
            camera.frames_as_rows(),
            before,
            update_state=False,
        )
        return rearrange(v, "(b t) c 1 y x -> b c t y x", b=len(x_sigma))

    def progress(self) -> dict[str, Any]:
        """Positions of the lanes and the states they carry."""
        return {
            "lanes": self._resumed_lanes if self._lanes is None else self._lanes.progress(),
            "states": {lane: state.tensors() for lane, state in self._states.items()},
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Take the lanes and their states back."""
        self._resumed_lanes = progress["lanes"]
        self._states = self.restore(progress["states"])

    def restore(self, stored: dict[int, dict[str, Tensor]]) -> dict[int, SanaWMState]:
        """States of lanes from their tensors."""
        size = self.train_clips[0].latents.shape[-2:]
        empty = self.weights.network.initial_state(1, size[0], size[1])
        return {
            lane: empty.with_tensors(tensors).to(self.device) for lane, tensors in stored.items()
        }

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out drives continued from five latent frames along their true cameras."""
        assert isinstance(weights, WorldWeights)
        return sample_stream(
            weights.network,
            weights.text_encoder,
            self.autoencoder[0],
            self.held_out_clips,
            picture=self.config.picture,
            path=path,
        )


def run_stream_stage(config: StreamStageConfig) -> None:
    """Train, or go on training, the streaming network."""

    def make(device: torch.device) -> Objective:
        return StreamObjective(config, device)

    train(make, config.trainer)
