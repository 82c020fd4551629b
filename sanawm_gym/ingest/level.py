"""Into the world frame of recordings: z up, the road at z = 0, x along the first camera.

Poses come in any frame, and roads go up and down, but a world that carries pictures over the ground
needs one plane under all cameras. Three steps make it:

1. A car moves along its road, so the mean direction of travel in camera axes tells how far the
   camera looks down or up from the road (the mount's pitch). That is undone before the next step; a
   camera that looks down by 4 degrees would otherwise end 20 m under the road after 300 m.
2. The mean up direction of the cameras becomes z.
3. What is left are hills. The height of the path, smoothed over a second, is the road's; it is
   taken away, with its slope, as if the road had been pulled flat. Bumps and nodding remain.

The height of the camera above the road cannot be seen in poses: it has to be known.

Axes: n ticks, m poses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from .config import FPS

_SMOOTHING_FRAMES = 17
"""Window of the road's height, about a second."""
_SHORTEST_WAY = 5.0
"""Net way that tells a direction of travel [m]."""
_FORWARD_SHARE = 0.7
"""Of the way, what must lead to where the camera looks, which may be 45 degrees off."""
_MOVING = 1.0
"""Speed above which the path tells the road's slope [m/s]."""


def mount_pitch(poses: Float64[np.ndarray, "n 4 4"]) -> float:
    """Angle by which a camera looks down from the road it travels along [rad].

    Args:
        poses: world_from_camera of a stretch [m], in any world frame.

    Raises:
        ValueError: If the camera does not look where it goes, which wrong axes look like.
    """
    # Ways of a second, seen from their middle: a camera that stands and trembles goes nowhere.
    span = min(_SMOOTHING_FRAMES - 1, len(poses) - 1)
    ways = (poses[span:, :3, 3] - poses[:-span, :3, 3]) / span
    middle = poses[span // 2 : span // 2 + len(ways), :3, :3]
    right, down, forward = np.einsum("nij,ni->j", middle, ways).tolist()
    way = float(np.linalg.norm(ways, axis=1).sum())
    if way < _SHORTEST_WAY:
        return 0.0
    if forward < _FORWARD_SHARE * way:
        raise ValueError(
            f"axes: got a camera that moves {right:.1f} m right, {down:.1f} m down and "
            f"{forward:.1f} m forward on a way of {way:.1f} m, expected forward; give "
            "camera-to-world poses with OpenCV axes (x right, y down, z forward): negate columns y "
            "and z of OpenGL poses, invert world-to-camera poses"
        )
    return math.atan2(-down, forward)


@dataclass(frozen=True)
class Level:
    """A map from a drive's own world frame to the level one of an episode."""

    level_from_world: Float64[np.ndarray, "4 4"]
    """Turn and shift; the first camera comes to the origin, looking along x."""
    clock: Float64[np.ndarray, " n"]
    """[s]."""
    lift: Float64[np.ndarray, " n"]
    """What is added to a camera's height at each time [m]."""
    slope: Float64[np.ndarray, " n"]
    """Climb of the road at each time [rad]; cameras are turned down by as much."""

    @classmethod
    def of(
        cls,
        clock: Float64[np.ndarray, " n"],
        poses: Float64[np.ndarray, "n 4 4"],
        *,
        pitch: float,
        camera_height: float,
    ) -> Level:
        """Level an episode.

        Args:
            clock: Even times [s].
            poses: world_from_camera at these times [m].
            pitch: See `mount_pitch` [rad].
            camera_height: Mean height of the camera above the road [m].
        """
        up_in_camera = np.array([0.0, -math.cos(pitch), -math.sin(pitch)])
        up = (poses[:, :3, :3] @ up_in_camera).mean(axis=0)
        up /= np.linalg.norm(up)
        forward = poses[0, :3, 2] - (poses[0, :3, 2] @ up) * up
        forward /= np.linalg.norm(forward)
        turn = Rotation.from_matrix(np.stack([forward, np.cross(up, forward), up]))
        level = np.eye(4)
        level[:3, :3] = turn.as_matrix()
        level[:3, 3] = -level[:3, :3] @ poses[0, :3, 3]
        height, slope = _road(clock, level @ poses)
        return cls(level, clock, camera_height - height, slope)

    def apply(
        self, times: Float64[np.ndarray, " m"], poses: Float64[np.ndarray, "m 4 4"]
    ) -> Float64[np.ndarray, "m 4 4"]:
        """Level poses at any times of the episode."""
        levelled = self.level_from_world @ poses
        forward = levelled[:, :2, 2] / np.linalg.norm(levelled[:, :2, 2], axis=1, keepdims=True)
        slope = np.interp(times, self.clock, self.slope)
        # Right-handed about the left axis, a positive angle looks down.
        left = np.stack([-forward[:, 1], forward[:, 0], np.zeros(len(slope))], axis=1)
        turns = Rotation.from_rotvec(left * slope[:, None])
        levelled[:, :3, :3] = (turns * Rotation.from_matrix(levelled[:, :3, :3])).as_matrix()
        levelled[:, 2, 3] += np.interp(times, self.clock, self.lift)
        return np.asarray(levelled)


def _road(
    clock: Float64[np.ndarray, " n"], poses: Float64[np.ndarray, "n 4 4"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Smoothed height of a path [m] and its climb in the direction the camera looks [rad]."""
    path = poses[:, :3, 3]
    window = min(_SMOOTHING_FRAMES, (len(path) - 1) // 2 * 2 + 1)
    height = savgol_filter(path[:, 2], window, 2)
    velocity = savgol_filter(path, window, 2, deriv=1, delta=1 / FPS, axis=0)
    heading = poses[:, :2, 2] / np.linalg.norm(poses[:, :2, 2], axis=1, keepdims=True)
    speed = (velocity[:, :2] * heading).sum(axis=1)
    moving = np.abs(speed) > _MOVING
    if not moving.any():
        return height, np.zeros(len(path))
    # A car that stands, stands on the slope it came by.
    climb = np.arctan(velocity[moving, 2] / speed[moving])
    return height, np.interp(clock, clock[moving], climb)
