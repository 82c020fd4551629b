"""The path of a camera: one pose a frame on an even clock.

Poses are `world_from_camera` with OpenCV axes (x right, y down, z forward) in metres. What world
frame they are given in does not matter to a world model, which only sees how the camera moves from
its first pose on; `beginning_at` moves a path to where a picture was taken from.

Axes: n frames.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sanawm_gym.geometry import check_poses, invert_pose, relative_poses

from .trajectory import Trajectory

FPS = 16.0
"""Clock of the worlds [Hz]."""


@dataclass(frozen=True, eq=False)
class CameraPath:
    """One pose a frame.

    Attributes:
        poses: `world_from_camera` [m].
        fps: Frames a second, > 0.
        lens: fx, fy, cx, cy [px] of the pictures the path was filmed with, where a file says it.
    """

    poses: Float64[np.ndarray, "n 4 4"]
    fps: float = FPS
    lens: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no path."""
        check_poses(self.poses, "path")
        if not len(self.poses):
            raise ValueError("path: got no pose, expected at least one; give one a frame")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"path: got fps={self.fps}, expected a positive number; try {FPS:g}")

    @property
    def num_frames(self) -> int:
        """Number of poses, that of the first picture among them."""
        return len(self.poses)

    @property
    def seconds(self) -> float:
        """Time from the first to the last pose [s]."""
        return (self.num_frames - 1) / self.fps

    def beginning_at(self, world_from_first: Float64[np.ndarray, "4 4"]) -> CameraPath:
        """The same motion from another first pose, which is met exactly."""
        poses = np.matmul(world_from_first, relative_poses(self.poses))
        poses[0] = world_from_first
        return dataclasses.replace(self, poses=poses)

    def remounted(self, pitch: float, new_pitch: float) -> CameraPath:
        """The same motion of what carries the camera, with the camera tilted otherwise.

        A path is told in its first camera's axes, so that straight on means down for a camera that
        looks down; this keeps it level. The result begins at the identity.

        Args:
            pitch: How far the first camera looks down from the horizon [rad].
            new_pitch: How far the other one does [rad].
        """
        tilt = np.eye(4)
        tilt[:3, :3] = Rotation.from_rotvec([new_pitch - pitch, 0.0, 0.0]).as_matrix()
        poses = tilt @ relative_poses(self.poses) @ invert_pose(tilt)
        poses[0] = np.eye(4)
        return dataclasses.replace(self, poses=poses)

    def at_clock(self, fps: float) -> CameraPath:
        """The path at another clock; at its own it stays as it is.

        Rotations are interpolated by SLERP, positions along straight lines; what is left over at
        the end is less than a tick.
        """
        if fps == self.fps or self.num_frames == 1:
            return dataclasses.replace(self, fps=fps)
        times = np.arange(self.num_frames) / self.fps
        return sampled(Trajectory(times, self.poses), fps, self.lens)

    def held_to(self, num_frames: int) -> CameraPath:
        """The path with its last pose repeated up to a number of frames, or cut to it."""
        missing = max(0, num_frames - self.num_frames)
        poses = np.concatenate([self.poses, np.repeat(self.poses[-1:], missing, axis=0)])
        return dataclasses.replace(self, poses=poses[:num_frames])

    def steps(self) -> tuple[Float64[np.ndarray, "m 3"], Float64[np.ndarray, "m 3"]]:
        """Motion from every frame to the next, in the axes of the earlier camera.

        Returns:
            Translations [m] and rotation vectors [rad], right-handed about x right, y down and z
            forward; m = n - 1. `from_steps` takes them back.
        """
        moves = np.matmul(invert_pose(self.poses[:-1]), self.poses[1:])
        turns = Rotation.from_matrix(moves[:, :3, :3]) if len(moves) else Rotation.identity(0)
        return moves[:, :3, 3].copy(), turns.as_rotvec()

    def speeds(self) -> Float64[np.ndarray, " m"]:
        """Speed from every frame to the next [m/s]."""
        ways = np.diff(self.poses[:, :3, 3], axis=0)
        return np.asarray(np.linalg.norm(ways, axis=1) * self.fps)

    def turn_rates(self) -> Float64[np.ndarray, " m"]:
        """How fast the camera turns, about whatever axis, from every frame to the next [rad/s]."""
        return np.asarray(np.linalg.norm(self.steps()[1], axis=1) * self.fps)


def sampled(
    trajectory: Trajectory, fps: float, lens: tuple[float, float, float, float] | None = None
) -> CameraPath:
    """A trajectory at an even clock that begins with its first pose."""
    first, last = float(trajectory.times[0]), float(trajectory.times[-1])
    # A hair more than the last pose, so that rounding does not lose it.
    ticks = first + np.arange(math.floor((last - first) * fps + 1e-6) + 1) / fps
    return CameraPath(trajectory.at(np.minimum(ticks, last)), fps, lens)


def from_steps(
    translations: Float64[np.ndarray, "m 3"],
    rotation_vectors: Float64[np.ndarray, "m 3"],
    fps: float = FPS,
) -> CameraPath:
    """A path from the identity, of motions in the axes of the camera before each; see `steps`."""
    poses = np.tile(np.eye(4), (len(translations) + 1, 1, 1))
    turn, place = Rotation.identity(), np.zeros(3)
    for index, (way, vector) in enumerate(zip(translations, rotation_vectors, strict=True), 1):
        place = place + turn.apply(way)
        turn = turn * Rotation.from_rotvec(vector)
        poses[index, :3, :3], poses[index, :3, 3] = turn.as_matrix(), place
    return CameraPath(poses, fps)


def whole_chunks(num_frames: int, frames_per_chunk: int) -> int:
    """Chunks that draw at least a number of frames, the first picture being given.

    A world draws frames in chunks (4 of the bundled world, 24 of the streaming SANA-WM), so that a
    video has k * frames_per_chunk + 1 of them.
    """
    return -(-(num_frames - 1) // frames_per_chunk)
