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
from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld
from sanawm_gym.worldmodel.official.layout import denied, is_release
from sanawm_gym.worldmodel.world_state import WorldState

from .released import ReleasedState, ReleasedWorld

World = WorldModel | ReleasedWorld
"""What a drive can be drawn by."""
Memory = WorldState | ReleasedState
"""What either remembers."""
_SHIFT = 8.0
"""Of a schedule asked for by its length: most of the steps belong to high noise."""


def shared_world(
    name: str | os.PathLike[str],
    *,
    device: str = "cpu",
    dtype: str = "auto",
    sampler_steps: int | None = None,
    guidance: float | None = None,
    refine: bool = False,
    backend: str = "auto",
) -> WorldModel:
    """A world from a bundled name, a folder or a hub id.

    Args:
        name: See `WorldModel.from_pretrained`.
        device: Torch device.
        dtype: `float32`, `bfloat16` or `auto`.
        sampler_steps: Denoising steps a decision; None keeps the schedule the world came with.
        guidance: See `WorldConfig.guidance`; None keeps the world's.
        refine: Show what the world's refiner makes of the drawn pictures.
        backend: `auto`, `plain`, `fused` or `openvino`.

    Raises:
        ValueError: If there is no such world, device, dtype or backend, or no refiner where one is
            wanted.
        ModuleNotFoundError: If the backend's package is missing, naming the extra.
    """
    world = _load(os.fspath(name), _check_device(device), dtype, refine, backend)
    config = world.config
    if sampler_steps is not None and sampler_steps != len(config.sigmas):
        even = torch.linspace(1.0, 0.0, sampler_steps + 1, dtype=torch.float64)
        levels = shift_sigma(even, _SHIFT)
        config = dataclasses.replace(config, sigmas=tuple(levels[:-1].tolist()))
    if guidance is not None:
        config = dataclasses.replace(config, guidance=guidance)
    if config == world.config:
        return world
    return WorldModel(
        config,
        world.network,
        world.autoencoder,
        world.text_encoder,
        world.heads,
        world.refiner,
        world.engine,
    )


def world_to_drive(
    name: str | os.PathLike[str],
    *,
    release: OfficialConfig | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    sampler_steps: int | None = None,
    guidance: float | None = None,
    refine: bool = False,
    backend: str = "auto",
) -> World:
    """A world of this project (see `shared_world`), or a released one.

    Args:
        name: Bundled name, folder or hub id of either kind.
        release: How released weights are loaded; None as released.
        device: Torch device.
        dtype: `float32`, `bfloat16` or `auto`.
        sampler_steps: Of a world of this project.
        guidance: Scale of the prompt; None keeps the world's.
        refine: Show refined pictures.
        backend: Of a world of this project.

    Raises:
        ValueError: If there is no such world, or it cannot be driven or run so.
        ModuleNotFoundError: If a package is missing, naming the extra.
    """
    if not is_release(os.fspath(name)):
        if release is not None:
            raise ValueError(
                f"release: got {release} for the world {denied(os.fspath(name))}, expected None; "
                "leave it out, or give the folder of a release"
            )
        return shared_world(
            name,
            device=device,
            dtype=dtype,
            sampler_steps=sampler_steps,
            guidance=guidance,
            refine=refine,
            backend=backend,
        )
    if backend != "auto" or sampler_steps is not None or guidance is not None:
        raise ValueError(
            f"backend, sampler_steps, guidance: got {backend!r}, {sampler_steps} and {guidance} "
            "for released weights, expected 'auto', None and None: there is one form of them, "
            "distilled to its own steps; guidance is part of release.sampling"
        )
    given = release or OfficialConfig()
    plain = dataclasses.replace(given, device="cpu", dtype="auto", refine="no")
    if given != plain:
        raise ValueError(
            f"release: got device={given.device!r}, dtype={given.dtype!r}, refine={given.refine!r},"
            " expected them to be left out there; give the environment's own device, dtype, refine"
        )
    config = dataclasses.replace(
        plain, device=_check_device(device), dtype=dtype, refine="blocks" if refine else "no"
    )
    return _load_released(os.fspath(name), config)


@lru_cache(maxsize=1)
def _load_released(name: str, config: OfficialConfig) -> ReleasedWorld:
    return ReleasedWorld(OfficialWorld.from_pretrained(name, config))


def latent_shape(world: World) -> tuple[int, int, int]:
    """Channels, rows and columns of a latent frame."""
    if isinstance(world, ReleasedWorld):
        return world.latent_shape
    codec = world.autoencoder.config
    cell = codec.spatial_stride
    return codec.latent_channels, world.height // cell, world.width // cell


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
