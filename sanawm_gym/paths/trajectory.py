"""A camera's path in time: poses at some moments, and by interpolation at all moments between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.transform import Rotation, Slerp

from sanawm_gym.geometry import is_rigid

_TYPED_TOLERANCE = 1e-3
"""Files round rotations to a few digits; they are made orthonormal again after this check."""
_QUATERNION_TOLERANCE = 1e-2
"""Same for the length of a quaternion."""


@dataclass(frozen=True)
class Trajectory:
    """Poses in time."""

    times: Float64[np.ndarray, " n"]
    """[s], rising."""
    poses: Float64[np.ndarray, "n 4 4"]
    """world_from_camera [m]."""

    def __post_init__(self) -> None:
        """Check that times rise and there are at least two."""
        check_times(self.times, "pose times")
        if len(self.times) != len(self.poses) or len(self.times) < 2:
            raise ValueError(
                f"poses: got {len(self.poses)} poses at {len(self.times)} times, expected as many "
                "of one as of the other, at least two"
            )

    def at(self, times: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, "m 4 4"]:
        """Poses at any times within the path: SLERP of rotations, straight lines of positions."""
        poses = np.tile(np.eye(4), (len(times), 1, 1))
        turns = Slerp(self.times, Rotation.from_matrix(self.poses[:, :3, :3]))
        poses[:, :3, :3] = turns(times).as_matrix()
        for axis in range(3):
            poses[:, axis, 3] = np.interp(times, self.times, self.poses[:, axis, 3])
        return poses


def check_times(times: Float64[np.ndarray, " n"], name: str) -> None:
    """Refuse times that are not finite or do not rise.

    Raises:
        ValueError: If so; the first offending row is named.
    """
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise ValueError(f"{name}: got {times[row]} in row {row}, expected seconds")
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls):
        row = int(falls[0])
        raise ValueError(
            f"{name}: got {times[row]:.6f} s and then {times[row + 1]:.6f} s (row {row}), expected "
            "rising seconds; sort the rows and remove doubles"
        )


def orthonormal(
    poses: Float[np.ndarray, "n 4 4"] | Float[np.ndarray, "n 3 4"], name: str
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses with exact rotations, out of matrices as files have them.

    Raises:
        ValueError: If an entry is not finite or a matrix is not nearly rigid.
    """
    full = np.tile(np.eye(4), (len(poses), 1, 1))
    full[:, : poses.shape[1]] = poses
    _refuse_non_finite(full, name)
    bad = np.flatnonzero(~is_rigid(full, _TYPED_TOLERANCE))
    if len(bad):
        raise ValueError(
            f"{name}: got {len(bad)} matrices that are not rigid (row {bad[0]} the first), "
            "expected rotations of determinant +1; remove the scale, and give camera-to-world"
        )
    full[:, :3, :3] = Rotation.from_matrix(full[:, :3, :3]).as_matrix()
    return full


def from_quaternions(
    positions: Float[np.ndarray, "n 3"], xyzw: Float[np.ndarray, "n 4"], name: str
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses out of positions [m] and quaternions with the scalar last.

    Raises:
        ValueError: If an entry is not finite or a quaternion is not of length 1.
    """
    _refuse_non_finite(np.concatenate([positions, xyzw], axis=1)[:, None], name)
    off = np.abs(np.linalg.norm(xyzw, axis=1) - 1)
    if off.max() > _QUATERNION_TOLERANCE:
        raise ValueError(
            f"{name}: got a quaternion of length {1 + off.max():g} (row {int(off.argmax())}), "
            "expected 1; is the order of the columns right?"
        )
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(xyzw).as_matrix()
    poses[:, :3, 3] = positions
    return poses


def _refuse_non_finite(values: Float[np.ndarray, "n a b"], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(
            f"{name}: got {len(bad)} poses that are not finite (row {bad[0]} the first), expected "
            "numbers in metres; remove the rows where tracking was lost"
        )
