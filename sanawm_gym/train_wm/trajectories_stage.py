"""Stage ``trajectories``: how the teacher gets from noise to a clip, level by level.

The first picture, the cameras and the caption of every training clip are given to the teacher, who
draws the rest of it in many steps. Kept are the latents at the few noise levels at which the
student will draw; the ``ode`` stage teaches it to see the end from each of them.

A clip begins where its encoding begins, as drives do: a later latent frame holds several pictures
and cannot stand for a first one. One file a clip, written whole or not at all; a second run goes on
at the first batch that is not complete, and ends with the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.train_wm.clip_path import ClipPath
from sanawm_gym.train_wm.clip_stage import check_shown
from sanawm_gym.train_wm.latent_clips import LatentClip, load_latent_clips
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.official_clips import is_official, load_official_clips
from sanawm_gym.train_wm.run_record import begin_files
from sanawm_gym.train_wm.student_stream import check_sigmas
from sanawm_gym.train_wm.teacher_sampler import Grid, TeacherSampler
from sanawm_gym.train_wm.trajectory_store import (
    Trajectory,
    begin_store,
    finish_store,
    read_trajectory,
    write_trajectory,
)
from sanawm_gym.train_wm.weights import WorldWeights, load_world_weights
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.chunks import Mode
from sanawm_gym.worldmodel.ground_warp import warped_clip
from sanawm_gym.worldmodel.noise import mix_seed


@dataclass(frozen=True, kw_only=True)
class TrajectoriesStageConfig:
    """Draw the training clips with a teacher and keep what they are on the way."""

    latents: Path
    """Folder written by the ``latents`` stage, or one in the published layout."""
    teacher: Path
    """Folder written by the ``bidirectional`` or ``chunk-causal`` stage."""
    out: Path
    """Folder for the trajectories."""
    autoencoder: Path | None = None
    """Folder written by the ``vae`` stage. With it the pictures drawn are also carried over the
    ground, which students with ``warp_condition`` need; None leaves that out."""
    mode: Mode = "bidirectional"
    """Which frames see which in the teacher."""
    clip: int = 16
    """Latent frames of a trajectory, >= 2; shorter clips are left out. The released recipe takes
    43 of 8 raw frames each; the default is the length of the clips begun later in a drive."""
    num_clips: int | None = None
    """Clips to draw, chosen by the seed, >= 1; None draws all."""
    sigmas: tuple[float, ...] = (1.0, 0.967, 0.908, 0.764)
    """Noise levels to keep, falling from 1; the end at 0 is kept always. The default is that of the
    released recipe, four steps. Drawing in one step from noise needs (1.0,)."""
    steps: int = 40
    """Euler steps of the teacher, more than there are levels; 60 in the released sampler."""
    shift: float = 8.0
    """Shift of the teacher's noise levels, > 0; 8 to 9.8 as released."""
    guidance: float = 2.0
    """Scale s of the caption in v = v_negative + s (v - v_negative), >= 0; 1 is none and takes half
    the time. 5 in the released sampler, whose captions say far more."""
    negative_prompt: str = ""
    """Caption to keep away from; empty is the caption that training drops to."""
    lag: float = 0.0
    """Chunk-causal teachers: share of the steps by which a chunk starts after the one before it,
    0 (all together) to 1 (one by one). The released teacher takes 1 / number of chunks."""
    show: Literal["nothing", "recorded"] = "nothing"
    """What a teacher with ``warp_condition`` is shown: nothing, or the recorded pictures carried
    over the ground, which make every frame follow from the recorded one before it, not from the one
    drawn. It has to have been trained so (``shown``)."""
    batch_size: int = 8
    """Clips drawn together, >= 1."""
    picture: tuple[int, int] = (72, 128)
    """Height and width of the pictures [px]."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of network and autoencoder; snapshots are stored in float16 in either case."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """CPU threads, >= 1."""
    seed: int = 0
    """Seed of the noise and of the choice of clips."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        check_sigmas(self.sigmas)
        for name, least in (("clip", 2), ("batch_size", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.num_clips is not None and self.num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {self.num_clips}")
        if self.shift <= 0 or self.guidance < 0 or not 0 <= self.lag <= 1:
            raise ValueError(
                f"got shift={self.shift}, guidance={self.guidance}, lag={self.lag}; expected a "
                "positive shift, guidance of at least 0 and a lag in 0 ... 1"
            )
        Grid.of(self.steps, self.shift, self.sigmas)


@torch.no_grad()
def run_trajectories_stage(config: TrajectoriesStageConfig) -> None:
    """Draw whatever is missing, then write the index.

    Raises:
        ValueError: If no clip is long enough, or ``out`` holds trajectories made otherwise or a
            file that cannot be read.
    """
    torch.set_num_threads(config.threads)
    maker = _Maker(config)
    clips = maker.choose()
    begin_files(config)
    begin_store(config.out, config.sigmas)
    names = [f"trajectory-{number:06d}.safetensors" for number, _ in clips]
    with tqdm(total=len(clips), unit="clip", desc="drawing") as bar:
        for start in range(0, len(clips), config.batch_size):
            # Rounding depends on what a clip is drawn with: a batch is drawn whole or not.
            part = clips[start : start + config.batch_size]
            paths = [config.out / name for name in names[start : start + config.batch_size]]
            if all(path.exists() for path in paths):
                for path, (_, clip) in zip(paths, part, strict=True):
                    read_trajectory(path, clip.caption, len(config.sigmas) + 1, config.clip)
            else:
                for path, trajectory in zip(paths, maker.draw(part), strict=True):
                    write_trajectory(path, trajectory)
            bar.update(len(part))
    entries = [
        {"file": name, "caption": clip.caption}
        for name, (_, clip) in zip(names, clips, strict=True)
    ]
    finish_store(config.out, config.sigmas, config.clip, entries)
    print(f"wrote {len(entries)} trajectories to {config.out}")


class _Maker:
    """Teacher, autoencoder and clips."""

    def __init__(self, config: TrajectoriesStageConfig) -> None:
        self.config = config
        dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.teacher: WorldWeights = load_world_weights(config.teacher).eval().to(config.device)
        self.teacher.network.to(dtype)
        self.autoencoder: VideoAutoencoder | None = None
        if config.autoencoder is not None:
            self.autoencoder = load_autoencoder(config.autoencoder, config.device).to(dtype)
        self.model = self.teacher.network.config
        if config.show == "recorded" and not self.model.warp_condition:
            raise ValueError(
                f"got show='recorded', but the network in {config.teacher} has no warp_condition "
                "and looks at no recorded pictures: leave it out"
            )
        if self.model.warp_condition:
            check_shown(config.teacher, is_shown=config.show == "recorded")
        self.sampler = TeacherSampler(
            network=self.teacher.network,
            mode=config.mode,
            grid=Grid.of(config.steps, config.shift, config.sigmas),
            guidance=config.guidance,
            lag=config.lag,
        )

    def choose(self) -> list[tuple[int, LatentClip]]:
        """Training clips to draw and their numbers."""
        config = self.config
        if is_official(config.latents):
            clips, _ = load_official_clips(
                config.latents, picture=config.picture, temporal_stride=self.model.temporal_stride
            )
        else:
            clips, _ = load_latent_clips(config.latents, picture=config.picture)
        found = [(i, clip) for i, clip in enumerate(clips) if clip.latents.shape[0] >= config.clip]
        if not found:
            raise ValueError(f"no clip of {config.latents} has {config.clip} latent frames or more")
        if config.num_clips is not None:
            order = np.random.default_rng(config.seed).permutation(len(found))
            found = [found[i] for i in sorted(order[: config.num_clips])]
        return found

    def draw(self, part: list[tuple[int, LatentClip]]) -> list[Trajectory]:
        """Trajectories of some clips, drawn together."""
        config, clips = self.config, [clip for _, clip in part]
        path = ClipPath.of(clips, config.clip, self.model.temporal_stride, config.picture)
        truth = torch.stack([clip.latents[: config.clip].float() for clip in clips])
        truth = truth.transpose(1, 2)
        noise = torch.stack(
            [
                torch.randn(
                    truth.shape[1:],
                    generator=torch.Generator().manual_seed(mix_seed(config.seed, number)),
                )
                for number, _ in part
            ]
        )
        shown = None
        if config.show == "recorded":
            shown = torch.stack([clip.warped[: config.clip].float() for clip in clips])
            shown = shown.transpose(1, 2)
        captions = [clip.caption for clip in clips]
        negative = [config.negative_prompt] * len(clips)
        snapshots = self.sampler.draw(
            truth[:, :, :1].to(config.device),
            noise.to(config.device),
            self.teacher.text(captions),
            None if config.guidance == 1.0 else self.teacher.text(negative),
            path.whole(self.model, shown).to(config.device),
        )
        warped = shown if shown is not None else self._carry(snapshots[-1], path)
        return [
            Trajectory(
                snapshots=snapshots[:, row].transpose(1, 2),
                warped=None if warped is None else warped[row].transpose(0, 1),
                poses=path.poses[row],
                intrinsics=path.intrinsics[row],
                caption=clip.caption,
            )
            for row, clip in enumerate(clips)
        ]

    def _carry(
        self, latents: Float[Tensor, "b c t y x"], path: ClipPath
    ) -> Float[Tensor, "b c t y x"] | None:
        """The pictures drawn, carried over the ground to the cameras that follow them."""
        if self.autoencoder is None:
            return None
        pictures = self.autoencoder.decode(latents).float()
        return warped_clip(self.autoencoder, pictures, path.poses, path.intrinsics)
