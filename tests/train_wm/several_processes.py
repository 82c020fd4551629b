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
from accelerate.state import AcceleratorState

from sanawm_gym.train_wm.autoencoder_stage import AutoencoderObjective, AutoencoderStageConfig
from sanawm_gym.train_wm.clip_stage import (
    BidirectionalStageConfig,
    ChunkCausalStageConfig,
    ClipObjective,
)
from sanawm_gym.train_wm.self_forcing_stage import SelfForcingObjective, SelfForcingStageConfig
from sanawm_gym.train_wm.stream_stage import StreamObjective, StreamStageConfig
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from tests.train_wm.conftest import TINY_AUTOENCODER, TINY_NETWORK

STAGES = ("vae", "bidirectional", "chunk-causal", "streaming", "self-forcing")

SHARDINGS = ("none", "fsdp2")


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
    shared: dict[str, Any] = {
        "latents": data / "latents",
        "autoencoder": data / "autoencoder",
        "trainer": run,
        "model": replace(TINY_NETWORK, num_layers=2, softmax_every_n=2),
    }
    if stage == "bidirectional":
        return ClipObjective, BidirectionalStageConfig(**shared, clip=3, batch_size=2)
    if stage == "chunk-causal":
        return ClipObjective, ChunkCausalStageConfig(**shared, clip=4, batch_size=4)
    lanes: dict[str, Any] = {**shared, "piece": 2, "lanes_per_step": 2, "lanes": 4}
    if stage == "streaming":
        return StreamObjective, StreamStageConfig(**lanes)
    return SelfForcingObjective, SelfForcingStageConfig(
        **lanes, own_lanes_per_step=2, own_lanes=2, own_laps=1, own_piece=4
    )


def run(
    stage: str, data: Path, config: TrainerConfig, last_before_signal: int | None = None
) -> list[float]:
    """Train a stage; returns this process's loss of every forward pass.

    Args:
        stage: Its name.
        data: Folder of what the stages read.
        config: Length and folder of the run.
        last_before_signal: Forward passes after which this process is told to stop.
    """
    kind, stage_config = objective_of(stage, data, config)
    losses: list[float] = []

    class Telling(kind):  # type: ignore[misc, valid-type]
        def forward(self, batch: Any) -> Any:
            loss, metrics = super().forward(batch)
            losses.append(float(loss.detach()))
            if len(losses) == last_before_signal:
                signal.raise_signal(signal.SIGTERM)
            return loss, metrics

    def make(device: torch.device) -> Objective:
        objective: Objective = Telling(stage_config, device)
        return objective

    train(make, config)
    return losses


def main(data: Path, out: Path) -> None:
    """Run all stages, the weights whole and shared out, and write each process's losses.

    A folder that already holds a run's checkpoint is gone on with; streaming is also interrupted.
    """
    for sharding in SHARDINGS:
        for stage in STAGES:
            folder = out / sharding / stage
            losses = run(stage, data, trainer(stage, folder, sharding=sharding))
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
