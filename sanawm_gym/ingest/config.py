"""What to ingest and how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FPS = 16.0
"""Clock of recordings [Hz]."""
FRAMES_PER_DECISION = 4
"""An episode has a multiple of this many frames, plus one."""


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Convert drives of a foreign layout into recordings that train a world."""

    layout: Literal["kitti", "comma2k19", "folder"]
    """kitti: KITTI odometry (sequences/NN, poses/NN.txt). comma2k19: segment folders with a video
    and global_pose. folder: mp4 files, each with a file of poses of the same stem: TUM (.txt,
    .tum), rows of KITTI (.txt) or c2w (.npz)."""
    source: Path
    """Folder to read, never written to."""
    out: Path
    """Folder to write; one with part of this very ingest is continued at the first drive that is
    missing."""
    camera_height: float | None = None
    """Camera above the road [m], 0.3 to 5. KITTI's is 1.65, comma2k19's 1.22; for folder measure
    it."""
    intrinsics: tuple[float, float, float, float] | None = None
    """Only folder: fx, fy, cx, cy in pixels of the videos, where no file says them; the middle of a
    picture is half its width."""
    fov_deg: float | None = None
    """Only folder: horizontal field of view of the videos [deg], 25 to 120, where nothing says
    more."""
    caption: str = "a drive along a road"
    """Caption of drives that captions.json in the source does not name."""
    seconds: float = 20.0
    """Longest episode [s], 1 to 600; longer drives are cut into equal parts."""
    min_seconds: float = 5.0
    """Shortest episode [s], at least 1; what is shorter is left out and counted."""
    width: int = 128
    """Width of the pictures [px], a multiple of 8."""
    height: int = 72
    """Height of the pictures [px], a multiple of 8."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1.0 <= self.min_seconds <= self.seconds <= 600.0:
            raise ValueError(
                f"ingest: got min_seconds={self.min_seconds}, seconds={self.seconds}, expected "
                "1 <= min_seconds <= seconds <= 600"
            )
        if min(self.width, self.height) < 16 or self.width % 8 or self.height % 8:
            raise ValueError(
                f"ingest: got pictures of {self.width}x{self.height}, expected multiples of 8 from "
                "16 up; try 128x72"
            )
        if self.camera_height is not None and not 0.3 <= self.camera_height <= 5.0:
            raise ValueError(
                f"ingest: got camera_height={self.camera_height}, expected 0.3 to 5 m above the "
                "road; measure from the ground to the lens"
            )
        lens = [name for name in ("intrinsics", "fov_deg") if getattr(self, name) is not None]
        if lens and (self.layout != "folder" or len(lens) > 1):
            raise ValueError(
                f"ingest: got {' and '.join(lens)} with layout {self.layout}, expected at most one "
                "of them and layout folder; the other layouts know their lens"
            )

    @property
    def max_frames(self) -> int:
        """Frames of the longest episode."""
        return int(self.seconds * FPS) // FRAMES_PER_DECISION * FRAMES_PER_DECISION + 1

    @property
    def min_frames(self) -> int:
        """Frames of the shortest episode."""
        return int(self.min_seconds * FPS) // FRAMES_PER_DECISION * FRAMES_PER_DECISION + 1


def read_captions(config: IngestConfig, names: list[str]) -> dict[str, str]:
    """Caption of every drive: that of captions.json, else the one of the config.

    Raises:
        ValueError: If captions.json is no table of captions by name, or names an unknown drive.
    """
    path = config.source / "captions.json"
    found: dict[str, str] = {}
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"captions: cannot read {path} ({error}); mend the JSON") from error
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise ValueError(
                f"captions: got something else in {path}, expected a table from the name of a "
                'drive to its caption, such as {"00": "a street in a town"}'
            )
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise ValueError(
                f"captions: got {', '.join(unknown[:5])} in {path}, expected names of drives "
                f"such as {', '.join(names[:5])}"
            )
    return {name: found.get(name, config.caption) for name in names}
