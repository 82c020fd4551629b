"""Stage ``bundle``: put trained parts and start contexts together into one world folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sanawm_gym.camera import Intrinsics, fit_image
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.geometry import relative_poses
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.contexts import StartContext, save_contexts
from sanawm_gym.worldmodel.folder import load_weights, read_config, read_json
from sanawm_gym.worldmodel.heads import load_heads
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.refiner.folder import load_refiner
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig
from sanawm_gym.worldmodel.world import WorldConfig, WorldModel


@dataclass(frozen=True, kw_only=True)
class BundleStageConfig:
    """Put trained parts and start contexts together into a world folder."""

    autoencoder: Path
    """Output folder of the ``vae`` stage."""
    network: Path
    """Output folder of the ``streaming`` or ``self-forcing`` stage."""
    contexts: Path
    """Dataset whose episodes give one start context each; best one that training never saw."""
    out: Path
    """World folder to write."""
    heads: Path | None = None
    """Output folder of the ``heads`` stage, trained on this very network; None for a world that
    cannot say what it shows."""
    refiner: Path | None = None
    """Output folder of the ``refiner`` stage; None for a world without one."""
    refiner_sigmas: tuple[float, ...] | None = None
    """Noise levels at which the world refines; None takes those of the refiner's training. It may
    begin lower than it was trained to, which keeps more of the draft."""
    num_contexts: int = 64
    """Start contexts at most, from the first episodes that hold a good one."""
    context_frames: int = 17
    """Raw frames of a start context."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the streaming sampler."""
    still_way: float = 0.75
    """See ``WorldConfig.still_way`` [m]."""
    half: bool = True
    """Store weights in bfloat16, which is what they run in wherever a processor can."""


def run_bundle_stage(config: BundleStageConfig) -> None:
    """Write the world folder."""
    network = SanaWM(read_config(config.network / "network.json", SanaWMConfig))
    load_weights(config.network, "network", network)
    heads = None if config.heads is None else load_heads(config.heads, network)
    if config.heads is not None and heads is None:
        raise ValueError(f"{config.heads} holds no heads: give the output folder of that stage")
    refiner = None
    if config.refiner is not None:
        refiner = load_refiner(config.refiner, network.config.chunk_size)
        if config.refiner_sigmas is not None:
            refiner.config = replace(refiner.config, sigmas=config.refiner_sigmas)
    text_encoder = CaptionEncoder(
        read_config(config.network / "text_encoder.json", CaptionEncoderConfig)
    )
    load_weights(config.network, "text_encoder", text_encoder)
    autoencoder = load_autoencoder(config.autoencoder)
    dataset = EpisodeDataset(config.contexts)
    height, width = _picture(config.network, dataset)
    if config.half:
        for module in (network, text_encoder, autoencoder, refiner):
            if module is not None:
                module.to(torch.bfloat16)
    world = WorldModel(
        WorldConfig(height=height, width=width, sigmas=config.sigmas, still_way=config.still_way),
        network,
        autoencoder,
        text_encoder,
        heads,
        refiner,
    )
    world.save_pretrained(config.out)
    contexts: list[StartContext] = []
    for episode in tqdm(range(len(dataset.episodes)), unit="episode", desc="start contexts"):
        start = _good_start(dataset, episode, config.context_frames)
        if start is not None and len(contexts) < config.num_contexts:
            name = f"{len(contexts):03d}"
            span = (start, start + config.context_frames)
            contexts.append(_context(dataset, episode, span, name, (height, width)))
    save_contexts(contexts, config.out, world.fps)
    size = sum(f.stat().st_size for f in config.out.glob("*.safetensors"))
    print(f"wrote {config.out}: {size / 1e6:.1f} MB of weights, {len(contexts)} start contexts")


def _picture(network: Path, dataset: EpisodeDataset) -> tuple[int, int]:
    """Height and width that a network was trained with; of the start contexts if it does not say.

    Raises:
        ValueError: If the start contexts have another clock than the world.
    """
    if dataset.info.fps != WorldConfig.fps:
        raise ValueError(
            f"{dataset.path} has {dataset.info.fps:g} frames/s, expected start contexts with the "
            f"world's {WorldConfig.fps:g}"
        )
    run = network / "run.json"
    trained = read_json(run)["config"].get("picture") if run.is_file() else None
    height, width = trained or (dataset.info.height, dataset.info.width)
    return height, width


def _good_start(dataset: EpisodeDataset, episode: int, num_frames: int) -> int | None:
    """First frame of a stretch that is driven well: in its lane, along the road, moving.

    Where nobody knows the lane (NaN), as in filmed drives, any moving stretch will do.
    """
    total = dataset.episodes[episode].num_frames
    columns = dataset.columns(
        episode, 0, total, ["on_road", "crashed", "lane_offset", "heading_error", "speed"]
    )
    good = (
        np.asarray(columns["on_road"], dtype=bool)
        & ~np.asarray(columns["crashed"], dtype=bool)
        & ~(np.abs(columns["lane_offset"]) >= 0.6)
        & ~(np.abs(columns["heading_error"]) >= 0.08)
        & (np.asarray(columns["speed"]) > 3.0)
    )
    for start in range(0, total - num_frames + 1, 4):
        if good[start : start + num_frames].all():
            return start
    return None


def _context(
    dataset: EpisodeDataset,
    episode: int,
    span: tuple[int, int],
    name: str,
    picture: tuple[int, int],
) -> StartContext:
    columns = dataset.columns(episode, *span, ["c2w", "intrinsics", "caption", "speed", "steer"])
    frames = dataset.frames(episode, *span)
    poses = np.asarray(columns["c2w"], dtype=np.float64).reshape(-1, 4, 4)
    fx, fy, cx, cy = (float(value) for value in np.asarray(columns["intrinsics"])[0])
    lens = Intrinsics(fx, fy, cx, cy, frames.shape[2], frames.shape[1])
    frames, lens = fit_image(frames, lens, picture[1], picture[0])
    return StartContext(
        name=name,
        frames=frames,
        poses=relative_poses(poses),
        intrinsics=lens,
        caption=str(columns["caption"][0]),
        speed=float(columns["speed"][-1]),
        steer=float(columns["steer"][-1]),
        camera_height=float(poses[-1, 2, 3]),
    )
