"""Stage ``rollouts``: what a network makes of the recordings once it is left alone with them.

Every encoded clip is begun from its first true frames and then drawn by the network along the
recorded cameras, in exactly the form in which it is driven. The result is stored in the layout of
the ``latents`` stage, frame for frame beside the truth. Mixed into the past that the ``streaming``
stage shows the network, it teaches it to draw the true next frame although its past has begun to go
wrong.

One file a clip, written whole or not at all; a second run goes on at the first batch that is not
complete, and ends with the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.train_wm.frames import to_bytes
from sanawm_gym.train_wm.latent_clips import LatentClip, load_clip, write_clip
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.run_record import begin_files
from sanawm_gym.train_wm.weights import load_world_weights
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.ground_warp import warped_latent
from sanawm_gym.worldmodel.noise import mix_seed
from sanawm_gym.worldmodel.world import WorldConfig, WorldModel


@dataclass(frozen=True, kw_only=True)
class RolloutsStageConfig:
    """Let a network draw the recorded clips itself, to train on its mistakes."""

    latents: Path
    """Folder written by the ``latents`` stage."""
    autoencoder: Path
    """Folder written by the ``vae`` stage."""
    network: Path
    """Folder written by the ``streaming`` or ``self-forcing`` stage."""
    out: Path
    """Folder for the drawn clips."""
    context: int = 1
    """True latent frames a clip begins with, >= 1."""
    shortest: int = 2
    """Latent frames; shorter clips are left out, > ``context``."""
    num_clips: int | None = None
    """Clips to draw, chosen by the seed, >= 1; None draws all."""
    batch_size: int = 16
    """Clips drawn together, >= 1."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels of the streaming sampler."""
    still_way: float = 0.75
    """Way of the camera [m] below which the picture is held, as in the world to come."""
    picture: tuple[int, int] = (72, 128)
    """Height and width of the pictures [px]."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of network and autoencoder."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of the noise and of the choice of clips."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        for name in ("context", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_clips is not None and self.num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {self.num_clips}")
        if self.shortest <= self.context:
            raise ValueError(
                f"shortest must exceed the context of {self.context}, got {self.shortest}"
            )


@torch.no_grad()
def run_rollouts_stage(config: RolloutsStageConfig) -> None:
    """Draw whatever is missing, then write the index.

    Raises:
        ValueError: If no clip is long enough, or ``out`` holds clips that were drawn otherwise.
    """
    torch.set_num_threads(config.threads)
    world = _world(config)
    index, chosen = _choose(config)
    begin_files(config)
    groups: defaultdict[int, list[tuple[str, LatentClip]]] = defaultdict(list)
    for entry, clip in chosen:
        groups[clip.latents.shape[0]].append((entry["file"], clip))
    numbers = {entry["file"]: number for number, entry in enumerate(index["clips"])}
    with tqdm(total=len(chosen), unit="clip", desc="drawing") as bar:
        for _, group in sorted(groups.items(), reverse=True):
            for start in range(0, len(group), config.batch_size):
                # Rounding depends on what a clip is drawn with: a batch is drawn whole or not.
                part = group[start : start + config.batch_size]
                bar.update(len(part))
                if all((config.out / name).exists() for name, _ in part):
                    continue
                seeds = [mix_seed(config.seed, numbers[name]) for name, _ in part]
                latents, warped = _draw(world, [clip for _, clip in part], seeds, config)
                for row, (name, clip) in enumerate(part):
                    write_clip(
                        config.out / name,
                        {
                            "latents": latents[row].half().cpu(),
                            "warped": warped[row].half().cpu(),
                            "poses": clip.poses,
                            "intrinsics": clip.intrinsics,
                        },
                    )
    write_json(config.out / "latents.json", {**index, "clips": [entry for entry, _ in chosen]})
    print(f"wrote {len(chosen)} drawn clips to {config.out}")


def _choose(config: RolloutsStageConfig) -> tuple[dict[str, Any], list[tuple[Any, LatentClip]]]:
    """The index of the clips, and those entries of it that are to be drawn."""
    index = read_json(config.latents / "latents.json")
    found = []
    for entry in index["clips"]:
        clip = load_clip(config.latents / entry["file"], entry["caption"])
        if clip.latents.shape[0] >= config.shortest:
            found.append((entry, clip))
    if not found:
        raise ValueError(f"no clip of {config.latents} has {config.shortest} latent frames or more")
    if config.num_clips is not None:
        order = np.random.default_rng(config.seed).permutation(len(found))
        found = [found[i] for i in sorted(order[: config.num_clips])]
    return index, found


def _world(config: RolloutsStageConfig) -> WorldModel:
    weights = load_world_weights(config.network)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    height, width = config.picture
    return WorldModel(
        WorldConfig(height=height, width=width, sigmas=config.sigmas, still_way=config.still_way),
        weights.network.eval().to(config.device, dtype),
        load_autoencoder(config.autoencoder, config.device).to(dtype),
        weights.text_encoder.eval().to(config.device),
    )


def _draw(
    world: WorldModel, clips: list[LatentClip], seeds: list[int], config: RolloutsStageConfig
) -> tuple[Float[Tensor, "b t c y x"], Float[Tensor, "b t c y x"]]:
    """Latents drawn along the clips' cameras and their warped pictures; the context is true."""
    autoencoder = world.autoencoder
    stride = autoencoder.config.temporal_stride
    truth = torch.stack([clip.latents.float() for clip in clips])
    given = config.context
    head = truth[:, :given].transpose(1, 2).to(autoencoder.latents_mean)
    pictures = np.stack([to_bytes(frames) for frames in autoencoder.decode(head).float()])
    poses = torch.stack([clip.poses for clip in clips])
    lens = torch.stack([clip.intrinsics for clip in clips])
    first = stride * (given - 1) + 1
    state = world.start(
        pictures,
        prompts=[clip.caption for clip in clips],
        intrinsics=lens.numpy(),
        seeds=seeds,
        poses=poses[:, :first].numpy(),
    )
    latents = [truth[:, :given]]
    warped = [torch.stack([clip.warped[:given].float() for clip in clips])]
    for begin in range(first, poses.shape[1], stride):
        following = poses[:, begin : begin + stride]
        carried = warped_latent(
            autoencoder,
            state.picture,
            state.last_pose,
            following,
            lens,
            world.network.config.warp_sharpening,
        )
        warped.append(carried.transpose(1, 2).cpu())
        _, state = world.step(state, following.numpy())
        latents.append(state.latent[:, None].cpu())
    return torch.cat(latents, dim=1), torch.cat(warped, dim=1)
