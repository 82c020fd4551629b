"""World models by name, each loaded once a process and shared by all environments.

A `WorldModel` holds weights and no drive, so any number of environments may use one.
"""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache

import torch

from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.flow import shift_sigma

_SHIFT = 8.0
"""Of a schedule asked for by its length: most of the steps belong to high noise."""


def shared_world(
    name: str | os.PathLike[str],
    *,
    device: str = "cpu",
    dtype: str = "auto",
    sampler_steps: int | None = None,
    refine: bool = False,
    backend: str = "auto",
) -> WorldModel:
    """A world from a bundled name, a folder or a hub id.

    Args:
        name: See `WorldModel.from_pretrained`.
        device: Torch device.
        dtype: `float32`, `bfloat16` or `auto`.
        sampler_steps: Denoising steps a decision; None keeps the schedule the world came with.
        refine: Show what the world's refiner makes of the drawn pictures.
        backend: `auto`, `plain`, `fused` or `openvino`.

    Raises:
        ValueError: If there is no such world, device, dtype or backend, or no refiner where one is
            wanted.
        ModuleNotFoundError: If the backend's package is missing, naming the extra.
    """
    world = _load(os.fspath(name), _check_device(device), dtype, refine, backend)
    if sampler_steps is None or sampler_steps == len(world.config.sigmas):
        return world
    levels = shift_sigma(torch.linspace(1.0, 0.0, sampler_steps + 1, dtype=torch.float64), _SHIFT)
    config = dataclasses.replace(world.config, sigmas=tuple(levels[:-1].tolist()))
    return WorldModel(
        config,
        world.network,
        world.autoencoder,
        world.text_encoder,
        world.heads,
        world.refiner,
        world.engine,
    )


@lru_cache(maxsize=4)
def _load(name: str, device: str, dtype: str, refine: bool, backend: str) -> WorldModel:
    return WorldModel.from_pretrained(
        name, device=device, dtype=dtype, refine=refine, backend=backend
    )


def _check_device(device: str) -> str:
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device: got {device!r}, expected a torch device; pass 'cpu' or 'cuda'"
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device: got {device!r}, but torch sees no such GPU; expected 'cpu'; "
            "install torch for CUDA to use one"
        )
    return device
