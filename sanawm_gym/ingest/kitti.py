"""KITTI odometry: numbered sequences of png files, poses of the left grey camera.

A source holds these:

sequences/00/calib.txt          P0: ... P3:, projections of the rectified cameras, 3x4
sequences/00/times.txt          seconds, one a picture
sequences/00/image_2/000000.png (or image_0)
poses/00.txt                    12 numbers a row: camera 0 in the frame of its first picture
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sanawm_gym.camera import Intrinsics
from sanawm_gym.paths.pose_files import KITTI_COLUMNS, kitti_poses, read_rows
from sanawm_gym.paths.trajectory import Trajectory, check_times

from .config import IngestConfig
from .drive import Drive, Layout
from .pictures import ImageFiles

_CAMERAS = ("2", "0")
"""Cameras by preference: left colour, left grey."""


def _names(config: IngestConfig) -> list[str]:
    folder = config.source / "sequences"
    return sorted(path.name for path in folder.glob("*") if path.is_dir())


def _read(config: IngestConfig, name: str) -> Drive:
    folder = config.source / "sequences" / name
    camera = next((c for c in _CAMERAS if (folder / f"image_{c}").is_dir()), None)
    if camera is None:
        raise ValueError(f"got no image_2 or image_0 in {folder}, expected a folder of png files")
    files = sorted((folder / f"image_{camera}").glob("*.png"))
    if not files:
        raise ValueError(f"got no png file in {folder / f'image_{camera}'}, expected pictures")
    times = read_rows(folder / "times.txt", columns=(1,))[:, 0]
    pose_file = config.source / "poses" / f"{name}.txt"
    if not pose_file.is_file():
        raise ValueError(f"got no {pose_file}; sequences 11 to 21 were published without poses")
    poses = kitti_poses(read_rows(pose_file, columns=(KITTI_COLUMNS,)), pose_file)
    if not len(files) == len(times) == len(poses):
        raise ValueError(
            f"got {len(files)} pictures, {len(times)} times and {len(poses)} poses in {folder}, "
            "expected as many of each; is the download complete?"
        )
    check_times(times, str(folder / "times.txt"))
    projection = _projection(folder / "calib.txt", f"P{camera}")
    pictures = ImageFiles(files)
    return Drive(
        pictures=pictures,
        times=times,
        path=Trajectory(times, poses @ _first_from_camera(projection)),
        intrinsics=Intrinsics(
            fx=float(projection[0, 0]),
            fy=float(projection[1, 1]),
            # KITTI counts from the middle of the first pixel, we from its edge.
            cx=float(projection[0, 2]) + 0.5,
            cy=float(projection[1, 2]) + 0.5,
            width=pictures.width,
            height=pictures.height,
        ),
    )


def _projection(path: Path, name: str) -> Float64[np.ndarray, "3 4"]:
    """One matrix of calib.txt: K [R | t] with R = 1, from camera 0 to the camera's pixels."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = {key.strip(): rest.split() for key, _, rest in (ln.partition(":") for ln in lines)}
        return np.array(rows[name], dtype=np.float64).reshape(3, 4)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"cannot read {name} in {path} ({error}); expected `{name}:` and 12 numbers"
        ) from error


def _first_from_camera(projection: Float64[np.ndarray, "3 4"]) -> Float64[np.ndarray, "4 4"]:
    """Pose of a rectified camera in the frame of camera 0: beside it, turned alike."""
    pose = np.eye(4)
    pose[:3, 3] = -np.linalg.solve(projection[:, :3], projection[:, 3])
    return pose


KITTI = Layout(
    names=_names,
    read=_read,
    camera_height=1.65,
    terms="KITTI is CC BY-NC-SA 3.0: not for commercial use, and neither are worlds trained on it.",
)
