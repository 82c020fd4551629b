"""Stage ``heads``: teach small heads to read the state of the road off a frozen network.

They learn on the clean pass of the recording's true latents, from the truth that the recording
knows: by Gaussian likelihood where they read a number, so that they learn its deviation with it,
and by cross entropy where they read a chance. Held-out drives then calibrate them and say what the
readings are worth, one half of the drives by the calibration of the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.train_wm.heads_features import (
    INDEX,
    CleanPass,
    FeatureClip,
    PassConfig,
    encode_features,
    load_features,
)
from sanawm_gym.train_wm.heads_scores import calibrate_and_judge, draw_readings, table
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.train_wm.weights import load_world_weights
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.heads import (
    NUM_NUMBERS,
    QUANTITIES,
    Heads,
    HeadsConfig,
    HeadsOutput,
    save_heads,
)
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.source import choose_dtype


@dataclass(frozen=True, kw_only=True)
class HeadsStageConfig:
    """Train heads that read the state of the road off the network's clean pass."""

    latents: Path
    """Folder written by the ``latents`` stage."""
    data: tuple[Path, ...]
    """Recordings from which those were encoded, in that order; they know the truth."""
    rollouts: tuple[Path, ...] = ()
    """Folders of the ``rollouts`` stage: what the network itself draws along the cameras of those
    clips. Heads that have seen some know how little a picture says that was drawn a while ago."""
    network: Path
    """World folder, or output folder of a stage that trains the network, which stays as it is."""
    trainer: TrainerConfig
    """Length, speed and output folder. The folder also gets ``features``, about 46 kB a latent
    frame of the bundled world, which are made once and may be deleted afterwards."""
    clean_pass: PassConfig = field(default_factory=PassConfig)
    """How the clips are shown to the network."""
    batch_size: int = 256
    """Frames a step, of all processes together, >= 1."""
    width: int = 32
    """Channels of the heads' first layer, >= 1."""
    hidden: int = 96
    """Width of the heads' last hidden layer, >= 1."""
    frankness: float = 0.5
    """Power of a number's variance with which its likelihood is weighed, 0 to 1. At 0 it is the
    plain likelihood, under which heads excuse what is hard by large deviations and never learn it;
    at 1 means are learnt as by squared errors."""
    farthest: float = 4.0
    """Way beyond the edge of the road up to which numbers of the road are learnt and judged [m],
    >= 0; farther off there is nothing to see them by. Chances are learnt everywhere."""
    picture: tuple[int, int] = (72, 128)
    """Height and width of the pictures [px]."""
    dtype: str = "auto"
    """Precision of the network: ``float32``, ``bfloat16``, or ``auto`` as the world will run."""

    def __post_init__(self) -> None:
        """Refuse an empty batch and a power that is none."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.frankness <= 1:
            raise ValueError(f"frankness must lie in 0 ... 1, got {self.frankness}")
        if not self.farthest >= 0:
            raise ValueError(f"farthest must be at least 0 m, got {self.farthest}")


@dataclass(frozen=True)
class HeadsBatch:
    """Frames of any clips."""

    features: Float[Tensor, "b s e"]
    ground: Float[Tensor, "b s 3"]
    truth: Float[Tensor, "b q"]


class HeadsObjective(Objective):
    """Likelihood of the truth under what the heads read."""

    def __init__(self, config: HeadsStageConfig, device: torch.device) -> None:
        super().__init__()
        self.config = config
        clips = load_features(config.trainer.out / "features")
        self.train_clips, self.held_out_clips = (
            [near_road(clip, config.farthest) for clip in part] for part in clips
        )
        if not self.train_clips or len(self.held_out_clips) < 2:
            raise ValueError(
                f"{config.latents} has {len(self.train_clips)} training and "
                f"{len(self.held_out_clips)} held-out clips, expected at least one and two: one "
                "half of these calibrates, the other judges"
            )
        self.places = torch.cat(
            [
                torch.stack([torch.full((len(clip.truth),), number), torch.arange(len(clip.truth))])
                for number, clip in enumerate(self.train_clips)
            ],
            dim=1,
        )
        truth = torch.cat([clip.truth for clip in self.train_clips])
        self.usual = truth.nanmean(dim=0)
        spread = (truth - self.usual).square().nanmean(dim=0).sqrt()
        heads = Heads(self._heads_config())
        heads.offset.copy_(self.usual[:NUM_NUMBERS].nan_to_num(0.0))
        heads.scale.copy_(spread[:NUM_NUMBERS].nan_to_num(1.0).clamp(min=1e-6))
        self.heads = heads.to(device)

    def _heads_config(self) -> HeadsConfig:
        config = self.config
        index = read_json(config.trainer.out / "features" / INDEX)
        rows, columns = index["grid"]
        return HeadsConfig(
            channels=self.train_clips[0].features.shape[-1],
            grid=(rows, columns),
            width=config.width,
            hidden=config.hidden,
            lead_range=config.clean_pass.lead_range,
            network=index["made_from"]["network"],
        )

    def trained(self) -> nn.Module:
        """The heads."""
        return self.heads

    def batch(self, step: int, rank: int, num_ranks: int) -> HeadsBatch:
        """Frames drawn evenly from all training clips."""
        numbers = rows_of_rank("batch_size", self.config.batch_size, rank, num_ranks)
        rows = Rows(numbers, mix_seed(self.config.trainer.seed, step))
        places = (rows.rand() * self.places.shape[1]).long()
        chosen = [
            (self.train_clips[clip], frame) for clip, frame in self.places[:, places].T.tolist()
        ]
        return HeadsBatch(
            features=torch.stack([clip.features[frame] for clip, frame in chosen]).float(),
            ground=torch.stack([clip.ground[frame] for clip, frame in chosen]),
            truth=torch.stack([clip.truth[frame] for clip, frame in chosen]),
        )

    def forward(self, batch: HeadsBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean negative log-likelihood of the truths there are; rows count alike."""
        device = self.heads.offset.device
        out: HeadsOutput = self.heads(batch.features.to(device), batch.ground.to(device))
        losses = negative_log_likelihood(
            out, batch.truth.to(device), self.heads.offset, self.heads.scale
        )
        numbers, chances = losses[:, :NUM_NUMBERS], losses[:, NUM_NUMBERS:]
        # beta-NLL [Seitzer et al. 2022, arXiv 2203.09168]: the weight itself is not learnt.
        weight = (2 * self.config.frankness * out.log_deviation.detach()).exp()
        loss = ((weight * numbers).sum(dim=1) + chances.sum(dim=1)).mean()
        return loss, {
            "loss": loss.detach(),
            "numbers": numbers.sum(dim=1).mean().detach(),
            "chances": chances.sum(dim=1).mean().detach(),
        }

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Readings of held-out drives against the truth, and their loss."""
        assert isinstance(weights, Heads)
        draw_readings(weights, self.held_out_clips, path)
        device = weights.offset.device
        losses = [
            negative_log_likelihood(
                weights(clip.features.to(device), clip.ground.to(device)),
                clip.truth.to(device),
                weights.offset,
                weights.scale,
            ).sum(dim=1)
            for clip in self.held_out_clips
        ]
        return {"held_out_loss": float(torch.cat(losses).mean())}

    def export(self, weights: nn.Module, out: Path) -> None:
        """Calibrate, judge and write the heads, with the figures in ``scores.json``."""
        assert isinstance(weights, Heads)
        scores = calibrate_and_judge(weights, self.held_out_clips, self.usual)
        save_heads(out, weights)
        write_json(out / "scores.json", scores)
        print(table(scores))


def near_road(clip: FeatureClip, farthest: float) -> FeatureClip:
    """A clip without the numbers of the road where the car is far beyond its edge.

    Args:
        clip: One clip.
        farthest: Way beyond the edge up to which they are kept [m].
    """
    names = list(QUANTITIES)
    edges = clip.truth[:, [names.index("left_edge"), names.index("right_edge")]]
    is_far = edges.amin(dim=1) < -farthest
    truth = clip.truth.clone()
    truth[is_far, : names.index("lead_distance")] = torch.nan
    return replace(clip, truth=truth)


def negative_log_likelihood(
    out: HeadsOutput,
    truth: Float[Tensor, "b q"],
    offset: Float[Tensor, " n"],
    scale: Float[Tensor, " n"],
) -> Float[Tensor, "b q"]:
    """Loss of every reading, 0 where there is no truth.

    Of a number ((y - m) / s)^2 / 2 + log s with y over its spread; of a chance the cross entropy.

    Args:
        out: Raw outputs of the heads.
        truth: `QUANTITIES`; NaN where unknown.
        offset: Mean of every number in training.
        scale: Its spread.
    """
    known = ~truth.isnan()
    filled = torch.where(known, truth, 0.0)
    wanted = (filled[:, :NUM_NUMBERS] - offset) / scale
    off = (wanted - out.mean) / out.log_deviation.exp()
    numbers = 0.5 * off.square() + out.log_deviation
    chances = F.binary_cross_entropy_with_logits(
        out.logit, filled[:, NUM_NUMBERS:], reduction="none"
    )
    return torch.where(known, torch.cat([numbers, chances], dim=1), 0.0)


def encode_clips(config: HeadsStageConfig, device: torch.device) -> None:
    """Show to the network the clips that it has not been shown yet, and keep what it made of them.

    Args:
        config: The clips, and the network.
        device: Where the network is to run.
    """
    weights = load_world_weights(config.network)
    weights.network.to(choose_dtype(config.dtype, str(device)))
    datasets = [EpisodeDataset(path) for path in config.data]
    for dataset in datasets:
        dataset.require("lane_offset", "left_edge", "right_edge")
    encode_features(
        config.trainer.out / "features",
        CleanPass(weights, config.picture, device),
        latents=config.latents,
        rollouts=config.rollouts,
        datasets=datasets,
        config=config.clean_pass,
    )


def run_heads_stage(config: HeadsStageConfig) -> None:
    """Show all clips to the network once, then train, or go on training, the heads."""
    from accelerate import PartialState

    torch.set_num_threads(config.trainer.threads)
    state = PartialState()
    # The others wait, and then find nothing missing.
    with state.main_process_first():
        encode_clips(config, state.device)

    def make(device: torch.device) -> Any:
        return HeadsObjective(config, device)

    train(make, config.trainer)
