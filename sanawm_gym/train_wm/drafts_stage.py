"""Stage ``drafts``: the recorded clips as the first stage would hand them to the refiner.

A refiner learns from pairs: what the first stage drew, and what it should have drawn. Left alone, a
network soon draws another road than the recorded one, and no truth belongs to its pictures. So
every recorded latent frame is drawn by itself, in the network's usual steps from noise, out of the
recorded past: the draft is as soft as the network's drawings are, yet lies on the truth. With
``rollouts`` the past is a mixture of the truth and of what a network left alone drew, as in the
``streaming`` stage; the draft then also has the marks of a past that has gone wrong.

Without a network, drafts are the true pictures made smaller and enlarged again.

The clips lie in the layout of the ``latents`` stage. One file a clip, written whole or not at all;
a second run goes on at the first batch that is not complete, and ends with the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.train_wm.latent_clips import LatentClip, load_clip, write_clip
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.run_record import begin_files
from sanawm_gym.train_wm.weights import WorldWeights, load_world_weights
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.camera_condition import moving_camera
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.sampler import sample_chunk


@dataclass(frozen=True, kw_only=True)
class DraftsStageConfig:
    """Draw every recorded latent frame out of its true past, to train a refiner on."""

    latents: Path
    """Folder written by the ``latents`` stage."""
    autoencoder: Path
    """Folder written by the ``vae`` stage."""
    out: Path
    """Folder for the drafts."""
    network: Path | None = None
    """Folder written by the ``streaming`` or ``self-forcing`` stage; None blurs the pictures."""
    rollouts: tuple[Path, ...] = ()
    """Folders written by the ``rollouts`` stage, the newest last, to be mixed into the past. Where
    there are any, only clips that have rollouts are drafted."""
    largest_mix: float = 0.9
    """Largest weight of the drawn past against the true one, drawn a clip, 0 to 1."""
    blur: int = 2
    """Without a network: how many times smaller the pictures are made, >= 2."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the streaming sampler."""
    shortest: int = 2
    """Latent frames; shorter clips are left out, >= 2."""
    num_clips: int | None = None
    """Clips to draft, chosen by the seed, >= 1; None takes all."""
    batch_size: int = 4
    """Clips drafted together, >= 1."""
    picture: tuple[int, int] = (72, 128)
    """Height and width of the pictures [px]."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of network and autoencoder."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of noise, mixture and choice of clips."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        for name, least in (("batch_size", 1), ("threads", 1), ("shortest", 2), ("blur", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.num_clips is not None and self.num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {self.num_clips}")
        if not 0 <= self.largest_mix <= 1:
            raise ValueError(f"largest_mix must lie in 0 ... 1, got {self.largest_mix}")
        if self.rollouts and self.network is None:
            raise ValueError("got rollouts without a network: name the network, or leave them out")


@torch.no_grad()
def run_drafts_stage(config: DraftsStageConfig) -> None:
    """Draft whatever is missing, then write the index.

    Raises:
        ValueError: If no clip is long enough, or has rollouts where some are asked for, or ``out``
            holds drafts that were made otherwise.
    """
    torch.set_num_threads(config.threads)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    autoencoder = load_autoencoder(config.autoencoder, config.device).to(dtype)
    weights = None
    if config.network is not None:
        weights = load_world_weights(config.network).eval().to(config.device)
        weights.network.to(dtype)
    index, chosen = _choose(config)
    begin_files(config)
    # Batches hold clips of one length; the order is part of what a run draws.
    chosen.sort(key=lambda pair: -pair[1].latents.shape[0])
    numbers = {entry["file"]: number for number, entry in enumerate(index["clips"])}
    for part in tqdm(list(_batches(chosen, config.batch_size)), unit="batch", desc="drafting"):
        files = [config.out / entry["file"] for entry, _ in part]
        if all(file.exists() for file in files):
            continue
        clips = [clip for _, clip in part]
        if weights is None:
            drafts = _blurred(autoencoder, clips, config)
        else:
            seeds = [mix_seed(config.seed, numbers[entry["file"]]) for entry, _ in part]
            drafts = _drawn(weights, clips, seeds, config)
        for file, clip, draft in zip(files, clips, drafts, strict=True):
            content = {"latents": draft.half().cpu(), "warped": clip.warped}
            write_clip(file, {**content, "poses": clip.poses, "intrinsics": clip.intrinsics})
    entries = sorted((entry for entry, _ in chosen), key=lambda entry: numbers[entry["file"]])
    write_json(config.out / "latents.json", {**index, "clips": entries})
    print(f"wrote drafts of {len(chosen)} clips to {config.out}")


def _choose(config: DraftsStageConfig) -> tuple[dict[str, Any], list[tuple[Any, LatentClip]]]:
    """The index of the clips, and those entries of it that are to be drafted."""
    index = read_json(config.latents / "latents.json")
    drawn = {
        entry["file"]: folder / entry["file"]
        for folder in config.rollouts
        for entry in read_json(folder / "latents.json")["clips"]
    }
    found = []
    for entry in index["clips"]:
        if config.rollouts and entry["file"] not in drawn:
            continue
        past = drawn.get(entry["file"])
        clip = load_clip(config.latents / entry["file"], entry["caption"], past)
        if clip.latents.shape[0] >= config.shortest:
            found.append((entry, clip))
    if not found:
        raise ValueError(
            f"no clip of {config.latents} has {config.shortest} latent frames or more"
            + (" and rollouts" if config.rollouts else "")
        )
    if config.num_clips is not None:
        order = np.random.default_rng(config.seed).permutation(len(found))
        found = [found[i] for i in sorted(order[: config.num_clips])]
    return index, found


def _batches(pairs: list[tuple[Any, LatentClip]], size: int) -> list[list[tuple[Any, LatentClip]]]:
    """Neighbours of equal length, so many at a time."""
    batches: list[list[tuple[Any, LatentClip]]] = []
    for pair in pairs:
        last = batches[-1] if batches else []
        if not last or len(last) == size or last[0][1].latents.shape != pair[1].latents.shape:
            batches.append([])
        batches[-1].append(pair)
    return batches


def _drawn(
    weights: WorldWeights, clips: list[LatentClip], seeds: list[int], config: DraftsStageConfig
) -> Float[Tensor, "b t c y x"]:
    """Every latent frame drawn out of its past; the first one, which has none, is true."""
    device, network = config.device, weights.network
    truth, past, warped = [], [], []
    noises: list[list[Tensor]] = [[] for _ in config.sigmas]
    for clip, seed in zip(clips, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        share = config.largest_mix * torch.rand((), generator=generator)
        truth.append(clip.latents.float())
        drawn = clip.latents if clip.drawn is None else clip.drawn
        carried = clip.warped if clip.drawn_warped is None else clip.drawn_warped
        past.append(torch.lerp(clip.latents.float(), drawn.float(), share))
        warped.append(torch.lerp(clip.warped.float(), carried.float(), share))
        for noise in noises:
            noise.append(torch.randn(clip.latents.shape, generator=generator))
    seen = torch.stack(past).transpose(1, 2).to(device)
    b, _, t, *grid = seen.shape
    camera, transport = moving_camera(
        torch.stack([clip.poses for clip in clips]),
        torch.stack([clip.intrinsics for clip in clips]),
        image_size=config.picture,
        grid=(grid[0], grid[1]),
        config=network.config,
    )
    if network.config.warp_condition:
        camera = replace(camera, warped=torch.stack(warped).transpose(1, 2))
    camera = camera.to(device)
    features, mask = weights.text_encoder([clip.caption for clip in clips])
    dtype = network.dtype
    text = network.encode_text(features.to(dtype), mask)
    empty = network.initial_state(b, grid[0], grid[1], device=seen.device)
    clean = torch.zeros(b, t, device=device)
    before = network.unroll(
        seen.to(dtype), clean, text, camera, empty, transport=transport.to(device)
    ).states_before
    rows = [rearrange(torch.stack(n).to(seen), "b t c y x -> (b t) c 1 y x") for n in noises]
    rows = [noise.to(dtype) for noise in rows]
    drafts = sample_chunk(network, rows, config.sigmas, text, camera.frames_as_rows(), before)
    drafts = rearrange(drafts, "(b t) c 1 y x -> b t c y x", b=b)
    drafts[:, 0] = torch.stack(truth)[:, 0].to(device)
    return drafts


def _blurred(
    autoencoder: VideoAutoencoder, clips: list[LatentClip], config: DraftsStageConfig
) -> Float[Tensor, "b t c y x"]:
    """The true pictures made smaller, enlarged again and encoded."""
    truth = torch.stack([clip.latents.float() for clip in clips]).to(config.device)
    frames = autoencoder.decode(truth.transpose(1, 2)).float()
    b, _, f, h, w = frames.shape
    flat = rearrange(frames, "b c f h w -> (b f) c h w")
    small = F.interpolate(flat, scale_factor=1 / config.blur, mode="area")
    large = F.interpolate(small, size=(h, w), mode="bilinear")
    soft = rearrange(large, "(b f) c h w -> b c f h w", b=b, f=f)
    return autoencoder.encode(soft.to(autoencoder.latents_mean.dtype)).transpose(1, 2)
