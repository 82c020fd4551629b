"""Training checkpoints: one file, replaced whole, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_NAME = "checkpoint.pt"

_FORMAT = 2
"""Of the content; in the first one lanes belonged to processes."""


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that a kill at any moment leaves the previous checkpoint whole."""
    target = folder / CHECKPOINT_NAME
    partial = target.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save({**content, "format": _FORMAT}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Content of the folder's checkpoint, or None where there is none yet.

    Raises:
        ValueError: If the file is there but cannot be read as tensors and plain values, or was
            written by an earlier version.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable checkpoint ({error}): delete it to start again"
        ) from error
    if content.get("format", 1) != _FORMAT:
        raise ValueError(
            f"{path} has format {content.get('format', 1)}, expected {_FORMAT}: go on with the "
            "version that wrote it, or begin anew from the weights it exported"
        )
    return content
