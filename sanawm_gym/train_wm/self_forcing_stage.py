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

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
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
from sanawm_gym.worldmodel.ground_warp import warped_latent
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
    critic_window: int = 3
    """Latent frames that the critic sees together, at most ``own_piece``."""
    young_pieces: int = 1
    """Pieces after its true beginning for which an own drive is still compared with the recording
    frame by frame; later the recording is only one of many futures."""
    young_weight: float = 1.0
    """Weight of that comparison beside the velocity error."""
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


@dataclass(frozen=True)
class OwnDrive:
    """Where a drive of the network's own has got to."""

    network: SanaWMState
    """State of one row, in the origin of the last latent frame."""
    decoder: list[Tensor]
    """Memory of the decoder."""
    picture: Float[Tensor, "1 3 h w"]
    """Last picture, in [-1, 1]."""
    tail: Float[Tensor, "2 c y x"]
    """Last two latent frames."""
    age: int
    """Pieces drawn since the drive began."""


class SelfForcingWeights(WorldWeights):
    """Network and text encoder, and the critic that is thrown away afterwards."""

    def __init__(self, base: WorldWeights, window: int) -> None:
        super().__init__(base.network, base.text_encoder)
        self.critic = Critic(base.network.config.in_channels, window=window)


class SelfForcingObjective(StreamObjective):
    """Teacher-forced velocity error plus an adversarial loss on own drives."""

    def __init__(self, config: SelfForcingStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.own = config
        self.student = SelfForcingWeights(self.weights, config.critic_window).to(device)
        self.weights = self.student
        self._own_lanes: Lanes | None = None
        self._own_resumed: dict[str, list[int]] | None = None
        self._drives: dict[int, OwnDrive] = {}

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
        windows = (count, own.critic_window, piece.latents.shape[1], *piece.latents.shape[-2:])
        return OwnBatch(
            teacher=super().batch(step, rank, num_ranks),
            piece=piece,
            eps=torch.randn(shape, generator=generator),
            jitter=0.05 * torch.randn(windows, generator=generator),
        )

    def forward(self, batch: OwnBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Sum of the velocity error, the error of young own frames, generator's and critic's."""
        loss, metrics = super().forward(batch.teacher)
        piece = batch.piece
        going = [row for row, first in enumerate(piece.begins) if not first]
        beginning = [row for row, first in enumerate(piece.begins) if first]
        if beginning:
            self._begin(piece.select(beginning))
        if not going:
            return loss, metrics
        own = self.own
        eps = batch.eps[:, going].to(self.device)
        piece = piece.select(going)
        young = [self._drives[lane].age < own.young_pieces for lane in piece.lanes]
        drawn, before = self._draw(piece, eps)
        real = piece.latents.to(self.device)
        error = ((drawn - real).square() * self.channel_weights).mean(dim=(1, 2, 3, 4))
        determined = torch.tensor(young, device=self.device).float()
        young_error = (error * determined).sum() / determined.sum().clamp_min(1.0)
        window = own.critic_window
        motion = motion_features(piece.camera, own.model.camera_unit_m).to(self.device)
        critic_loss, generator_loss = critic_losses(
            self.student.critic,
            real.transpose(1, 2)[:, -window:],
            torch.cat([before, drawn.transpose(1, 2)], dim=1)[:, -window:],
            motion[:, -window:],
            penalty=own.penalty,
            noise=batch.jitter[going].to(self.device),
        )
        total = (
            loss
            + own.young_weight * young_error
            + own.adversarial_weight * generator_loss
            + critic_loss
        )
        return total, {
            **metrics,
            "own_error": error.mean().detach(),
            "own_deviation": drawn.detach().std() / real.std(),
            "critic": critic_loss.detach(),
            "generator": generator_loss.detach(),
        }

    @torch.no_grad()
    def _begin(self, piece: Piece) -> None:
        """Start the rows' drives from true frames."""
        network = self.weights.network
        latents, camera = piece.latents.to(self.device), piece.camera.to(self.device)
        size = (latents.shape[-2], latents.shape[-1])
        unrolled = network.unroll(
            latents,
            torch.zeros(latents.shape[0], latents.shape[2], device=self.device),
            self.weights.text(piece.captions),
            camera,
            network.initial_state(latents.shape[0], *size, device=self.device),
            transport=piece.transport.to(self.device),
        )
        frames, memory = self.autoencoder[0].decode_step(latents, None)
        for row, lane in enumerate(piece.lanes):
            self._drives[lane] = OwnDrive(
                network=unrolled.state_after.select([row]),
                decoder=[x[row : row + 1].float() for x in memory],
                picture=frames[row : row + 1, :, -1].float(),
                tail=latents[row, :, -2:].transpose(0, 1),
                age=0,
            )

    def _draw(self, piece: Piece, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Go on with the rows' drives; returns the new latents and the two before them.

        Gradients pass from frame to frame through the network's state, not through pictures.
        """
        network, autoencoder = self.weights.network, self.autoencoder[0]
        drives = [self._drives[lane] for lane in piece.lanes]
        text = self.weights.text(piece.captions)
        camera = piece.camera.to(self.device)
        state = SanaWMState.concat([drive.network for drive in drives])
        memory = [torch.cat(x) for x in zip(*(d.decoder for d in drives), strict=True)]
        picture = torch.cat([drive.picture for drive in drives])
        before = torch.stack([drive.tail for drive in drives])
        seen_from, frames = piece.last_pose, []
        for index in range(piece.latents.shape[2]):
            state = state.reanchor(piece.transport[:, index].to(self.device))
            now = camera.frames(index, index + 1)
            poses = piece.poses[:, index]
            if self.own.model.warp_condition:
                with torch.no_grad():
                    warped = warped_latent(autoencoder, picture, seen_from, poses, piece.intrinsics)
                now = replace(now, warped=warped)
            noises = list(eps[:, :, :, index : index + 1])
            x_0 = sample_chunk(network, noises, self.own.sigmas, text, now, state)
            clean = torch.zeros(x_0.shape[0], 1, device=self.device)
            _, state = network.step(x_0, clean, text, now, state, update_state=True)
            with torch.no_grad():
                pixels, memory = autoencoder.decode_step(x_0.detach(), memory)
            picture, seen_from = pixels[:, :, -1].float(), poses[:, -1]
            frames.append(x_0)
        drawn = torch.cat(frames, dim=2)
        tails = torch.cat([before, drawn.detach().transpose(1, 2)], dim=1)[:, -2:]
        kept = state.detach()
        for row, (lane, drive) in enumerate(zip(piece.lanes, drives, strict=True)):
            self._drives[lane] = OwnDrive(
                network=kept.select([row]),
                decoder=[x[row : row + 1].float() for x in memory],
                picture=picture[row : row + 1],
                tail=tails[row],
                age=drive.age + 1,
            )
        return drawn, before

    def progress(self) -> dict[str, Any]:
        """Teacher lanes, own lanes and their drives."""
        return {
            **super().progress(),
            "own_lanes": None if self._own_lanes is None else self._own_lanes.progress(),
            "drives": {
                lane: {**vars(drive), "network": drive.network.tensors()}
                for lane, drive in self._drives.items()
            },
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Take all of it back."""
        super().load_progress(progress)
        self._own_resumed = progress["own_lanes"]
        stored = progress["drives"]
        states = self.restore({lane: drive["network"] for lane, drive in stored.items()})
        for lane, drive in stored.items():
            moved = {
                "decoder": [x.to(self.device) for x in drive["decoder"]],
                "picture": drive["picture"].to(self.device),
                "tail": drive["tail"].to(self.device),
            }
            self._drives[lane] = OwnDrive(network=states[lane], age=drive["age"], **moved)

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write network and text encoder; the critic stays behind."""
        assert isinstance(weights, SelfForcingWeights)
        weights.save(out)


def run_self_forcing_stage(config: SelfForcingStageConfig) -> None:
    """Train, or go on training, the streaming student on its own drives."""

    def make(device: torch.device) -> Objective:
        return SelfForcingObjective(config, device)

    train(make, config.trainer)
