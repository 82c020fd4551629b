"""A plain folder: mp4 files, each with a file of poses beside it.

    street.mp4
    street.txt      rows of 12 numbers (KITTI) or 8 (TUM: time x y z qx qy qz qw); .tum is TUM
    street.npz      or c2w (f, 4, 4), and maybe times (f,) and intrinsics
    intrinsics.json {"fx": ..., "fy": ..., "cx": ..., "cy": ..., "width": ..., "height": ...}

As many poses as frames belong to them one by one. Poses with times of their own may be fewer or
more; their clock then begins with the video.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sanawm_gym.camera import Intrinsics
from sanawm_gym.paths.pose_files import (
    KITTI_COLUMNS,
    TUM_COLUMNS,
    constant_lens,
    kitti_poses,
    read_npz,
    read_rows,
    tum_poses,
)
from sanawm_gym.paths.trajectory import Trajectory, check_times

from .config import IngestConfig
from .drive import Drive, Layout
from .pictures import VideoFile

_SUFFIXES = (".txt", ".tum", ".npz")


def _names(config: IngestConfig) -> list[str]:
    return sorted(path.stem for path in config.source.glob("*.mp4"))


def _read(config: IngestConfig, name: str) -> Drive:
    video = config.source / f"{name}.mp4"
    found = [video.with_suffix(suffix) for suffix in _SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        got = " and ".join(path.name for path in found) or "no poses"
        raise ValueError(f"got {got} beside {video}, expected one of {', '.join(_SUFFIXES)}")
    pictures = VideoFile(video)
    times, poses, lens = _poses(found[0])
    even = np.arange(len(pictures)) / pictures.fps if pictures.fps > 0 else None
    if times is not None and len(times) == len(pictures):
        even = times
    if even is None or (times is None and len(poses) != len(pictures)):
        raise ValueError(
            f"got {len(poses)} poses in {found[0]} and {len(pictures)} pictures, expected one pose "
            "a picture, or poses with times"
        )
    check_times(even, str(found[0]))
    return Drive(
        pictures=pictures,
        times=even,
        path=Trajectory(even if times is None else times, poses),
        intrinsics=_lens(config, pictures, lens),
    )


def _poses(
    path: Path,
) -> tuple[Float64[np.ndarray, " n"] | None, Float64[np.ndarray, "n 4 4"], np.ndarray | None]:
    """Times if the file has any, poses, and intrinsics if it has any."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        times = arrays.get("times")
        if times is not None and times.shape != (len(arrays["c2w"]),):
            raise ValueError(f"got times of {times.shape} in {path}, expected one a pose")
        return (
            None if times is None else times.astype(np.float64),
            arrays["c2w"],
            arrays.get("intrinsics"),
        )
    allowed = (TUM_COLUMNS,) if path.suffix == ".tum" else (TUM_COLUMNS, KITTI_COLUMNS)
    rows = read_rows(path, columns=allowed)
    if rows.shape[1] == KITTI_COLUMNS:
        return None, kitti_poses(rows, path), None
    return *tum_poses(rows, path), None


def _lens(config: IngestConfig, pictures: VideoFile, stored: np.ndarray | None) -> Intrinsics:
    """Lens of a video: of its poses' file, of intrinsics.json, or of an option."""
    width, height = pictures.width, pictures.height
    sidecar = config.source / "intrinsics.json"
    if stored is not None:
        return Intrinsics(*constant_lens(stored), width, height)
    if sidecar.is_file():
        try:
            lens = Intrinsics(**json.loads(sidecar.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"cannot read {sidecar} ({error}); expected fx, fy, cx, cy, width, height"
            ) from error
        if (lens.width, lens.height) != (width, height):
            raise ValueError(
                f"got {sidecar} for {lens.width}x{lens.height}, expected {width}x{height} like "
                f"{pictures.path.name}; state the lens in pixels of the videos"
            )
        return lens
    if config.intrinsics is not None:
        return Intrinsics(*config.intrinsics, width, height)
    if config.fov_deg is not None:
        return Intrinsics.from_fov(config.fov_deg, width, height)
    raise ValueError(
        "got no lens, expected intrinsics in the npz, intrinsics.json, --intrinsics or --fov-deg"
    )


FOLDER = Layout(
    names=_names,
    read=_read,
    camera_height=None,
    terms="The rights in the pictures are those of the videos they come from.",
)
