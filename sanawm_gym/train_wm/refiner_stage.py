"""Stage ``refiner``: from drafts back to the truth.

The noised draft x_1 = (1 - sigma_s) x_l + sigma_s eps and the true latent x_h are joined by the
path x_t = (1 - alpha) x_h + alpha x_1, alpha = sigma / sigma_s; the refiner learns its velocity
(x_1 - x_h) / sigma_s at noise levels up to sigma_s (`refiner_levels`). A piece of a drive is
refined block after block exactly as in a stream: the sink, the clip's true first frames, and the
history, true blocks that went through the network at sigma = 0, are shown and not part of the loss.

Large refiners are trained through low-rank adapters (``lora``). Source: the SANA-WM report,
appendix A, and its published loss; what the history may be soiled with is ours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.refiner_levels import refiner_shift, sample_levels
from sanawm_gym.train_wm.refiner_pairs import PairPiece, PairPieces, load_pairs
from sanawm_gym.train_wm.refiner_sample import sample_refiner
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.worldmodel.folder import load_weights, read_config, save_module
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.refiner import DRIVE_REFINER, Refiner, RefinerConfig
from sanawm_gym.worldmodel.refiner.lora import LoraAdapter, LoraConfig
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig

_PIECES = 11
"""Tells these draws from others of the seed."""


@dataclass(frozen=True, kw_only=True)
class RefinerStageConfig:
    """Train a refiner on drafts and what they should have been."""

    latents: Path
    """Folder written by the ``latents`` stage."""
    drafts: tuple[Path, ...]
    """Folders written by the ``drafts`` stage."""
    autoencoder: Path
    """Folder written by the ``vae`` stage, for samples and the weight of each latent channel."""
    text: Path
    """Folder with the text encoder that the world's network was trained with; it stays as it is."""
    trainer: TrainerConfig
    """Length, speed and output folder."""
    model: RefinerConfig = field(default_factory=lambda: DRIVE_REFINER)
    """Size, window and noise levels of the refiner."""
    init: Path | None = None
    """Folder with refiner weights to start from; needed with ``lora``."""
    lora: LoraConfig | None = None
    """Train adapters and leave the given weights as they are; None trains all weights."""
    pieces_per_step: int = 8
    """Pieces a forward pass, each of a random clip, of all processes together, >= 1."""
    blocks: int = 4
    """Blocks of a piece that count, >= 1."""
    lead: int = 4
    """True blocks before them that only make history, >= 0; best as many as the window holds."""
    young_share: float = 0.15
    """Share of the steps, 0 to 1, whose pieces begin with their clips: no lead and no history yet,
    as in a drive that begins from a single picture."""
    uniform_share: float = 0.1
    """Share of noise levels drawn uniformly instead of from the shifted logit-normal, 0 to 1."""
    own_levels: float = 0.0
    """Share of noise levels that are those of the sampler, drawn evenly, 0 to 1. Ours, for small
    refiners that need not know any other."""
    history_mix: float = 0.0
    """Largest weight of the draft in the history that is shown, drawn a row, 0 to 1: a refined past
    is not quite the truth."""
    history_noise: float = 0.05
    """Largest deviation of Gaussian noise on the history, drawn a row, >= 0."""
    caption_dropout: float = 0.1
    """Share of pieces trained with an empty caption, 0 to 1."""
    weigh_channels: bool = True
    """Measure errors in latents before normalisation, as the decoder hears them."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass instead of keeping what they made."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        for name, least in (("pieces_per_step", 1), ("blocks", 1), ("lead", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in (
            "uniform_share",
            "own_levels",
            "history_mix",
            "caption_dropout",
            "young_share",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 ... 1, got {getattr(self, name)}")
        if not self.history_noise >= 0:
            raise ValueError(f"history_noise must be at least 0, got {self.history_noise}")
        if not self.drafts:
            raise ValueError("got no drafts: name at least one folder of the drafts stage")
        if self.lora is not None and self.init is None:
            raise ValueError("lora adapts given weights: name their folder with init")


@dataclass(frozen=True)
class RefinerBatch:
    """One training step's pairs and noise; t frames = those that lead, then those that count."""

    piece: PairPiece
    sigma: Float[Tensor, "b n"]
    """Noise level of every block that counts."""
    eps: Float[Tensor, "b c t y x"]
    history: Float[Tensor, "b c t y x"]
    """What is shown of the truth as past."""
    captions: list[str]


