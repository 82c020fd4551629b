"""What the heads are trained on: features of the clean pass, beside the truth of the recording.

The network is frozen, so every clip goes through it once. The features are stored, and the heads
can then pass over them many times for the price of the heads alone. Latent clips hold no truth:
the names of their files say which episode they come from and where they begin, and the recording
knows the rest.

One file a clip, written whole or not at all; a second run writes only what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.train_wm.latent_clips import LatentClip, clip_place, load_clip, write_clip
from sanawm_gym.train_wm.run_record import hash_input
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.camera_condition import moving_camera
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.heads import QUANTITIES, fingerprint
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.token_ground import token_ground

_LARGEST = torch.finfo(torch.float16).max
INDEX = "features.json"
"""File that says what a folder of features was made from, and lists the clips."""
NO_LEAD_M = 100.0
"""Distance that recordings give where no vehicle is ahead [m]."""


@dataclass(frozen=True)
class FeatureClip:
    """One clip as the heads see it."""

    features: Float16[Tensor, "t s e"]
    """What the last block left of every token of every latent frame."""
    ground: Float[Tensor, "t s 3"]
    """Where every token lies (`worldmodel.token_ground`)."""
    truth: Float[Tensor, "t q"]
    """`QUANTITIES` at the last raw frame of each; NaN where there is none."""


@dataclass(frozen=True, kw_only=True)
class PassConfig:
    """How the clips are shown to the network."""

    seed: int = 0
    """Seed of the noise and of what is dropped."""
    context_noise: float = 0.1
    """Largest deviation of the Gaussian noise added to latents and warped pictures of training
    clips, drawn a clip, >= 0: what a network draws is never quite clean."""
    caption_dropout: float = 0.1
    """Share of the training clips shown with an empty caption, 0 to 1."""
    longest: int = 32
    """Latent frames of a clip that are used, from its beginning, >= 1. Frames of one drive resemble
    each other, so for the same time many short clips teach more than a few long ones."""
    lead_range: float = 50.0
    """Vehicles farther ahead than this count as none [m], > 0."""

    def __post_init__(self) -> None:
        """Refuse what is no range."""
        if not self.context_noise >= 0 or not 0 <= self.caption_dropout <= 1:
            raise ValueError(
                f"got context_noise={self.context_noise}, caption_dropout={self.caption_dropout}; "
                "expected a deviation >= 0 and a share of 0 to 1"
            )
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1, got {self.longest}")
        if not 0 < self.lead_range < NO_LEAD_M:
            raise ValueError(f"got lead_range={self.lead_range}, expected 0 to {NO_LEAD_M} m")


def read_truth(
    datasets: Sequence[EpisodeDataset], name: str, clip: LatentClip, lead_range: float
) -> Float[Tensor, "t q"]:
    """What was true at the last raw frame of every latent frame of a clip.

    Args:
        datasets: Recordings from which the clips were encoded, in that order.
        name: File of the clip.
        clip: Its cameras tell whether it belongs to the recording.
        lead_range: Vehicles farther ahead count as none [m].

    Raises:
        ValueError: If the recordings are other ones.
    """
    number, episode, start = clip_place(name)
    if number >= len(datasets):
        raise ValueError(
            f"{name} is a clip of recording {number + 1}, got {len(datasets)}: give the recordings "
            "from which the latents were encoded, in the same order"
        )
    dataset = datasets[number]
    numbers = ["lane_offset", "heading_error", "curvature_ahead", "left_edge", "right_edge"]
    wanted = [*numbers, "lead_distance", "lead_speed", "on_road", "crashed", "c2w"]
    columns = dataset.columns(episode, start, start + len(clip.poses), wanted)
    recorded = np.asarray(columns["c2w"], dtype=np.float64).reshape(-1, 4, 4)
    if recorded.shape != tuple(clip.poses.shape) or not np.allclose(recorded, clip.poses.numpy()):
        raise ValueError(
            f"{name} was not seen from the cameras of episode {episode} of {dataset.path}: give "
            "the recording from which the latents were encoded"
        )
    distance = np.asarray(columns["lead_distance"], dtype=np.float64)
    leads = distance <= lead_range
    known = {name: np.asarray(columns[name], dtype=np.float64) for name in numbers}
    known["lead_distance"] = np.where(leads, distance, np.nan)
    known["lead_speed"] = np.where(leads, columns["lead_speed"], np.nan)
    known["has_lead"] = np.where(np.isnan(distance), np.nan, leads)
    known["on_road"] = np.asarray(columns["on_road"], dtype=np.float64)
    known["crashed"] = np.asarray(columns["crashed"], dtype=np.float64)
    truth = np.stack([known[name] for name in QUANTITIES], axis=1)[:: raw_stride(clip)]
    return torch.from_numpy(truth.astype(np.float32))


def raw_stride(clip: LatentClip) -> int:
    """Raw frames a latent frame after the first."""
    return max(1, (len(clip.poses) - 1) // max(1, len(clip.latents) - 1))


def clip_ground(clip: LatentClip, picture: tuple[int, int]) -> Float[Tensor, "t s 3"]:
    """Where every token of every latent frame lies on the ground."""
    poses = clip.poses[:: raw_stride(clip)]
    rows, columns = clip.latents.shape[-2:]
    lens = clip.intrinsics.expand(len(poses), 4)
    return token_ground(poses, lens, (rows, columns), picture[0] // rows)


def shorten(clip: LatentClip, longest: int) -> LatentClip:
    """The beginning of a clip, at most ``longest`` latent frames."""
    kept = min(longest, len(clip.latents))
    return replace(
        clip,
        latents=clip.latents[:kept],
        warped=clip.warped[:kept],
        poses=clip.poses[: raw_stride(clip) * (kept - 1) + 1],
    )


class CleanPass:
    """A frozen network that is shown whole clips.

    Args:
        weights: Network and text encoder; the network's dtype is kept.
        picture: Height and width of the pictures [px].
        device: Where they are to run.
    """

    def __init__(
        self, weights: WorldWeights, picture: tuple[int, int], device: torch.device
    ) -> None:
        self.weights = weights.eval().requires_grad_(False).to(device)
        self.picture, self.device = picture, device

    @torch.no_grad()
    def features(
        self, clip: LatentClip, grain: float = 0.0, generator: torch.Generator | None = None
    ) -> Float16[Tensor, "t s e"]:
        """Features of a clip, as a stream along its cameras gives them one by one.

        Args:
            clip: The clip.
            grain: Deviation of Gaussian noise added to latents and warped pictures.
            generator: Draws that noise.
        """
        network = self.weights.network
        latents, warped = (x.float().transpose(0, 1)[None] for x in (clip.latents, clip.warped))
        grid = (latents.shape[-2], latents.shape[-1])
        camera, transport = moving_camera(
            clip.poses[None],
            clip.intrinsics[None],
            image_size=self.picture,
            grid=grid,
            config=network.config,
        )
        if grain:
            latents = latents + grain * torch.randn(latents.shape, generator=generator)
            soil = grain * torch.randn(warped.shape, generator=generator)
            soil[:, :, :1] = 0.0  # the first frame has no picture before it, hence nothing to soil
            warped = warped + soil
        if network.config.warp_condition:
            camera = replace(camera, warped=warped)
        unrolled = network.unroll(
            latents.to(self.device, network.dtype),
            torch.zeros(1, latents.shape[2], device=self.device),
            self.weights.text([clip.caption]),
            camera.to(self.device),
            network.initial_state(1, *grid, device=self.device),
            transport=transport.to(self.device),
        )
        # Where the network is lost, a token may lie beyond what float16 holds.
        return unrolled.features[0].float().cpu().clamp(-_LARGEST, _LARGEST).half()


def encode_features(
    folder: Path,
    clean: CleanPass,
    *,
    latents: Path,
    rollouts: Sequence[Path] = (),
    datasets: Sequence[EpisodeDataset],
    config: PassConfig,
) -> None:
    """Write features and truth of every clip that has none yet.

    Args:
        folder: Created if missing.
        clean: The network.
        latents: Folder of the ``latents`` stage.
        rollouts: What the network draws along the cameras of some of those clips, from the
            ``rollouts`` stage. What is held out there is held out here.
        datasets: Recordings from which those were encoded, in that order.
        config: How the clips are shown.

    Raises:
        ValueError: If the folder holds features of another network, of other clips or settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_from = {
        "network": fingerprint(clean.weights.network),
        "dtype": str(clean.weights.network.dtype),
        "latents": hash_input(latents),
        "picture": list(clean.picture),
        **({"rollouts": [hash_input(path) for path in rollouts]} if rollouts else {}),
        **asdict(config),
    }
    if (folder / INDEX).exists():
        found = read_json(folder / INDEX)["made_from"]
        if found != made_from:
            raise ValueError(
                f"{folder} holds features made from {found}, expected {made_from}: delete it, or "
                "choose another trainer.out"
            )
    found = read_json(latents / "latents.json")
    sources = [(entry["file"], latents, entry) for entry in found["clips"]]
    for number, path in enumerate(rollouts):
        sources += _drawn(number, path, {entry["file"] for entry in found["clips"]})
    grid = [side // found["spatial_stride"] for side in clean.picture]
    listed = [{**entry, "file": name} for name, _, entry in sources]
    write_json(folder / INDEX, {"made_from": made_from, "grid": grid, "clips": listed})
    for number, (name, path, entry) in enumerate(tqdm(sources, unit="clip", desc="clean pass")):
        if (folder / name).exists():
            continue
        clip = shorten(load_clip(path / entry["file"], entry["caption"]), config.longest)
        truth = read_truth(datasets, entry["file"], clip, config.lead_range)
        generator = torch.Generator().manual_seed(mix_seed(config.seed, number))
        level, dropped = torch.rand(2, generator=generator).tolist()
        grain = 0.0
        if not entry["held_out"]:
            grain = config.context_noise * level
            clip = replace(clip, caption="" if dropped < config.caption_dropout else clip.caption)
        features = clean.features(clip, grain, generator)
        ground = clip_ground(clip, clean.picture)
        write_clip(folder / name, {"features": features, "ground": ground, "truth": truth})


def _drawn(number: int, rollouts: Path, known: set[str]) -> list[tuple[str, Path, dict[str, Any]]]:
    """Name for the features, folder and entry of every drawn clip.

    Raises:
        ValueError: If one was not drawn from the clips.
    """
    entries = read_json(rollouts / "latents.json")["clips"]
    if not known.issuperset(entry["file"] for entry in entries):
        raise ValueError(f"{rollouts} was drawn from other clips: draw them from these latents")
    return [(f"drawn-{number}-{entry['file']}", rollouts, entry) for entry in entries]


def load_features(folder: Path) -> tuple[list[FeatureClip], list[FeatureClip]]:
    """Training clips and held-out clips of a folder that `encode_features` has filled."""
    parts: tuple[list[FeatureClip], list[FeatureClip]] = ([], [])
    for entry in read_json(folder / INDEX)["clips"]:
        parts[entry["held_out"]].append(FeatureClip(**load_file(folder / entry["file"])))
    return parts
