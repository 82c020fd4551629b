"""Files of camera paths, read by their name and their columns, and written.

    path.npz     c2w (n, 4, 4), maybe intrinsics, times or fps: what SANA-WM-Bench has
    poses.npy    (n, 4, 4), with intrinsics.npy beside it: what LingBot-World takes
    path.txt     12 numbers a row, the upper rows of the matrix (KITTI), or 8 (TUM)
    path.tum     time x y z qx qy qz qw

KITTI, npy and npz without a clock have one pose a frame at a rate that nobody says; 16 Hz is taken
unless the caller knows better.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from .camera_path import FPS, CameraPath, sampled
from .pose_files import (
    KITTI_COLUMNS,
    TUM_COLUMNS,
    constant_lens,
    kitti_poses,
    read_array,
    read_npz,
    read_rows,
    tum_poses,
)
from .trajectory import Trajectory, check_times, orthonormal

SUFFIXES = (".npz", ".npy", ".txt", ".tum", ".kitti")
_EVEN = 1e-3
"""Relative unevenness of the steps of a clock that is none."""
_WHOLE = 1e-5
"""Relative distance from a whole number of Hz that is rounding; a minute drifts by 0.6 ms."""


def read_path(path: str | Path, *, fps: float = FPS, file_fps: float | None = None) -> CameraPath:
    """A camera path at the clock of a world.

    Args:
        path: File; its suffix says what it is.
        fps: Clock of the path that comes back [Hz]; poses at another one are interpolated.
        file_fps: Clock of the file [Hz], where it has none of its own.

    Raises:
        ValueError: If the file is missing, damaged or of an unknown kind, a pose is not rigid, the
            times do not rise, the lens changes, or the file has a clock and `file_fps` is given.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: got {path}, which is not a file; expected {_kinds()}")
    if file_fps is not None and not file_fps > 0:
        raise ValueError(f"path: got file_fps={file_fps}, expected a positive number of Hz")
    times, own_fps, poses, lens = _read(path)
    if file_fps is not None and (times is not None or own_fps is not None):
        raise ValueError(
            f"path: got file_fps={file_fps:g} for {path}, which has a clock of its own; leave it "
            "out"
        )
    if times is not None and len(times) > 1:
        check_times(times, str(path))
        own_fps = _even_rate(times)
        if own_fps is None:
            return sampled(Trajectory(times, poses), fps, lens)
    native = next((rate for rate in (own_fps, file_fps) if rate is not None), FPS)
    return CameraPath(poses, native, lens).at_clock(fps)


def read_key_poses(path: str | Path) -> Float64[np.ndarray, "n 4 4"]:
    """Poses of a file as they stand there, whatever its clock.

    Raises:
        ValueError: As `read_path`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: got {path}, which is not a file; expected {_kinds()}")
    return _read(path)[2]


def write_path(path: CameraPath, file: str | Path) -> None:
    """Write a path in the layout of the file's suffix, replaced whole.

    npz holds `c2w`, `fps`, `num_frames` and, where known, `intrinsics` (n, 3, 3); npy the poses,
    with `intrinsics.npy` (n, 4) beside it where known; txt and kitti twelve numbers a row; tum
    times and quaternions.

    Raises:
        ValueError: If the suffix is unknown.
    """
    file = Path(file)
    writer = _WRITERS.get(file.suffix)
    if writer is None:
        raise ValueError(f"path: got {file}, expected {_kinds()}")
    if file.suffix == ".npy" and path.lens is not None:
        lens = np.tile(np.array(path.lens), (path.num_frames, 1))
        _replace(file.with_name("intrinsics.npy"), _npy(lens))
    _replace(file, writer(path))


def _read(
    path: Path,
) -> tuple[
    Float64[np.ndarray, " n"] | None,
    float | None,
    Float64[np.ndarray, "n 4 4"],
    tuple[float, float, float, float] | None,
]:
    """Times or rate if the file has any, poses, and the lens if it has one."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        times, rate, stored = (arrays.get(key) for key in ("times", "fps", "intrinsics"))
        if times is not None and times.shape != (len(arrays["c2w"]),):
            raise ValueError(f"got times of {times.shape} in {path}, expected one a pose")
        return (
            None if times is None else times.astype(np.float64),
            None if rate is None or times is not None else float(rate.item()),
            arrays["c2w"],
            None if stored is None else constant_lens(stored),
        )
    if path.suffix == ".npy":
        poses = orthonormal(read_array(path, (4, 4)), str(path))
        beside = path.with_name("intrinsics.npy")
        lens = constant_lens(_any_array(beside)) if beside.is_file() else None
        return None, None, poses, lens
    if path.suffix not in SUFFIXES:
        raise ValueError(f"path: got {path}, expected {_kinds()}")
    columns = {".tum": (TUM_COLUMNS,), ".kitti": (KITTI_COLUMNS,)}
    rows = read_rows(path, columns=columns.get(path.suffix, (TUM_COLUMNS, KITTI_COLUMNS)))
    if rows.shape[1] == KITTI_COLUMNS:
        return None, None, kitti_poses(rows, path), None
    times, poses = tum_poses(rows, path)
    return times, None, poses, None


def _any_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path} ({error}); expected an array of numpy") from error


def _even_rate(times: Float64[np.ndarray, " n"]) -> float | None:
    """Rate of an even clock, a whole number of Hz where it is one up to rounding [Hz]."""
    steps = np.diff(times)
    mean = float(times[-1] - times[0]) / len(steps)
    if np.abs(steps - mean).max() > _EVEN * mean:
        return None
    rate = 1.0 / mean
    return float(round(rate)) if abs(rate - round(rate)) < _WHOLE * rate else rate


def _kinds() -> str:
    return f"a file of poses ({', '.join(SUFFIXES)}); see docs/camera_paths.md"


def _npz(path: CameraPath) -> bytes:
    arrays = {
        "c2w": path.poses,
        "fps": np.array(path.fps),
        "num_frames": np.array(path.num_frames),
    }
    if path.lens is not None:
        fx, fy, cx, cy = path.lens
        matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        arrays["intrinsics"] = np.tile(matrix, (path.num_frames, 1, 1))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _kitti(path: CameraPath) -> bytes:
    return _rows(path.poses[:, :3].reshape(-1, KITTI_COLUMNS))


def _tum(path: CameraPath) -> bytes:
    times = np.arange(path.num_frames) / path.fps
    turns = Rotation.from_matrix(path.poses[:, :3, :3]).as_quat()
    return _rows(np.concatenate([times[:, None], path.poses[:, :3, 3], turns], axis=1))


def _rows(rows: Float64[np.ndarray, "n c"]) -> bytes:
    return "".join(" ".join(f"{x:.17g}" for x in row) + "\n" for row in rows).encode()


_WRITERS: dict[str, Callable[[CameraPath], bytes]] = {
    ".npz": _npz,
    ".npy": lambda path: _npy(path.poses),
    ".txt": _kitti,
    ".kitti": _kitti,
    ".tum": _tum,
}


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
