"""Stage ``latents``: encode a dataset once, so that the world model never touches pixels again.

Beside the latents of a clip lie those of every decoded picture carried over the ground to the next
cameras, for networks with ``warp_condition``.

Every episode is encoded whole, and again from a number of later starts, because a clip's first
latent frame (a single picture) differs from all others and the world model must know many of them.
One file a clip, written whole or not at all; a second run writes only what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.episodes import EpisodeInfo
from sanawm_gym.train_wm.frames import to_signed
from sanawm_gym.train_wm.latent_clips import clip_name, load_clip, write_clip
from sanawm_gym.train_wm.official_cache import OfficialClip, write_shard
from sanawm_gym.train_wm.recording import ReadingConfig, Recording, conclude
from sanawm_gym.train_wm.run_record import RunRecord, describe_config, hash_input
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from sanawm_gym.worldmodel.folder import load_weights, read_config, read_json, write_json
from sanawm_gym.worldmodel.ground_warp import warped_clip

_CLIPS_PER_SHARD = 64
"""Clips in a zip file of the published layout."""


@dataclass(frozen=True, kw_only=True)
class LatentsStageConfig:
    """Encode a dataset into latents once."""

    data: tuple[Path, ...]
    """Dataset folders written by ``sanawm-gym record`` or ``ingest``. One more can be added at the
    end later; what is encoded stays."""
    autoencoder: Path
    """Folder with ``autoencoder.json`` and ``autoencoder.safetensors``."""
    out: Path
    """Folder for the latent clips."""
    official: Path | None = None
    """Folder for the same clips in the published zip/npz layout (`official_cache`), from which the
    stages after this one read as well; None writes none."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """Size and clock of the pictures, and how much damage is borne; those of the ``vae`` stage."""
    later_starts: int = 2
    """Further clips an episode, begun at evenly spread frames."""
    later_frames: int = 61
    """Raw frames of each further clip, a multiple of the temporal stride plus one."""
    held_out: float = 0.05
    """Share of the episodes, the last ones of every recording, marked as held out."""
    device: str = "cpu"
    """Torch device."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the convolutions; latents are stored in float16 in either case."""
    threads: int = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        """Refuse to encode nothing."""
        if not self.data:
            raise ValueError("got no data: name at least one recording")


def load_autoencoder(folder: Path, device: str | torch.device = "cpu") -> VideoAutoencoder:
    """Autoencoder of a stage's output folder, in float32."""
    model = VideoAutoencoder(read_config(folder / "autoencoder.json", VideoAutoencoderConfig))
    load_weights(folder, "autoencoder", model)
    return model.eval().requires_grad_(False).to(device)


@torch.no_grad()
def run_latents_stage(config: LatentsStageConfig) -> None:
    """Encode whatever is missing, then write the index.

    Raises:
        ValueError: If the recording does not fit the autoencoder, too much of it is damaged or
            ``out`` holds clips that were made otherwise.
    """
    torch.set_num_threads(config.threads)
    model = load_autoencoder(config.autoencoder, config.device)
    config.reading.check_stride(model.config.spatial_stride)
    if (config.later_frames - 1) % model.config.temporal_stride:
        raise ValueError(
            f"later_frames is {config.later_frames}, expected a multiple of the temporal stride "
            f"{model.config.temporal_stride} plus one"
        )
    recordings = [Recording(path, config.reading) for path in config.data]
    config.out.mkdir(parents=True, exist_ok=True)
    _begin_run(config)
    splits = [recording.split(config.held_out) for recording in recordings]
    drives = [
        (number, info, is_held_out)
        for number, parts in enumerate(splits)
        for is_held_out, part in enumerate(parts)
        for info in part
    ]
    index: list[dict[str, Any]] = []
    for number, info, is_held_out in tqdm(drives, unit="episode", desc="encoding"):
        files = _encode_drive(model, recordings[number], info, number, config)
        said = {
            "caption": info.caption,
            "held_out": bool(is_held_out),
            "strays": bool(files) and recordings[number].strays(info),
        }
        index += [{"file": file, **said} for file in files]
    write_json(
        config.out / "latents.json",
        {
            "temporal_stride": model.config.temporal_stride,
            "spatial_stride": model.config.spatial_stride,
            "picture": config.reading.picture,
            "fps": config.reading.fps,
            "clips": index,
        },
    )
    print(f"wrote {len(index)} clips of latents to {config.out}")
    conclude(recordings, config.out)
    if config.official is not None:
        _write_official(config.official, config.out, index, model.config.spatial_stride)


