"""Stage ``fine-tune``: a released SANA-WM learns from driving video.

Flow matching on clips in the released latents, in the way in which the network is sampled: whole
clips with one noise level (bidirectional), with a level a chunk (chunk-causal), and for the
streaming student at the timesteps that it was distilled to, earlier chunks clean. The origin of
the cameras is the clip's first picture, as in the release. The folder that comes out has the
released layout and is opened like a release.

A student that learns on data alone slowly forgets what its distillation taught it about few steps;
adapters (``lora``) and short runs keep most of it. Distilling a fine-tuned teacher anew is the way
of the paper, and is not built for released weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.clip_stage import ClipObjective, ClipStageConfig
from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.train_wm.network_stage import NetworkStageConfig
from sanawm_gym.train_wm.official_clips import is_official
from sanawm_gym.train_wm.released_weights import Release, ReleasedWeights
from sanawm_gym.train_wm.trainer import Objective, train
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import DRIVE
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.refiner.lora import LoraAdapter, LoraConfig

CAMERA_AND_ATTENTION = (
    "qkv", "proj", "q_proj_cam", "k_proj_cam", "v_proj_cam", "out_proj_cam", "q_linear",
    "kv_linear", "plucker_proj",
)  # fmt: skip
"""Linear layers through which camera, past and prompt reach a token."""


@dataclass(frozen=True, kw_only=True)
class FineTuneStageConfig(ClipStageConfig):
    """Fine-tune released weights; the size of the network is that of ``init``."""

    text: str | None = None
    """Folder or hub id of Gemma-2; else looked for in ``init`` and on the hub."""
    camera_unit_m: float | None = None
    """Metres that count as one for the network; None as in ``init``, 1 in the release. The release
    knows walking pace: with 16, 13 m/s look like 0.8 m/s. The folder that comes out remembers."""
    lora: LoraConfig | None = None
    """Train adapters and merge them at the end; None trains all weights. ``targets`` are ends of
    names of linear layers, by default of refiners: `fine_tune_stage.CAMERA_AND_ATTENTION`."""
    levels: Literal["auto", "schedule", "timesteps"] = "auto"
    """Noise levels: ``schedule``, of the sampler of whole clips; ``timesteps``, those that the
    release streams with, chunks before a random one clean; ``auto`` takes these for a streaming
    network."""
    picture: tuple[int, int] = (704, 1280)
    """Height and width of the pictures [px]."""
    shift: float = 9.95
    """Shift of the noise levels; the release was trained with 9.95."""
    beginnings: float = 1.0
    """Share of the training clips that begin where an encoded clip does; all of the release's."""
    weigh_channels: bool = False
    """Measure errors in latents before normalisation, which the release does not."""

    def __post_init__(self) -> None:
        """Refuse what does not go with released weights."""
        super().__post_init__()
        if self.init is None:
            raise ValueError("fine-tune: got no init, expected the folder of a release")


class FineTuneObjective(ClipObjective):
    """Velocity error of a released network over all frames that are not given.

    Args:
        config: Settings, with the network of the release.
        release: Where the weights come from.
        device: Where the weights and the passes are.
    """

    def __init__(self, config: FineTuneStageConfig, release: Release, device: torch.device) -> None:
        self._release = release
        super().__init__(config, device)
        self.config: FineTuneStageConfig = config
        self._adapter: LoraAdapter | None = None
        # Lists hide from the optimiser what is not trained.
        self._base = [self.weights]
        if config.lora is not None:
            network = self.weights.network.requires_grad_(False)
            lora = config.lora
            if lora.targets == LoraConfig().targets:
                lora = replace(lora, targets=CAMERA_AND_ATTENTION)
            self._adapter = LoraAdapter(network, lora).to(device)
            self._adapter.attach(network)

    def trained(self) -> nn.Module:
        """The network, or its adapter alone."""
        return self.weights if self._adapter is None else self._adapter

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out clips generated from their first latent frame, below the truth."""
        return super().sample(self._finished(weights), path)

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write the network as a release, an adapter merged into it and beside it."""
        if isinstance(weights, LoraAdapter):
            weights.save(out / "adapter")
        self._finished(weights).save(out)

    def _finished(self, weights: nn.Module) -> ReleasedWeights:
        """A released network of the averaged weights alone."""
        if isinstance(weights, ReleasedWeights):
            return weights
        assert isinstance(weights, LoraAdapter)
        base = self._base[0]
        assert isinstance(base, ReleasedWeights)
        network = type(base.network)(base.network.config).to(self.device)
        network.load_state_dict(base.network.state_dict())
        copy.deepcopy(weights).merge(network)
        return ReleasedWeights(base.release, network.eval(), base.words)

    def _open_weights(self, config: NetworkStageConfig, captions: list[str]) -> WorldWeights:
        assert isinstance(config, FineTuneStageConfig)
        words = self._release.words(captions, config.text, self.device)
        return ReleasedWeights(self._release, self._release.network(), words)

    def _open_autoencoder(self, config: NetworkStageConfig) -> Any:
        return Ltx2Autoencoder.from_folder(config.autoencoder)

    def _camera(self, clip: LatentClip, span: slice, origin: int) -> CameraCondition:
        return super()._camera(clip, span, 0)

    def _sigma(self, length: int, generator: torch.Generator) -> Float[Tensor, " t"]:
        sampling = self._release.settings.sampling
        levels = self.config.levels
        if levels == "schedule" or (levels == "auto" and sampling.mode != "streaming"):
            return super()._sigma(length, generator)
        chunks = chunk_sizes(length, self.config.model, "chunk_causal")
        first = sum(chunks[: int(torch.randint(len(chunks), (), generator=generator))])
        level = int(torch.randint(len(sampling.timesteps), (), generator=generator))
        sigma = torch.full((length,), sampling.timesteps[level] / NUM_TIMESTEPS)
        sigma[: max(first, 1)] = 0.0
        return sigma


def run_fine_tune_stage(config: FineTuneStageConfig) -> None:
    """Fine-tune, or go on with it.

    Raises:
        ValueError: If ``init`` is no release, or a network of another size was asked for.
        ModuleNotFoundError: Without diffusers and transformers (extra `full`).
    """
    if not is_official(config.latents):
        raise ValueError(
            f"{config.latents} has no raw and latents folders, expected the published layout; "
            "write it with the stage released-latents"
        )
    assert config.init is not None
    release = Release.of(config.init, config.camera_unit_m)
    if config.model not in (DRIVE, release.model):
        raise ValueError(
            f"got model={config.model}, expected it to be left out: the network is that of "
            f"{config.init}"
        )
    whole = release.settings.sampling.mode == "bidirectional"
    config = replace(config, model=release.model, mode="bidirectional" if whole else "chunk_causal")

    def make(device: torch.device) -> Objective:
        return FineTuneObjective(config, release, device)

    train(make, config.trainer)
