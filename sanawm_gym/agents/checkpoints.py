"""Checkpoints of an agent in training: one folder each, complete or absent.

    checkpoints/000020480/model.zip      SB3's own file: networks, optimiser, counters
    checkpoints/000020480/replay.npz     what was experienced, of algorithms that learn from it
    checkpoints/000020480/state.json     what the run knows beside its model

A folder is written under another name and renamed when it is complete; then the older ones go.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sanawm_gym.agents.replay import ImageReplay
from sanawm_gym.worldmodel.folder import read_json, write_json

_FOLDER, _MODEL, _REPLAY, _STATE = "checkpoints", "model.zip", "replay.npz", "state.json"


def save_checkpoint(out: Path, model: BaseAlgorithm, state: dict[str, Any]) -> Path:
    """Write the checkpoint of this moment and remove earlier ones.

    Args:
        out: Folder of the run.
        model: With its counters at the moment that is kept.
        state: What else belongs to it, as json holds it.
    """
    root = out / _FOLDER
    target = root / f"{model.num_timesteps:09d}"
    partial = root / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / _MODEL).open("wb") as file:
        model.save(file)
        file.flush()
        os.fsync(file.fileno())
    replay = getattr(model, "replay_buffer", None)
    if isinstance(replay, ImageReplay):
        replay.save(partial / _REPLAY)
    write_json(partial / _STATE, state)
    # Begun anew in the same folder, a run may come to the same number again.
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    for other in root.iterdir():
        if other != target:
            shutil.rmtree(other)
    return target


def newest_checkpoint(out: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    folders = [path for path in (out / _FOLDER).glob("*") if path.name.isdigit()]
    return max(folders, key=lambda path: int(path.name), default=None)


def model_file(checkpoint: Path) -> Path:
    """SB3's file in a checkpoint."""
    return checkpoint / _MODEL


def load_rest(checkpoint: Path, model: BaseAlgorithm) -> dict[str, Any]:
    """Give a loaded model its experience back.

    Returns:
        What :func:`save_checkpoint` was given as `state`.

    Raises:
        ValueError: If a file is missing or of another kind.
    """
    replay = getattr(model, "replay_buffer", None)
    if isinstance(replay, ImageReplay):
        replay.load(checkpoint / _REPLAY)
    return read_json(checkpoint / _STATE)
