"""The refiner's files in the folder of a world."""

from __future__ import annotations

from pathlib import Path

from sanawm_gym.worldmodel.folder import load_weights, read_config, save_module

from .config import RefinerConfig
from .model import Refiner

_NAME = "refiner"


def load_refiner(folder: Path, chunk_size: int) -> Refiner:
    """Refiner of a world's folder, in float32.

    Args:
        folder: The world.
        chunk_size: Latent frames the world draws a step.

    Raises:
        ValueError: If the world has none, or it is for chunks of another length.
    """
    if not (folder / f"{_NAME}.json").is_file():
        raise ValueError(f"{folder} has no refiner: use a world that ships one, or refine=False")
    config = read_config(folder / f"{_NAME}.json", RefinerConfig)
    if config.block_frames != chunk_size:
        raise ValueError(
            f"the refiner of {folder} takes {config.block_frames} latent frames at once, expected "
            f"{chunk_size}, which its network draws"
        )
    refiner = Refiner(config)
    load_weights(folder, _NAME, refiner)
    return refiner


def save_refiner(folder: Path, refiner: Refiner | None) -> None:
    """Write a world's refiner, if it has one."""
    if refiner is not None:
        save_module(folder, _NAME, refiner, refiner.config)
