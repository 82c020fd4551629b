"""Every stage for a few steps, in as many processes as have been started.

`test_several_processes` calls it, and starts it with ``accelerate launch``.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState

from sanawm_gym.train_wm.autoencoder_stage import AutoencoderObjective, AutoencoderStageConfig
from sanawm_gym.train_wm.clip_stage import (
    BidirectionalStageConfig,
    ChunkCausalStageConfig,
    ClipObjective,
)
from sanawm_gym.train_wm.distill_stage import (
    DistillObjective,
    DistillStageConfig,
    DistillTrainerConfig,
)
from sanawm_gym.train_wm.drafts_stage import DraftsStageConfig, run_drafts_stage
from sanawm_gym.train_wm.heads_features import PassConfig
from sanawm_gym.train_wm.heads_stage import HeadsObjective, HeadsStageConfig, encode_clips
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.ode_stage import OdeObjective, OdeStageConfig, OdeTrainerConfig
from sanawm_gym.train_wm.refiner_stage import RefinerObjective, RefinerStageConfig
from sanawm_gym.train_wm.self_forcing_stage import SelfForcingObjective, SelfForcingStageConfig
from sanawm_gym.train_wm.sharding import Sharding
from sanawm_gym.train_wm.stream_stage import StreamObjective, StreamStageConfig
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.train_wm.trajectories_stage import (
    TrajectoriesStageConfig,
    run_trajectories_stage,
)
from sanawm_gym.worldmodel.folder import save_module
from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig
from sanawm_gym.worldmodel.refiner.lora import LoraConfig
from tests.train_wm.conftest import TINY_AUTOENCODER, TINY_NETWORK, rough_weights

STAGES = (
    *("vae", "bidirectional", "chunk-causal", "streaming", "self-forcing"),
    *("ode", "distill", "heads", "refiner", "adapters"),
)
"""`adapters` is the refiner's stage with low-rank adapters."""

SPLIT_IN_TIME = ("bidirectional", "chunk-causal")
"""Stages whose clips two processes can share."""

SHARDINGS: dict[Sharding, tuple[str, ...]] = {
    "none": STAGES,
    "fsdp2": tuple(stage for stage in STAGES if stage not in ("heads", "adapters")),
}
"""Stages to run, whole and shared out; heads and adapters are too small to be."""


NETWORK = replace(TINY_NETWORK, num_layers=2, softmax_every_n=2)
REFINER = RefinerConfig(
    in_channels=4,
    num_layers=1,
    num_attention_heads=2,
    head_dim=12,
    caption_channels=16,
    strides=(4, 8, 8),
    max_position=(2.0, 72.0, 128.0),
    rope_theta=100.0,
    positions="window",
    block_frames=1,
    window_frames=2,
)


def prepare(data: Path) -> None:
    """Make what the later stages read: rough weights, trajectories and drafts."""
    latents, autoencoder = data / "latents", data / "autoencoder"
    captions = [clip.caption for part in load_latent_clips(latents) for clip in part]
    rough_weights(NETWORK, captions).save(data / "network")
    save_module(data / "refiner", "refiner", Refiner(REFINER), REFINER)
    run_trajectories_stage(
        TrajectoriesStageConfig(
            latents=latents, teacher=data / "network", autoencoder=autoencoder,
            out=data / "trajectories", clip=4, num_clips=3, sigmas=(1.0, 0.6), steps=2,
            guidance=1.0,
        )
    )  # fmt: skip
    run_drafts_stage(
        DraftsStageConfig(latents=latents, autoencoder=autoencoder, out=data / "drafts")
    )


def trainer(stage: str, out: Path, **changes: Any) -> TrainerConfig:
    """A short run, whose gradient accumulates in one stage."""
    settings: dict[str, Any] = {
        "steps": 4,
        "stop_at": 3 if stage in ("streaming", "self-forcing") else 2,
        "warmup": 2,
        "seed": 1,
        "sample_every": 0,
        "accumulation": 2 if stage == "chunk-causal" else 1,
        **changes,
    }
    if stage == "ode":
        return OdeTrainerConfig(out=out, **settings)
    if stage == "distill":
        return DistillTrainerConfig(out=out, learning_rate=1e-3, **settings)
    return TrainerConfig(out=out, **settings)


