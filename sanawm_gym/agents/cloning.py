"""Clone a driver from recordings: ``python -m sanawm_gym.agents.cloning --data DIR --out FILE``.

Every recorded frame carries the action a good driver would take from that very state, also where
the recorded driver was reckless or off course, so plain regression learns to recover. Pictures are
blurred, dimmed and grained at random, because the driver will also look at pictures that a world
model drew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.agents.cloned import ClonedDriver, ClonedDriverConfig
from sanawm_gym.episodes import EpisodeDataset


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """Training of the cloned driver."""

    data: Path
    """Dataset folder written by ``sanawm-gym record``."""
    out: Path
    """Safetensors file to write."""
    steps: int = 6000
    """Optimiser steps."""
    batch_size: int = 32
    """Frames a step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW, decayed to zero by a cosine."""
    frame_stride: int = 6
    """Every how many frames of an episode is used; neighbours are nearly equal."""
    held_out: float = 0.05
    """Share of the episodes, the last ones, kept for the error that is printed."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of weights, order and augmentation."""


@dataclass(frozen=True)
class _Examples:
    camera: UInt8[Tensor, "n h w 3"]
    speed: Float[Tensor, " n"]
    action: Float[Tensor, "n 2"]


def clone(config: CloningConfig) -> float:
    """Train a driver and write its weights.

    Returns:
        Mean absolute steering error on held-out episodes, in units of the action.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    train, held_out = _load(config)
    driver = ClonedDriver(ClonedDriverConfig())
    optimizer = torch.optim.AdamW(driver.parameters(), config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    bar = tqdm(range(config.steps), unit="step", mininterval=5)
    for _ in bar:
        index = torch.randint(len(train.speed), (config.batch_size,))
        camera, action = augment(train.camera[index], train.action[index])
        error = driver(camera, train.speed[index]) - action
        # Steering decides whether the car stays on the road; it weighs more than the pedals. With
        # equal weights fewer drives ended in another car and more beside the road.
        zero = torch.zeros_like(error[:, 0])
        steer = F.smooth_l1_loss(error[:, 0], zero, beta=0.05)
        loss = steer + 0.3 * F.smooth_l1_loss(error[:, 1], zero, beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(driver.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.4f}", refresh=False)
    driver.eval()
    with torch.no_grad():
        drawn = torch.cat(
            [
                driver(held_out.camera[i : i + 256], held_out.speed[i : i + 256])
                for i in range(0, len(held_out.speed), 256)
            ]
        )
    steer_error = float((drawn - held_out.action)[:, 0].abs().mean())
    partial = config.out.with_suffix(".partial")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half() for key, value in driver.state_dict().items()}, partial)
    os.replace(partial, config.out)
    print(f"wrote {config.out}; held-out mean absolute steering error {steer_error:.4f}")
    return steer_error


def augment(
    camera: UInt8[Tensor, "b h w 3"], action: Float[Tensor, "b 2"]
) -> tuple[UInt8[Tensor, "b h w 3"], Float[Tensor, "b 2"]]:
    """Mirror half of the pictures with their steering, dim all; blur and grain half of the batches.

    Blur and grain cost as much as the network's own pass, so they are drawn a batch, not a row.
    """
    b = len(camera)
    mirrored = torch.rand(b) < 0.5
    camera = torch.where(mirrored[:, None, None, None], camera.flip(2), camera)
    action = torch.where(mirrored[:, None], action * torch.tensor([-1.0, 1.0]), action)
    x = camera.permute(0, 3, 1, 2).float()
    if torch.rand(()) < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    if torch.rand(()) < 0.5:
        x = x + 5 * torch.rand(()) * torch.randn_like(x)
    x = x * (0.8 + 0.4 * torch.rand(b, 1, 1, 1)) + 20 * (torch.rand(b, 3, 1, 1) - 0.5)
    return x.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1), action


def _load(config: CloningConfig) -> tuple[_Examples, _Examples]:
    dataset = EpisodeDataset(config.data)
    total = len(dataset.episodes)
    num_held_out = max(1, round(config.held_out * total))
    parts: tuple[list[_Examples], list[_Examples]] = ([], [])
    for index in tqdm(range(total), desc="reading", unit="episode"):
        num_frames = dataset.episodes[index].num_frames
        columns = dataset.columns(index, 0, num_frames, ["speed", "expert_action"])
        keep = slice(0, num_frames, config.frame_stride)
        frames = dataset.frames(index, 0, num_frames)[keep]
        example = _Examples(
            torch.from_numpy(np.ascontiguousarray(frames)),
            torch.tensor(np.asarray(columns["speed"])[keep], dtype=torch.float32),
            torch.tensor(np.asarray(columns["expert_action"])[keep], dtype=torch.float32),
        )
        parts[index >= total - num_held_out].append(example)
    return _join(parts[0]), _join(parts[1])


def _join(examples: list[_Examples]) -> _Examples:
    return _Examples(
        torch.cat([e.camera for e in examples]),
        torch.cat([e.speed for e in examples]),
        torch.cat([e.action for e in examples]),
    )


if __name__ == "__main__":
    clone(tyro.cli(CloningConfig))