def _begin_run(config: LatentsStageConfig) -> None:
    """Describe the run, unless its folder holds clips that do not go with it.

    Raises:
        ValueError: If they were made with another autoencoder, of another size or another clock.
    """
    weights = (config.autoencoder / "autoencoder.safetensors").read_bytes()
    digests = {
        **{f"data[{i}]": hash_input(path) for i, path in enumerate(config.data)},
        "autoencoder": hashlib.sha256(weights).hexdigest(),
    }
    record = RunRecord(describe_config(config), digests)
    path = config.out / "run.json"
    if path.is_file():
        then = read_json(path)
        now = [record.config["reading"][name] for name in ("picture", "fps")]
        reading = then.get("config", {}).get("reading", {})
        made = [reading.get(name) for name in ("picture", "fps")]
        if now != made or digests["autoencoder"] != then.get("data", {}).get("autoencoder"):
            raise ValueError(
                f"{config.out} holds latents made with picture and fps {made}"
                f"{'' if now != made else ' and another autoencoder'}, got {now}: choose another "
                "out, or delete it to encode anew"
            )
    write_json(path, record.describe(torch.device(config.device), num_processes=1))


def _encode_drive(
    model: VideoAutoencoder,
    recording: Recording,
    info: EpisodeInfo,
    number: int,
    config: LatentsStageConfig,
) -> list[str]:
    """Write the clips of a drive that are missing; the names of all, none if it is damaged."""
    spans = _spans(recording.num_frames(info), model.config.temporal_stride, config)
    files = [clip_name(number, info.index, start) for start, _ in spans]
    missing = [i for i, file in enumerate(files) if not (config.out / file).exists()]
    if not missing:
        return files
    cameras = recording.cameras(info)
    frames = None if cameras is None else recording.frames(info)
    if cameras is None or frames is None:
        return []
    lens = torch.from_numpy(cameras.intrinsics)
    for i in missing:
        span = slice(spans[i][0], sum(spans[i]))
        clip = to_signed(frames[span])[None].to(config.device)
        path = torch.from_numpy(cameras.poses[span].copy())
        latents, warped = _encode(model, clip, path, lens, config)
        write_clip(
            config.out / files[i],
            {
                "latents": latents.half().cpu(),
                "warped": warped.half().cpu(),
                "poses": path,
                "intrinsics": lens,
            },
        )
    return files


def _spans(num_frames: int, stride: int, config: LatentsStageConfig) -> list[tuple[int, int]]:
    """First frame and length of the clips of a drive: the whole of it, then later starts."""
    whole = (num_frames - 1) // stride * stride + 1
    spans = [(0, whole)]
    for part in range(1, config.later_starts + 1):
        start = part * (whole - config.later_frames) // (config.later_starts + 1)
        if whole >= config.later_frames:
            spans.append((start, config.later_frames))
    return spans


def _encode(
    model: VideoAutoencoder,
    clip: Float[Tensor, "1 3 f h w"],
    poses: Float[Tensor, "f 4 4"],
    intrinsics: Float[Tensor, " 4"],
    config: LatentsStageConfig,
) -> tuple[Float[Tensor, "t c y x"], Float[Tensor, "t c y x"]]:
    """Latents of a clip, and of its decoded pictures carried one step ahead over the ground."""
    half = config.precision == "bfloat16"
    with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=half):
        latents = model.encode(clip)
        decoded = model.decode(latents).float()
        warped = warped_clip(model, decoded, poses[None], intrinsics[None])
    return latents[0].float().transpose(0, 1), warped[0].float().transpose(0, 1)


def _write_official(
    official: Path, clips: Path, index: Sequence[dict[str, Any]], spatial_stride: int
) -> None:
    """Write the clips of an index once more, in the published layout.

    Args:
        official: Folder that gets ``raw`` and ``latents``.
        clips: Folder of the clips' own files.
        index: Their entries in ``latents.json``.
        spatial_stride: Pixels a latent.
    """

    def convert(entry: dict[str, Any]) -> OfficialClip:
        clip = load_clip(clips / entry["file"], entry["caption"])
        num_rows, num_columns = clip.latents.shape[-2:]
        return OfficialClip(
            key=Path(entry["file"]).stem,
            z=clip.latents.transpose(0, 1).numpy(),
            warped=clip.warped.transpose(0, 1).numpy(),
            poses=clip.poses.numpy(),
            intrinsics=clip.intrinsics.numpy()[None].repeat(len(clip.poses), axis=0),
            width=num_columns * spatial_stride,
            height=num_rows * spatial_stride,
            prompt=clip.caption,
            held_out=entry["held_out"],
        )

    for shard, first in enumerate(range(0, len(index), _CLIPS_PER_SHARD)):
        part = index[first : first + _CLIPS_PER_SHARD]
        name = f"shard-{shard:05d}"
        write_shard(official / "raw", official / "latents", name, map(convert, part))
    print(f"wrote the same clips to {official}, in the published layout")
