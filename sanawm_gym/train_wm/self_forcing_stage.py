"""Stage ``self-forcing``: train the streaming student on its own drives.

A network that has only ever continued recordings does not know what its own mistakes look like, and
a minute of them washes a road away. Here lanes carry the network's *own* past: each step draws the
next few latent frames of a drive that may already be long, along recorded cameras. Its pictures are
compared with those of the recording in their appearance, row by row, and by a critic.

A drive is compared with the recording frame by frame only where the recording can still be known
from what the network sees: right after the true beginning, and where the last picture, carried to
the next cameras, has been mixed with the true one. Elsewhere the true future is no longer
determined by what was drawn, and regression would teach the mean of all futures, a grey blur.

The teacher-forced loss of the ``streaming`` stage goes on beside it, so that the answer to the
wheel is not traded away for looks. [source: self forcing, Huang et al. 2025, arXiv 2506.08009, with
its adversarial variant]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.critic import appearance_error, critic_losses
from sanawm_gym.train_wm.ground_motion import motion_error
from sanawm_gym.train_wm.lanes import Lanes, Piece
from sanawm_gym.train_wm.own_drives import OwnDrive, SelfForcingWeights
from sanawm_gym.train_wm.processes import Rows, relative_to_mean, rows_of_rank
from sanawm_gym.train_wm.stream_stage import (
    StreamBatch,
    StreamObjective,
    StreamStageConfig,
)
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.worldmodel.ground_warp import warped_latent
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.sampler import sample_chunk
from sanawm_gym.worldmodel.state import SanaWMState

NUM_JUDGED = 2
"""Raw pictures, the last ones of a latent frame, that the critic sees together."""


@dataclass(frozen=True, kw_only=True)
class SelfForcingStageConfig(StreamStageConfig):
    """Train the streaming student on its own drives (start from streaming with --init)."""

    own_lanes_per_step: int = 2
    """Own drives advanced each step, by all processes together."""
    own_lanes: int = 8
    """Own drives in progress at any time, of all processes together."""
    own_laps: int = 3
    """Times an own drive follows the cameras of its clip before a new one begins, >= 1: a drive may
    get older than the recordings are long."""
    own_exchange: float = 0.3
    """Share of the later laps that go on under the caption of another clip and are compared with
    its pictures, 0 to 1: so the prompt has a say in what is drawn."""
    own_piece: int = 3
    """Latent frames drawn with gradients each step, >= 2: a frame is judged behind another."""
    young_pieces: int = 1
    """Pieces after its true beginning for which an own drive is still compared with the recording
    frame by frame; later the recording is only one of many futures."""
    own_mixed: float = 0.5
    """Share of the pieces whose first warped picture is mixed with the recorded one, and which are
    then compared with the recording frame by frame, 0 to 1; weights up to ``largest_mix``."""
    young_weight: float = 0.5
    """Weight of that comparison beside the velocity error."""
    appearance_weight: float = 1.0
    """Weight of the difference in colour, contrast and sharpness, row by row of the picture, from
    the recording of the same place and hour (`critic.appearance_error`)."""
    adversarial_weight: float = 0.1
    """Weight of the generator's loss beside the velocity error."""
    motion_weight: float = 0.5
    """Weight of what the ground drawn lacks, against that of the recording, in following the camera
    from picture to picture (`ground_motion.motion_error`), >= 0."""
    caption_critic: bool = True
    """Let the critic read the captions, so that it sees when a drive has left its own."""
    critic_rate: float = 2.0
    """Learning rate of the critic over that of the network."""
    critic_weight: float = 0.1
    """Weight of the critic's own loss. Adam does not see it; it keeps the critic's gradient from
    dominating the norm that is clipped."""
    critic_smoothness: float = 0.01
    """Weight of the critic's change under grain in the pictures (`critic.critic_losses`); without
    it the critic grows ever steeper and drives the pictures into patterns."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the streaming sampler that is trained."""

    def __post_init__(self) -> None:
        """Refuse pieces with nothing to judge and drives that never begin."""
        if self.own_laps < 1:
            raise ValueError(f"own_laps must be at least 1, got {self.own_laps}")
        if self.own_piece < 2:
            raise ValueError(f"own_piece must be at least 2, got {self.own_piece}")


