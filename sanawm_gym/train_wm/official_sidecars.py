"""What lies beside the zip files of the published latent cache: cameras, captions, scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

_SCORE_NAMES = ("score", "vmafmotion_score", "dover_score", "quality_pass", "entity_count",
                "unimatch_flow_score", "median")  # fmt: skip


def camera_table(
    cameras: Mapping[str, tuple[Float[np.ndarray, "_ 4 4"], Float[np.ndarray, "_ 4"]]],
) -> dict[str, np.ndarray]:
    """Arrays of a ``_camera.npz`` from the poses and intrinsics of every clip."""
    counts = np.array([len(poses) for poses, _ in cameras.values()], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    empty = np.zeros((0, 4, 4)), np.zeros((0, 4))
    poses, intrinsics = zip(empty, *cameras.values(), strict=True)
    return {
        "ids": np.array(list(cameras), dtype=np.str_),
        "ranges": np.stack([starts, counts], axis=1),
        "pose": np.concatenate(poses),
        "intrinsics": np.concatenate(intrinsics),
    }


def read_camera(
    table: Mapping[str, np.ndarray], key: str
) -> tuple[Float[np.ndarray, "f 4 4"], Float[np.ndarray, "f 4"]] | None:
    """Poses and intrinsics of a clip's raw frames, or None if the table does not have the clip.

    Args:
        table: Arrays of a ``_camera.npz``; empty where there is none.
        key: Name of the clip.

    Raises:
        ValueError: If the table is shorter than it says.
    """
    ids = table["ids"].tolist() if table else []
    if key not in ids:
        return None
    start, count = (int(n) for n in table["ranges"][ids.index(key)])
    rows = slice(start, start + count)
    poses, intrinsics = (table[name][rows].astype(np.float64) for name in ("pose", "intrinsics"))
    if len(poses) != count or len(intrinsics) != count:
        raise ValueError(f"the camera table ends before row {start + count}")
    return poses, intrinsics


def read_sidecar(path: Path) -> dict[str, Any]:
    """Entries of a sidecar by clip.

    Args:
        path: Its json: an object by key, or a list of objects with a ``key`` each. Where there is
            none, a jsonl of the same stem with such an object a line; where that is missing too,
            there are no entries.

    Raises:
        ValueError: If the file is not json.
    """
    lines = path.with_suffix(".jsonl")
    try:
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
        elif lines.is_file():
            text = lines.read_text(encoding="utf-8")
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            content = {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid json ({error}): fetch it again") from error
    if isinstance(content, list):
        content = {str(entry["key"]): entry for entry in content}
    return dict(content)


def read_score(entry: Any) -> float | None:
    """The number in a sidecar's entry, or None if it holds none.

    Args:
        entry: A number; a list, of which the mean counts; or an object, of which the value under a
            known name counts, else the first that has a number.
    """
    if isinstance(entry, int | float):
        return float(entry)
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        numbers = [float(x) for x in entry if isinstance(x, int | float)]
        return sum(numbers) / len(numbers) if numbers else None
    if isinstance(entry, Mapping):
        values = [entry[name] for name in _SCORE_NAMES if name in entry]
        scores = [read_score(value) for value in (*values, *entry.values())]
        return next((score for score in scores if score is not None), None)
    return None
