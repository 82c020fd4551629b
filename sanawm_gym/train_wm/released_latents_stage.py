"""Stage ``released-latents``: recordings in the latents of the released SANA-WM.

As the stage ``latents``, with LTX-2's autoencoder, and written in the published zip/npz layout
alone: a shard a drive, cut into clips that each begin with the latent of a single picture, as the
released network's own training clips do. A shard is written whole or not at all, so that a run that
was interrupted goes on with the next drive.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from sanawm_gym.episodes import EpisodeInfo
from sanawm_gym.train_wm.frames import to_signed
from sanawm_gym.train_wm.official_cache import OfficialClip, write_shard
from sanawm_gym.train_wm.recording import ReadingConfig, Recording, conclude
from sanawm_gym.train_wm.run_record import RunRecord, describe_config, hash_input
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder


@dataclass(frozen=True, kw_only=True)
class ReleasedLatentsStageConfig:
    """Encode a dataset with the autoencoder of a release."""

    data: Path
    """Dataset folder written by ``sanawm-gym ingest`` or ``record``."""
    autoencoder: Path
    """Folder of the release's autoencoder, such as ``vae`` of SANA-WM_bidirectional."""
    out: Path
    """Folder that gets ``raw`` and ``latents``."""
    reading: ReadingConfig = field(default_factory=lambda: ReadingConfig(picture=(704, 1280)))
    """Size and clock of the pictures, and how much damage is borne."""
    clip_frames: int = 97
    """Raw frames of a clip, a multiple of 24 plus one; 97 are 13 latent frames, 6 s. A drive is cut
    into as many as it holds, the next beginning with the last picture of the one before."""
    held_out: float = 0.05
    """Share of the episodes, the last ones, marked as held out."""
    device: str = "cpu"
    """Torch device."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the autoencoder; latents are stored in float16 in either case."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        """Refuse clips that are no whole chunks."""
        if self.clip_frames < 25 or self.clip_frames % 24 != 1:
            raise ValueError(
                f"got clip_frames={self.clip_frames}, expected a multiple of 24 plus one (25, 49, "
                "...): chunks of three latent frames of 8 pictures, after the first picture"
            )


def run_released_latents_stage(config: ReleasedLatentsStageConfig) -> None:
    """Encode the drives that are missing.

    Raises:
        ValueError: If the recording does not fit the autoencoder, too much of it is damaged, or
            ``out`` holds clips that were made otherwise.
        ModuleNotFoundError: Without diffusers (extra `full`).
    """
    torch.set_num_threads(config.threads)
    recording = Recording(config.data, config.reading)
    train, held_out = recording.split(config.held_out)
    _begin_run(config)
    model = Ltx2Autoencoder.from_folder(
        config.autoencoder, device=config.device, dtype=getattr(torch, config.precision)
    )
    config.reading.check_stride(model.spatial_stride)
    count = 0
    for place, info in enumerate(tqdm(train + held_out, unit="episode", desc="encoding")):
        shard = f"drive-{info.index:06d}"
        if (config.out / "raw" / f"{shard}.zip").is_file():
            continue
        clips = _clips(model, recording, info, config, held_out=place >= len(train))
        first = next(clips, None)
        if first is None:
            continue
        count += write_shard(
            config.out / "raw", config.out / "latents", shard, itertools.chain([first], clips)
        )
    print(f"wrote {count} clips to {config.out}, in the published layout")
    conclude([recording], config.out)


def _begin_run(config: ReleasedLatentsStageConfig) -> None:
    """Describe the run, unless its folder holds clips that do not go with it."""
    data = {"data": hash_input(config.data), "autoencoder": hash_input(config.autoencoder)}
    record = RunRecord(describe_config(config), data)
    path = config.out / "run.json"
    if path.is_file() and any((config.out / "raw").glob("*.zip")):
        then = read_json(path)
        mine = {name: record.config[name] for name in ("reading", "clip_frames")}
        made = {name: then.get("config", {}).get(name) for name in mine}
        if mine != made or data["autoencoder"] != then.get("data", {}).get("autoencoder"):
            raise ValueError(
                f"{config.out} holds latents made with {made}, got {mine}, or another autoencoder: "
                "choose another out, or delete it to encode anew"
            )
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(path, record.describe(torch.device(config.device), num_processes=1))


def _clips(
    model: Ltx2Autoencoder,
    recording: Recording,
    info: EpisodeInfo,
    config: ReleasedLatentsStageConfig,
    *,
    held_out: bool,
) -> Iterator[OfficialClip]:
    """Clips of a drive, one after the other; none of one that is damaged or too short."""
    cameras = recording.cameras(info)
    frames = None if cameras is None else recording.frames(info)
    if cameras is None or frames is None:
        return
    height, width = config.reading.picture
    for start in range(0, len(frames) - config.clip_frames + 1, config.clip_frames - 1):
        span = slice(start, start + config.clip_frames)
        latents = model.encode(to_signed(frames[span])[None].to(config.device))
        yield OfficialClip(
            key=f"drive-{info.index:06d}-{start:05d}",
            z=latents[0].half().cpu().numpy(),
            poses=cameras.poses[span],
            intrinsics=np.tile(cameras.intrinsics, (config.clip_frames, 1)),
            width=width,
            height=height,
            prompt=info.caption,
            held_out=held_out,
        )
