"""Rigid transforms: 4x4 poses in metres, named `world_from_camera` (the result stands left).

World frame: x east, y north, z up. Vehicle frame: x forward, y left, z up, origin at the rear
axle on the ground. Camera frame (OpenCV): x right, y down, z forward.

Axis legend: `b` batch, `t` time; a pose is `[4, 4]` float64. Every function treats the rows of a
batch one by one, so a row's result does not depend on its neighbours, bit for bit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

RIGID_TOLERANCE = (
    1e-5  # float32 files hold rotations to about 1e-7; hand-typed matrices to five digits
)


def invert_pose(pose: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """Invert rigid transforms: the inverse of (R, p) is (R^T, -R^T p).

    Args:
        pose: `a_from_b` [m].

    Returns:
        `b_from_a` [m].
    """
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def relative_poses(poses: Float[np.ndarray, "*b t 4 4"]) -> Float[np.ndarray, "*b t 4 4"]:
    """Express a trajectory in the frame of its first pose: P_0^-1 P_i, the first exactly I.

    Args:
        poses: `world_from_camera` [m].

    Returns:
        `first_from_camera` [m].
    """
    relative: np.ndarray = np.matmul(invert_pose(poses[..., :1, :, :]), poses)
    relative[..., 0, :, :] = np.eye(4)
    return relative


def planar_pose(
    x: Float[np.ndarray, "*b"] | float,
    y: Float[np.ndarray, "*b"] | float,
    yaw: Float[np.ndarray, "*b"] | float,
) -> Float[np.ndarray, "*b 4 4"]:
    """Build `world_from_vehicle` of a vehicle that stands flat on the ground.

    Args:
        x: Rear axle, east [m].
        y: Rear axle, north [m].
        yaw: Heading about z up, counter-clockwise from east [rad].

    Returns:
        `world_from_vehicle` [m].
    """
    x, y, yaw = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (x, y, yaw)))
    pose = np.zeros((*yaw.shape, 4, 4))
    rotation = Rotation.from_euler("z", yaw.reshape(-1, 1)).as_matrix()
    pose[..., :3, :3] = rotation.reshape(*yaw.shape, 3, 3)
    pose[..., 0, 3], pose[..., 1, 3] = x, y
    pose[..., 3, 3] = 1.0
    return pose


def is_rigid(
    poses: Float[np.ndarray, "*b 4 4"], tolerance: float = RIGID_TOLERANCE
) -> Bool[np.ndarray, "*b"]:
    """Tell which matrices are poses: finite, R^T R = I, det R = +1, last row 0 0 0 1.

    Args:
        poses: Any 4x4 matrices.
        tolerance: Largest absolute deviation of an entry of R^T R or of the last row.

    Returns:
        True where the matrix is a pose.
    """
    finite = np.isfinite(poses).all(axis=(-1, -2))
    safe = np.where(finite[..., None, None], poses, 0.0)
    rotation = safe[..., :3, :3]
    gram = np.matmul(np.swapaxes(rotation, -1, -2), rotation)
    orthogonal = np.abs(gram - np.eye(3)).max(axis=(-1, -2)) <= tolerance
    proper = np.linalg.det(rotation) > 0
    last_row = np.abs(safe[..., 3, :] - np.array([0.0, 0.0, 0.0, 1.0])).max(axis=-1) <= tolerance
    return np.asarray(finite & orthogonal & proper & last_row)


def check_poses(
    poses: Float[np.ndarray, "*b 4 4"], name: str = "poses"
) -> Float[np.ndarray, "*b 4 4"]:
    """Return the poses as they are, or say what is wrong with them.

    Args:
        poses: `world_from_camera` [m].
        name: What to call them in the message.

    Raises:
        ValueError: If an array is not `[*b, 4, 4]`, not finite or not rigid.
    """
    if poses.ndim < 2 or poses.shape[-2:] != (4, 4):
        raise ValueError(
            f"{name}: got shape {tuple(poses.shape)}, expected [..., 4, 4] camera-to-world "
            "matrices; append the row 0 0 0 1 to 3x4 matrices"
        )
    if not np.isfinite(poses).all():
        raise ValueError(
            f"{name}: got {int((~np.isfinite(poses)).sum())} non-finite entries, expected finite "
            "metres; look for a division by zero or a missing frame in the trajectory"
        )
    rigid = is_rigid(poses)
    if not rigid.all():
        raise ValueError(
            f"{name}: got {int((~rigid).sum())} of {rigid.size} matrices that are not rigid, "
            "expected a rotation of determinant +1 and the last row 0 0 0 1; re-orthonormalise the "
            "rotation or remove the scale"
        )
    return poses