class RefinerObjective(Objective):
    """Velocity error of every block against its own window of the past."""

    def __init__(self, config: RefinerStageConfig, device: torch.device) -> None:
        super().__init__()
        self.config, self.device = config, device
        train_pairs, self.held_out = load_pairs(config.latents, config.drafts)
        frames = config.model.block_frames
        self.pieces = PairPieces(
            train_pairs,
            sink=config.model.sink_frames,
            lead=config.lead * frames,
            length=config.blocks * frames,
        )
        refiner = load_refiner(config).to(device)
        refiner.gradient_checkpointing = config.gradient_checkpointing
        self.adapter: LoraAdapter | None = None
        self.refiner: Refiner | None = None
        # Lists hide from the optimiser what is not trained.
        self._base = [refiner]
        if config.lora is None:
            self.refiner = refiner
        else:
            refiner.requires_grad_(False)
            self.adapter = LoraAdapter(refiner, config.lora).to(device)
            self.adapter.attach(refiner)
        self._text = [load_text_encoder(config.text).to(device)]
        self.autoencoder = [load_autoencoder(config.autoencoder)]
        variance = self.autoencoder[0].latents_std.square()
        weights = variance / variance.mean() if config.weigh_channels else torch.ones_like(variance)
        self.channel_weights = weights.view(1, -1, 1, 1, 1).to(device)

    def trained(self) -> nn.Module:
        """The refiner, or its adapter alone."""
        chosen = self.refiner if self.adapter is None else self.adapter
        assert chosen is not None
        return chosen

    def batch(self, step: int, rank: int, num_ranks: int) -> RefinerBatch:
        """Pieces and all the noise of the step; all processes draw young ones, or none does."""
        config = self.config
        numbers = rows_of_rank("pieces_per_step", config.pieces_per_step, rank, num_ranks)
        seed = mix_seed(config.trainer.seed, step, _PIECES)
        step_generator = torch.Generator().manual_seed(seed)
        young = float(torch.rand((), generator=step_generator)) < config.young_share
        rows = Rows(numbers, seed)
        piece = self.pieces.draw(rows.generators, young=young)
        grid = (piece.truth.shape[-2], piece.truth.shape[-1])
        mix = config.history_mix * rows.rand(1, 1, 1, 1)
        grain = config.history_noise * rows.rand(1, 1, 1, 1)
        dropped = (rows.rand() < config.caption_dropout).tolist()
        shown = torch.lerp(piece.truth, piece.draft, mix)
        return RefinerBatch(
            piece=piece,
            sigma=self._levels(rows, grid),
            eps=rows.randn(*piece.truth.shape[1:]),
            history=shown + grain * rows.randn(*shown.shape[1:]),
            captions=[
                "" if drop else text for drop, text in zip(dropped, piece.captions, strict=True)
            ],
        )

    def _levels(self, rows: Rows, grid: tuple[int, int]) -> Float[Tensor, "b n"]:
        """Noise levels of the blocks that count."""
        config, model = self.config, self.config.model
        shift = refiner_shift(config.blocks * model.block_frames * grid[0] * grid[1])
        sigma = torch.stack(
            [
                sample_levels(
                    (config.blocks,), top=model.sigmas[0], shift=shift,
                    uniform_share=config.uniform_share, generator=generator,
                )
                for generator in rows.generators
            ]
        )  # fmt: skip
        own = rows.rand(config.blocks) < config.own_levels
        choice = (rows.rand(config.blocks) * len(model.sigmas)).long()
        return torch.where(own, torch.tensor(model.sigmas)[choice], sigma)

    def forward(self, batch: RefinerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared velocity error over the blocks that count."""
        refiner, config = self._base[0], self.config
        frames, top = config.model.block_frames, config.model.sigmas[0]
        piece = batch.piece.to(self.device)
        grid = (piece.truth.shape[-2], piece.truth.shape[-1])
        history, eps = batch.history.to(self.device), batch.eps.to(self.device)
        with torch.no_grad():
            features, mask = self._text[0](batch.captions)
        state = refiner.start(piece.sink, features, mask)
        state.next_frame.copy_(piece.first)
        lead = piece.truth.shape[2] - config.blocks * frames
        errors, kept = [], []
        for begin in range(0, piece.truth.shape[2], frames):
            span, number = slice(begin, begin + frames), (begin - lead) // frames
            window = refiner.window(state, grid, frames)
            if begin >= lead:
                sigma = batch.sigma[:, number, None].to(self.device).expand(-1, frames)
                x_h, x_l = piece.truth[:, :, span], piece.draft[:, :, span]
                x_1 = (1 - top) * x_l + top * eps[:, :, span]
                level = sigma[:, None, :, None, None]
                x_t = torch.lerp(x_h, x_1, level / top)
                v = refiner(x_t, sigma, window).float()
                error = (v - (x_1 - x_h) / top).square() * self.channel_weights
                errors.append(error.mean(dim=(1, 2, 3, 4)))
                clean = (x_t - level * v.detach() - x_h).square() * self.channel_weights
                kept.append(clean.mean())
            if begin + frames < piece.truth.shape[2]:
                with torch.set_grad_enabled(torch.is_grad_enabled() and begin >= lead):
                    state = refiner.remember(history[:, :, span], window)
        loss = torch.stack(errors).mean()
        draft = (piece.draft - piece.truth)[:, :, lead:].square() * self.channel_weights
        return loss, {
            "loss": loss.detach(),
            "refined_mse": torch.stack(kept).mean(),
            "draft_mse": draft.mean(),
        }

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out drafts refined block by block, beside draft and truth."""
        return sample_refiner(
            self._finished(weights), self._text[0], self.autoencoder[0], self.held_out, path=path
        )

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write the refiner, with an adapter merged into it, and the adapter itself."""
        if isinstance(weights, LoraAdapter):
            weights.save(out)
        refiner = self._finished(weights)
        save_module(out, "refiner", refiner, refiner.config)

    def _finished(self, weights: nn.Module) -> Refiner:
        """A refiner of the averaged weights alone."""
        if isinstance(weights, Refiner):
            return weights
        assert isinstance(weights, LoraAdapter)
        merged = Refiner(self.config.model).to(self.device)
        merged.load_state_dict(self._base[0].state_dict())
        copy.deepcopy(weights).merge(merged)
        return merged.eval()


def load_refiner(config: RefinerStageConfig) -> Refiner:
    """Fresh weights, with a silent last layer, or those of `init`."""
    refiner = Refiner(config.model)
    if config.init is None:
        nn.init.zeros_(refiner.proj_out.weight)
        nn.init.zeros_(refiner.proj_out.bias)
    else:
        load_weights(config.init, "refiner", refiner)
    return refiner


def load_text_encoder(folder: Path) -> CaptionEncoder:
    """Frozen text encoder of a world or of a stage's output."""
    encoder = CaptionEncoder(read_config(folder / "text_encoder.json", CaptionEncoderConfig))
    load_weights(folder, "text_encoder", encoder)
    return encoder.eval().requires_grad_(False)


def run_refiner_stage(config: RefinerStageConfig) -> None:
    """Train, or go on training, the refiner."""

    def make(device: torch.device) -> Objective:
        return RefinerObjective(config, device)

    train(make, config.trainer)
