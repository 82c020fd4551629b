"""Actions into the poses of a camera, and their spaces.

Continuous actions are velocities in the camera's own axes: from one raw frame to the next it goes
straight on in the axes it has, and turns then (`paths.camera_path.from_steps` is the same motion).
Keys walk upright over a level plane; see `paths.keys`.

Axes: b rows, f raw frames of a decision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sanawm_gym.geometry import invert_pose
from sanawm_gym.paths.keys import KeyMapping, Walker

AXES = ("forward", "left", "up", "turn left", "tilt up", "roll right")
PAIRS = ("ws", "ad", "ik", "jl")
"""Keys of each number of a `keys` action: 0 is neither, 1 the first, 2 the second."""
KEYS = ("", *"wsadikjl")
"""Key of a `key` action by its number; 0 is none."""
# Rows: right, down and forward of the camera, out of an action's forward, left and up.
_CAMERA_FROM_ACTION = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
# About right, down and forward, out of turn left, tilt up and roll right.
_TURNS_FROM_ACTION = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def action_space(kind: str) -> spaces.Space[Any]:
    """Six numbers in [-1, 1], four of 0 to 2, or one of 0 to 8; by `ExploreConfig.action`."""
    if kind == "continuous":
        return spaces.Box(-1.0, 1.0, (len(AXES),), np.float32)
    return spaces.MultiDiscrete([3] * len(PAIRS)) if kind == "keys" else spaces.Discrete(len(KEYS))


def motion_space(max_speed: float, max_turn_deg: float) -> spaces.Box:
    """Velocity of the camera along and about `AXES` [m/s, rad/s].

    Twice the limits: held keys add up, and a tilted walker's way has two parts in its axes.
    """
    high = np.repeat([2.0 * max_speed, 2.0 * math.radians(max_turn_deg)], 3).astype(np.float32)
    return spaces.Box(-high, high, dtype=np.float32)


def read_actions(actions: Any, kind: str, num_rows: int | None) -> np.ndarray:
    """Check actions; continuous ones beyond [-1, 1] are clipped.

    Args:
        actions: Of every row, or of the only one.
        kind: See `action_space`.
        num_rows: Rows; None for a single action without a batch axis.

    Raises:
        ValueError: If the shape is wrong, or a value is no number or out of range.
    """
    space = action_space(kind)
    batch = () if num_rows is None else (num_rows,)
    shape = batch + (space.shape or ())
    try:
        array = np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"action: got {actions!r}, expected numbers of shape {shape}") from error
    if array.shape != shape:
        raise ValueError(
            f"action: got shape {array.shape}, expected {shape} ({kind}); a single environment "
            "takes no batch axis, a vector environment one row a camera"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"action: got {array.tolist()}, expected finite numbers; look for a diverged policy"
        )
    if kind == "continuous":
        return np.clip(array, -1.0, 1.0)
    largest = 2 if kind == "keys" else len(KEYS) - 1
    if (array != np.floor(array)).any() or (array < 0).any() or (array > largest).any():
        raise ValueError(
            f"action: got {array.tolist()}, expected whole numbers from 0 to {largest}"
        )
    return array.astype(np.int64)


def fly(
    poses: Float64[np.ndarray, "b 4 4"],
    actions: Float64[np.ndarray, "b 6"],
    *,
    way: float,
    turn: float,
    num_frames: int,
    lowest: float,
) -> Float64[np.ndarray, "b f 4 4"]:
    """Cameras at every raw frame of a decision in which an action is held.

    Args:
        poses: `world_from_camera` before it [m].
        actions: Shares of the limits, by `AXES`.
        way: Greatest way along an axis in a frame [m].
        turn: Greatest turn about an axis in a frame [rad].
        num_frames: Frames of the decision.
        lowest: Height at which the ground holds a camera [m].
    """
    ways = way * actions[:, :3] @ _CAMERA_FROM_ACTION.T
    turns = Rotation.from_rotvec(turn * actions[:, 3:] @ _TURNS_FROM_ACTION.T).as_matrix()
    path = np.empty((len(poses), num_frames, 4, 4))
    now = poses
    for frame in range(num_frames):
        following = now.copy()
        following[:, :3, 3] += np.einsum("bij,bj->bi", now[:, :3, :3], ways)
        # What already stands lower may stay there: a start may be a toy car's.
        following[:, 2, 3] = np.maximum(following[:, 2, 3], np.minimum(lowest, now[:, 2, 3]))
        following[:, :3, :3] = now[:, :3, :3] @ turns
        path[:, frame] = now = following
    # Products of many rotations are made rotations again.
    path[:, -1, :3, :3] = Rotation.from_matrix(path[:, -1, :3, :3]).as_matrix()
    return path


def walk(
    walker: Walker,
    action: np.ndarray,
    mapping: KeyMapping,
    world_from_level: Float64[np.ndarray, "4 4"],
    num_frames: int,
) -> tuple[Walker, Float64[np.ndarray, "f 4 4"]]:
    """A walker after a decision in which keys are held, and its poses [m] at every raw frame."""
    held = held_keys(action)
    poses = []
    for _ in range(num_frames):
        walker = walker.step(held, mapping)
        poses.append(world_from_level @ walker.level_from_camera())
    return walker, np.stack(poses)


def held_keys(action: np.ndarray) -> frozenset[str]:
    """Letters of a `keys` or a `key` action."""
    if action.ndim == 0:
        return frozenset(KEYS[int(action)])
    chosen = (("", *pair)[int(number)] for pair, number in zip(PAIRS, action, strict=True))
    return frozenset(letter for letter in chosen if letter)


def motion_of(
    before: Float64[np.ndarray, "b 4 4"], after: Float64[np.ndarray, "b 4 4"], fps: float
) -> Float64[np.ndarray, "b 6"]:
    """Velocity along and about `AXES` between two neighbouring frames [m/s, rad/s]."""
    moves = np.matmul(invert_pose(before), after)
    turns = Rotation.from_matrix(moves[:, :3, :3]).as_rotvec()
    motion: np.ndarray = np.concatenate(
        [moves[:, :3, 3] @ _CAMERA_FROM_ACTION, turns @ _TURNS_FROM_ACTION], axis=1
    )
    return motion * fps