@dataclass(frozen=True)
class OwnBatch:
    """A teacher-forced batch and the next pieces of some own drives."""

    teacher: StreamBatch
    piece: Piece
    eps: Tensor
    grain: Tensor
    share: Float[Tensor, " b"]
    """Weight of the drawn picture against the true one before the piece; 1 where not mixed."""
    captions: list[str]
    """Of clips drawn at random, which the critic learns not to take for the row's own."""


class SelfForcingObjective(StreamObjective):
    """Teacher-forced velocity error plus an adversarial loss on own drives."""

    def __init__(self, config: SelfForcingStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.own = config
        student = SelfForcingWeights(self.weights, NUM_JUDGED, config.caption_critic)
        self.student = student.to(device)
        self.weights = self.student
        self._own_lanes: Lanes | None = None
        self._own_resumed: dict[int, dict[str, int]] = {}
        self._drives: dict[int, OwnDrive] = {}

    def learning_rate_factor(self, name: str) -> float:
        """The critic learns faster than what it judges."""
        return self.own.critic_rate if name.startswith("critic.") else 1.0

    def batch(self, step: int, rank: int, num_ranks: int) -> OwnBatch:  # type: ignore[override]
        """The teacher's batch, the own lanes' next pieces and their noise."""
        own, count = self.own, self.own.own_lanes_per_step
        numbers = rows_of_rank("own_lanes_per_step", count, rank, num_ranks)
        lanes = [(step * count + i) % own.own_lanes for i in numbers]
        piece = self.own_readers(rank, num_ranks).read(lanes)
        rows = Rows(numbers, mix_seed(own.trainer.seed, step, 11))
        mixed = rows.rand() < own.own_mixed
        mixed &= ~torch.tensor(piece.exchanged) & own.model.warp_condition
        share = torch.where(mixed, own.largest_mix * rows.rand(), 1.0)
        return OwnBatch(
            teacher=super().batch(step, rank, num_ranks),
            piece=piece,
            eps=rows.randn(len(own.sigmas), *piece.latents.shape[1:]).transpose(0, 1),
            grain=rows.randn(own.own_piece - 1, 3, NUM_JUDGED, *own.picture),
            share=share,
            captions=rows.pick([clip.caption for clip in self.train_clips]),
        )

    def own_readers(self, rank: int, num_ranks: int) -> Lanes:
        """This process's readers of the cameras along which own drives go."""
        own = self.own
        if self._own_lanes is None:
            mine = rows_of_rank("own_lanes", own.own_lanes, rank, num_ranks)
            self._own_lanes = Lanes(
                self.train_clips,
                lanes=mine,
                piece=own.own_piece,
                model=own.model,
                picture=own.picture,
                seed=mix_seed(own.trainer.seed, 0, 11),
                laps=own.own_laps,
                exchange=own.own_exchange,
            )
            self._own_lanes.load_progress(self._own_resumed)
            self._drives = {lane: x for lane, x in self._drives.items() if lane in mine}
        return self._own_lanes

    def forward(self, batch: OwnBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """Sum of the velocity error, the error of young own frames, generator's and critic's."""
        own, piece = self.own, batch.piece
        loss, metrics = super().forward(batch.teacher)
        going = [row for row, first in enumerate(piece.begins) if not first]
        beginning = [row for row, first in enumerate(piece.begins) if first]
        if beginning:
            self._begin(piece.select(beginning))
        is_young = [self._drives[piece.lanes[row]].age < own.young_pieces for row in going]
        young = (torch.tensor(is_young, dtype=torch.bool) | (batch.share[going] < 1)).float()
        counts = torch.tensor([len(going), float(young.sum())], device=self.device)
        going_part, young_part = relative_to_mean(counts)
        if not going:
            # A process has to send gradients of the critic if another one does.
            return loss + 0 * sum(x.sum() for x in self.student.critic.parameters()), metrics
        piece = piece.select(going)
        share, young = batch.share[going].to(self.device), young.to(self.device)
        drawn = self._draw(piece, batch.eps[:, going].to(self.device), share)
        real = piece.latents.to(self.device)
        error = ((drawn - real).square() * self.channel_weights).mean(dim=(1, 2, 3, 4))
        young_error = (error * young).sum() / young.sum().clamp_min(1.0)
        with torch.no_grad():
            recorded = self._judged(real)
        continued = self._judged(drawn)
        appearance = appearance_error(continued, recorded)
        motion = motion_error(continued, recorded, piece).mean()
        asked = None
        if own.caption_critic:
            others = [batch.captions[row] for row in going]
            told = torch.stack([self.student.asked(x) for x in (piece.captions, others)]).float()
            both = told.repeat_interleave(own.own_piece - 1, dim=1)
            asked = (both[0], both[1])
        critic_loss, generator_loss = critic_losses(
            self.student.critic,
            recorded,
            continued,
            batch.grain[going].flatten(0, 1).to(self.device),
            own.critic_smoothness,
            asked,
        )
        judged = (
            own.appearance_weight * appearance
            + own.motion_weight * motion
            + own.adversarial_weight * generator_loss
            + own.critic_weight * critic_loss
        )
        total = loss + young_part * own.young_weight * young_error + going_part * judged
        return total, {
            **metrics,
            "own_error": error.mean().detach(),
            "own_deviation": drawn.detach().std() / real.std(),
            "appearance": appearance.detach(),
            "motion": motion.detach(),
            "critic": critic_loss.detach(),
            "generator": generator_loss.detach(),
        }

    def _judged(self, latents: Float[Tensor, "b c t y x"]) -> Float[Tensor, "n 3 j h w"]:
        """The last raw pictures of every latent frame but the first, each behind the one before."""
        pairs = torch.stack([latents[:, :, :-1], latents[:, :, 1:]])
        pairs = rearrange(pairs, "k b c t y x -> (b t) c k y x")
        return self.autoencoder[0].decode(pairs)[:, :, -NUM_JUDGED:].float()

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
                age=0,
            )

    def _draw(
        self, piece: Piece, eps: Tensor, share: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c t y x"]:
        """Go on with the rows' drives; returns the new latents.

        Gradients pass from frame to frame through the network's state, not through pictures.
        """
        network, autoencoder = self.weights.network, self.autoencoder[0]
        drives = [self._drives[lane] for lane in piece.lanes]
        text = self.weights.text(piece.captions)
        camera = piece.camera.to(self.device)
        state = SanaWMState.concat([drive.network for drive in drives])
        memory = [torch.cat(x) for x in zip(*(d.decoder for d in drives), strict=True)]
        picture = torch.cat([drive.picture for drive in drives])
        seen_from, frames = piece.last_pose, []
        for index in range(piece.latents.shape[2]):
            state = state.reanchor(piece.transport[:, index].to(self.device))
            now = camera.frames(index, index + 1)
            poses = piece.poses[:, index]
            if self.own.model.warp_condition:
                with torch.no_grad():
                    warped = warped_latent(
                        autoencoder,
                        picture,
                        seen_from,
                        poses,
                        piece.intrinsics,
                        self.own.model.warp_sharpening,
                    )
                if index == 0:
                    assert now.warped is not None
                    warped = torch.lerp(now.warped, warped, share.view(-1, 1, 1, 1, 1))
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
        kept = state.detach()
        for row, (lane, drive) in enumerate(zip(piece.lanes, drives, strict=True)):
            self._drives[lane] = OwnDrive(
                network=kept.select([row]),
                decoder=[x[row : row + 1].float() for x in memory],
                picture=picture[row : row + 1],
                age=drive.age + 1,
            )
        return drawn

    def progress(self) -> dict[str, Any]:
        """Teacher lanes, own lanes and their drives."""
        return {
            **super().progress(),
            "own_lanes": (
                self._own_resumed if self._own_lanes is None else self._own_lanes.progress()
            ),
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
