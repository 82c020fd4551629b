"""The stages of the recipe by name: configuration class and function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sanawm_gym.train_wm.autoencoder_stage import AutoencoderStageConfig, run_autoencoder_stage
from sanawm_gym.train_wm.average_stage import AverageStageConfig, run_average_stage
from sanawm_gym.train_wm.bundle_stage import BundleStageConfig, run_bundle_stage
from sanawm_gym.train_wm.clip_stage import (
    BidirectionalStageConfig,
    ChunkCausalStageConfig,
    run_clip_stage,
)
from sanawm_gym.train_wm.distill_stage import DistillStageConfig, run_distill_stage
from sanawm_gym.train_wm.drafts_stage import DraftsStageConfig, run_drafts_stage
from sanawm_gym.train_wm.fine_tune_stage import FineTuneStageConfig, run_fine_tune_stage
from sanawm_gym.train_wm.heads_stage import HeadsStageConfig, run_heads_stage
from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
from sanawm_gym.train_wm.ode_stage import OdeStageConfig, run_ode_stage
from sanawm_gym.train_wm.refiner_stage import RefinerStageConfig, run_refiner_stage
from sanawm_gym.train_wm.released_latents_stage import (
    ReleasedLatentsStageConfig,
    run_released_latents_stage,
)
from sanawm_gym.train_wm.rollouts_stage import RolloutsStageConfig, run_rollouts_stage
from sanawm_gym.train_wm.self_forcing_stage import SelfForcingStageConfig, run_self_forcing_stage
from sanawm_gym.train_wm.stream_stage import StreamStageConfig, run_stream_stage
from sanawm_gym.train_wm.trajectories_stage import (
    TrajectoriesStageConfig,
    run_trajectories_stage,
)

STAGES: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "vae": (AutoencoderStageConfig, run_autoencoder_stage),
    "latents": (LatentsStageConfig, run_latents_stage),
    "bidirectional": (BidirectionalStageConfig, run_clip_stage),
    "chunk-causal": (ChunkCausalStageConfig, run_clip_stage),
    "streaming": (StreamStageConfig, run_stream_stage),
    "rollouts": (RolloutsStageConfig, run_rollouts_stage),
    "self-forcing": (SelfForcingStageConfig, run_self_forcing_stage),
    "average": (AverageStageConfig, run_average_stage),
    "trajectories": (TrajectoriesStageConfig, run_trajectories_stage),
    "ode": (OdeStageConfig, run_ode_stage),
    "distill": (DistillStageConfig, run_distill_stage),
    "drafts": (DraftsStageConfig, run_drafts_stage),
    "refiner": (RefinerStageConfig, run_refiner_stage),
    "heads": (HeadsStageConfig, run_heads_stage),
    "bundle": (BundleStageConfig, run_bundle_stage),
    "released-latents": (ReleasedLatentsStageConfig, run_released_latents_stage),
    "fine-tune": (FineTuneStageConfig, run_fine_tune_stage),
}
"""In the order of the recipe; the last two fine-tune released weights. A small world may go from
``latents`` to ``streaming`` directly."""