def objective_of(stage: str, data: Path, run: TrainerConfig) -> tuple[type[Objective], Any]:
    """Class and configuration of a tiny stage."""
    if stage == "vae":
        return AutoencoderObjective, AutoencoderStageConfig(
            data=data / "recording",
            trainer=run,
            model=TINY_AUTOENCODER,
            clip_frames=5,
            batch_size=2,
        )
    if stage in ("heads", "refiner", "adapters"):
        return small_objective_of(stage, data, run)
    shared: dict[str, Any] = {
        "latents": data / "latents",
        "autoencoder": data / "autoencoder",
        "trainer": run,
        "model": NETWORK,
        "init": data / "network",
    }
    if stage == "bidirectional":
        return ClipObjective, BidirectionalStageConfig(**shared, clip=3, batch_size=2)
    if stage == "chunk-causal":
        return ClipObjective, ChunkCausalStageConfig(**shared, clip=4, batch_size=4)
    if stage == "ode":
        return OdeObjective, OdeStageConfig(
            **shared, trajectories=data / "trajectories", batch_size=2
        )
    if stage == "distill":
        # Student and critic learn in the first step, the critic alone in the second.
        return DistillObjective, DistillStageConfig(
            **shared,
            teacher=data / "network",
            clip=3,
            sigmas=(1.0, 0.6),
            generator_every=2,
        )
    lanes: dict[str, Any] = {**shared, "piece": 2, "lanes_per_step": 2, "lanes": 4}
    if stage == "streaming":
        return StreamObjective, StreamStageConfig(**lanes)
    return SelfForcingObjective, SelfForcingStageConfig(
        **lanes, own_lanes_per_step=2, own_lanes=2, own_laps=1, own_piece=4
    )


def small_objective_of(stage: str, data: Path, run: TrainerConfig) -> tuple[type[Objective], Any]:
    """The same of the stages that train something else than the network."""
    if stage == "heads":
        return HeadsObjective, HeadsStageConfig(
            latents=data / "latents",
            data=(data / "recording",),
            network=data / "network",
            trainer=run,
            clean_pass=PassConfig(longest=3),
            batch_size=8,
            width=4,
            hidden=8,
        )
    is_whole = stage == "refiner"
    return RefinerObjective, RefinerStageConfig(
        latents=data / "latents",
        drafts=(data / "drafts",),
        autoencoder=data / "autoencoder",
        text=data / "network",
        trainer=run,
        model=REFINER,
        init=data / "refiner",
        lora=None if is_whole else LoraConfig(rank=2, alpha=2.0),
        pieces_per_step=4,
        blocks=2,
        lead=1,
        history_mix=0.5,
    )


def run(
    stage: str,
    data: Path,
    config: TrainerConfig,
    last_before_signal: int | None = None,
    losses: list[float] | None = None,
) -> list[float]:
    """Train a stage; returns this process's loss of every forward pass.

    Args:
        stage: Its name.
        data: Folder of what the stages read.
        config: Length and folder of the run.
        last_before_signal: Forward passes after which this process is told to stop.
        losses: Where to note them; what is returned.
    """
    kind, stage_config = objective_of(stage, data, config)
    told = [] if losses is None else losses
    if isinstance(stage_config, HeadsStageConfig):
        with PartialState(cpu=True).main_process_first():
            encode_clips(stage_config, torch.device("cpu"))

    class Telling(kind):  # type: ignore[misc, valid-type]
        def forward(self, batch: Any) -> Any:
            loss, metrics = super().forward(batch)
            told.append(float(loss.detach()))
            if len(told) == last_before_signal:
                signal.raise_signal(signal.SIGTERM)
            return loss, metrics

    def make(device: torch.device) -> Objective:
        objective: Objective = Telling(stage_config, device)
        return objective

    train(make, config)
    return told


def main(data: Path, out: Path) -> None:
    """Run all stages, the weights whole and shared out, and write each process's losses.

    A folder that already holds a run's checkpoint is gone on with; streaming is also interrupted.
    """
    for sharding, stages in SHARDINGS.items():
        for stage in stages:
            folder = out / sharding / stage
            losses = run(stage, data, trainer(stage, folder, sharding=sharding))
            (folder / f"losses-{dist.get_rank()}.json").write_text(json.dumps(losses))
        for stage in SPLIT_IN_TIME:
            folder = out / f"{sharding}-in-time" / stage
            config = trainer(stage, folder, sharding=sharding, context_parallel=2)
            losses = run(stage, data, config)
            (folder / f"losses-{dist.get_rank()}.json").write_text(json.dumps(losses))
        if sharding == "none":
            # Only one process hears the signal, and both have to stop.
            parts = trainer("streaming", out / "parts")
            try:
                run("streaming", data, parts, last_before_signal=2 if dist.get_rank() else None)
            except SystemExit as stop:
                (out / f"stopped-{dist.get_rank()}").write_text(str(stop.code))
            run("streaming", data, parts)
        AcceleratorState._reset_state(reset_partial_state=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
