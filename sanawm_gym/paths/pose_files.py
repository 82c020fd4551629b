"""Files of poses: rows of numbers as KITTI and TUM have them, and c2w matrices of numpy."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from .trajectory import from_quaternions, orthonormal

KITTI_COLUMNS = 12
TUM_COLUMNS = 8
_SAME_LENS = 0.01
"""Relative change of a focal length that is none."""


def read_rows(
    path: Path, *, columns: tuple[int, ...], separators: str = ""
) -> Float64[np.ndarray, "n c"]:
    """Numbers of a text file, row by row; lines that begin with # are skipped.

    Args:
        path: File to read.
        columns: Numbers a row may have; all rows have the same.
        separators: Characters that stand between numbers beside blanks.

    Raises:
        ValueError: If the file is missing or holds anything else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} ({error}); expected a text file") from error
    blank = str.maketrans(separators, " " * len(separators))
    lines = [line.translate(blank) for line in lines]
    rows = [(i, line.split()) for i, line in enumerate(lines, 1) if line.split("#")[0].strip()]
    wanted = " or ".join(str(number) for number in columns)
    if not rows:
        raise ValueError(f"got no rows in {path}, expected {wanted} numbers a row")
    for number, row in rows:
        if len(row) != len(rows[0][1]) or len(row) not in columns:
            raise ValueError(
                f"got {len(row)} columns in line {number} of {path}, expected {wanted} numbers in "
                "every row; is the file complete?"
            )
    try:
        return np.array([row for _, row in rows], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"got words in {path} ({error}), expected {wanted} numbers") from error


def kitti_poses(rows: Float64[np.ndarray, "n 12"], path: Path) -> Float64[np.ndarray, "n 4 4"]:
    """Poses out of the first three rows of each matrix [m]."""
    return orthonormal(rows.reshape(-1, 3, 4), str(path))


def tum_poses(
    rows: Float64[np.ndarray, "n 8"], path: Path
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, "n 4 4"]]:
    """Times [s] and poses out of rows of time, position [m] and quaternion (x, y, z, w)."""
    return rows[:, 0], from_quaternions(rows[:, 1:4], rows[:, 4:], str(path))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz file that holds at least `c2w`.

    Raises:
        ValueError: If it cannot be read or has no `c2w` of shape (f, 4, 4).
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: np.asarray(kept[name]) for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"cannot read {path} ({error}); expected an npz file") from error
    poses = arrays.get("c2w")
    if poses is None or poses.ndim != 3 or poses.shape[1:] not in ((4, 4), (3, 4)):
        got = "no c2w" if poses is None else f"c2w of shape {poses.shape}"
        raise ValueError(f"got {got} in {path}, expected c2w of shape (f, 4, 4)")
    arrays["c2w"] = orthonormal(poses.astype(np.float64), str(path))
    return arrays


def read_array(path: Path, columns: tuple[int, ...]) -> np.ndarray:
    """An npy file, whatever it is called, of rows of one shape.

    Args:
        path: File to read.
        columns: Shape of a row.

    Raises:
        ValueError: If it cannot be read or holds something else.
    """
    try:
        array = np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path} ({error}); expected an array of numpy") from error
    if isinstance(array, Mapping) or array.shape[1:] != columns or not len(array):
        raise ValueError(
            f"got an array of {array.shape} in {path}, expected (n, {', '.join(map(str, columns))})"
        )
    return array.astype(np.float64)


def constant_lens(stored: np.ndarray) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy [px] out of four numbers or a 3x3 matrix, for all frames or for each of them.

    Raises:
        ValueError: If the shape is another one or the lens changes.
    """
    if stored.shape[-2:] == (3, 3):
        stored = stored[..., (0, 1, 0, 1), (0, 1, 2, 2)]
    if stored.shape[-1:] != (4,) or stored.ndim > 2:
        raise ValueError(
            f"got intrinsics of shape {stored.shape}, expected (4,), (3, 3), (f, 4) or (f, 3, 3)"
        )
    rows = stored.reshape(-1, 4).astype(np.float64)
    fx, fy, cx, cy = rows[0].tolist()
    if not np.abs(rows - rows[0]).max() <= _SAME_LENS * fx:
        raise ValueError(
            "got a lens that changes, expected one for the whole video; cut it where it zooms"
        )
    return fx, fy, cx, cy
