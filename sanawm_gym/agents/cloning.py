"""Clone a driver: ``sanawm-gym train-agent bc --data DIR ... --out FILE``.

Every recorded frame carries the action a good driver would take from that very state, also where
the recorded driver was reckless or off course, so plain regression learns to recover. What a clone
itself gets into it learns from its own practice (:mod:`sanawm_gym.agents.practice`), and what the
road looks like when a world model draws it from recordings drawn again
(:mod:`sanawm_gym.agents.imagination`), given as further folders. Pictures are blurred, dimmed and
grained at random.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.agents.cloned import ClonedDriver, load_driver
from sanawm_gym.agents.examples import Examples, load_examples
from sanawm_gym.train_wm.run_record import RunRecord, describe_config, describe_inputs
from sanawm_gym.worldmodel.folder import write_json

_PEDAL_WEIGHT = 0.3
_BRAKE_WEIGHT = 3.0
_LOSS_EVERY = 20  # steps between two losses that are shown and kept


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """Train a driver by imitation of recorded good driving (behaviour cloning)."""

    data: tuple[Path, ...]
    """Folders written by ``sanawm-gym record``, at least one, and by
    ``python -m sanawm_gym.agents.practice`` and ``... .imagination``."""
    out: Path
    """Safetensors file to write; beside it a json file says what it was made with and how well."""
    init: Path | None = None
    """Weights to begin with, an earlier ``out``; None draws them."""
    steps: int = 6000
    """Optimiser steps."""
    batch_size: int = 32
    """Frames a step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW, decayed to zero by a cosine."""
    frame_stride: int = 6
    """Every how many frames of a recording is used, >= 1; neighbours are nearly equal."""
    held_out: float = 0.05
    """Share of the drives of a recording, the last ones, kept for the error that is printed."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Seed of weights, order and augmentation."""


def clone(config: CloningConfig) -> float:
    """Train a driver and write its weights.

    Returns:
        Mean absolute steering error on held-out episodes, in units of the action.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    train, held_out = load_examples(
        config.data, frame_stride=config.frame_stride, held_out=config.held_out
    )
    print(f"{len(train)} examples")
    driver = load_driver(config.init)
    optimizer = torch.optim.AdamW(driver.parameters(), config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    bar, losses = tqdm(range(config.steps), unit="step", mininterval=5), []
    for step in bar:
        index = torch.randint(len(train.speed), (config.batch_size,))
        drawn = driver(augment(train.camera[index]), train.speed[index])
        loss = driving_loss(drawn, train.action[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(driver.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % _LOSS_EVERY == 0:
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    steer_error, pedal_error = _errors(driver.eval(), held_out)
    partial = config.out.with_suffix(".partial")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half() for key, value in driver.state_dict().items()}, partial)
    os.replace(partial, config.out)
    inputs = describe_inputs(config)
    del inputs["out"]
    record = RunRecord(describe_config(config), inputs)
    write_json(
        config.out.with_suffix(".json"),
        {
            "algorithm": "bc",
            **record.describe(torch.device("cpu"), 1),
            "losses": losses,
            "held_out": {"steer": steer_error, "pedals": pedal_error},
        },
    )
    print(
        f"wrote {config.out}; held-out mean absolute error: steering {steer_error:.4f}, "
        f"pedals {pedal_error:.4f}"
    )
    return steer_error


def driving_loss(drawn: Float[Tensor, "b 2"], wanted: Float[Tensor, "b 2"]) -> Float[Tensor, ""]:
    """How far actions are from the good driver's.

    A single picture does not tell how fast the gap to the car in front closes, so its right pedal
    is uncertain, and the error of a missed brake is a collision while that of a missed throttle is
    a little time: an example weighs up to `1 + _BRAKE_WEIGHT` as much the harder it brakes.

    Args:
        drawn: The clone's actions.
        wanted: The good driver's.
    """
    steer = F.smooth_l1_loss(drawn[:, 0], wanted[:, 0], beta=0.05)
    pedals = F.smooth_l1_loss(drawn[:, 1], wanted[:, 1], beta=0.2, reduction="none")
    weight = 1 + _BRAKE_WEIGHT * (-wanted[:, 1]).clamp_min(0)
    # Steering decides whether the car stays on the road; it weighs more than the pedals.
    return steer + _PEDAL_WEIGHT * (weight * pedals).mean()


def augment(camera: UInt8[Tensor, "b h w 3"]) -> UInt8[Tensor, "b h w 3"]:
    """Dim all pictures; blur and grain half of the batches.

    Blur and grain cost much of the network's own pass, so they are drawn a batch, not a row.
    Pictures are not mirrored: a mirrored two-way road shows a car in its lane as one among oncoming
    cars, and a driver that has learnt both does not come back to its side.
    """
    b = len(camera)
    x = camera.permute(0, 3, 1, 2).contiguous().float()
    if torch.rand(()) < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    if torch.rand(()) < 0.5:
        x = x + 5 * torch.rand(()) * torch.randn_like(x)
    x = x * (0.8 + 0.4 * torch.rand(b, 1, 1, 1)) + 20 * (torch.rand(b, 3, 1, 1) - 0.5)
    return x.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _errors(driver: ClonedDriver, examples: Examples) -> tuple[float, float]:
    """Mean absolute errors of steering and pedals, in units of the action."""
    with torch.no_grad():
        drawn = torch.cat(
            [
                driver(examples.camera[i : i + 256], examples.speed[i : i + 256])
                for i in range(0, len(examples), 256)
            ]
        )
    steer, pedals = (drawn - examples.action).abs().mean(dim=0).tolist()
    return float(steer), float(pedals)


if __name__ == "__main__":
    clone(tyro.cli(CloningConfig))
