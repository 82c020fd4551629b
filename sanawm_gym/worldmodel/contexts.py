"""Start contexts: short clips with known cameras from which a drive through a world begins.

A bundled world ships some, so that no simulator is needed to begin. They lie in the world's folder
as ``contexts/NAME.mp4`` with one ``contexts/contexts.json`` for everything that is not a picture.

Axes: f raw frames, h rows, w columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sanawm_gym.camera import Intrinsics
from sanawm_gym.video import read_video, write_video
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.source import find_world

_INDEX = "contexts.json"
_GOOD_MATCH = 0.8
"""Share of the best match's score that is still a match."""


@dataclass(frozen=True)
class StartContext:
    """The last moments before a drive begins."""

    name: str
    """Id within the world."""
    frames: UInt8[np.ndarray, "f h w 3"]
    """RGB pictures at the world's clock."""
    poses: Float[np.ndarray, "f 4 4"]
    """world_from_camera of every frame relative to the first one [m]."""
    intrinsics: Intrinsics
    """Camera of the pictures."""
    caption: str
    """What they show."""
    speed: float
    """Speed at the last frame [m/s]."""
    steer: float
    """Steering angle at the last frame [rad], left positive."""
    camera_height: float
    """Height of the camera above the road [m]."""


def list_contexts(world: str | Path = "drive") -> list[str]:
    """Names of a world's start contexts, in order; empty where it ships none."""
    index = find_world(world) / "contexts" / _INDEX
    return sorted(read_json(index)) if index.is_file() else []


def matching_contexts(prompt: str, world: str | Path = "drive") -> list[str]:
    """Names of the start contexts that show most of what a prompt asks for, in order.

    A word of the prompt counts the logarithm of how rare it is among the world's captions (inverse
    document frequency). Kept are the contexts that reach `_GOOD_MATCH` of the best sum; all of
    them, where no caption has a word of the prompt.
    """
    index = find_world(world) / "contexts" / _INDEX
    entries: dict[str, Any] = read_json(index) if index.is_file() else {}
    words = {name: set(_words(entry["caption"])) for name, entry in entries.items()}
    asked = set(_words(prompt))
    rarity = {
        word: math.log((1 + len(words)) / (1 + sum(word in have for have in words.values())))
        for word in asked
    }
    scores = {name: sum(rarity[word] for word in asked & have) for name, have in words.items()}
    best = max(scores.values(), default=0.0)
    return sorted(name for name, score in scores.items() if score >= _GOOD_MATCH * best)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9-]+", text.lower())


def load_context(name: str, world: str | Path = "drive") -> StartContext:
    """One start context of a world.

    Raises:
        ValueError: If the world has no context of that name.
    """
    folder = find_world(world) / "contexts"
    entries: dict[str, Any] = read_json(folder / _INDEX) if (folder / _INDEX).is_file() else {}
    if name not in entries:
        raise ValueError(
            f"world {str(world)!r} has no start context {name!r}: expected one of "
            f"{sorted(entries)}, or an image file"
        )
    entry = entries[name]
    return StartContext(
        name=name,
        frames=read_video(folder / f"{name}.mp4"),
        poses=np.asarray(entry["poses"], dtype=np.float64),
        intrinsics=Intrinsics(**entry["intrinsics"]),
        caption=entry["caption"],
        speed=entry["speed"],
        steer=entry["steer"],
        camera_height=entry["camera_height"],
    )


def save_contexts(contexts: Sequence[StartContext], world_folder: Path, fps: float) -> None:
    """Write start contexts into a world's folder."""
    folder = world_folder / "contexts"
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {}
    for context in contexts:
        write_video(folder / f"{context.name}.mp4", context.frames, fps=fps, crf=14)
        intrinsics = context.intrinsics
        entries[context.name] = {
            "poses": context.poses.round(6).tolist(),
            "intrinsics": {
                "fx": intrinsics.fx,
                "fy": intrinsics.fy,
                "cx": intrinsics.cx,
                "cy": intrinsics.cy,
                "width": intrinsics.width,
                "height": intrinsics.height,
            },
            "caption": context.caption,
            "speed": context.speed,
            "steer": context.steer,
            "camera_height": context.camera_height,
        }
    write_json(folder / _INDEX, entries)
