"""A drive whose truth is known, and writers that put it on disk the way others keep theirs.

The truth is a car on a plane, its camera looking down a little. On disk it lies in a world frame of
its own, turned and shifted, as poses of other people do.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from jaxtyping import Float64, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from sanawm_gym.camera import CameraRig, Intrinsics, camera_poses
from sanawm_gym.geometry import invert_pose, planar_pose
from sanawm_gym.video import write_video

WIDTH, HEIGHT, FPS = 192, 120, 20.0
LENS = Intrinsics(fx=150.0, fy=148.0, cx=97.5, cy=58.5, width=WIDTH, height=HEIGHT)
RIG = CameraRig(x=1.5, z=1.4, pitch_deg=3.0)
SPEED, TURN = 8.0, 0.12
"""Of the rear axle [m/s], [rad/s]."""
DEVICE_FROM_CAMERA = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Truth:
    """A drive and everything about it."""

    times: Float64[np.ndarray, " n"]
    poses: Float64[np.ndarray, "n 4 4"]
    """world_from_camera in the frame that ingest makes: z up, road at 0, from (0, 0) along x."""
    frames: UInt8[np.ndarray, "n h w 3"]


def bend(seconds: float, fps: float = FPS) -> Truth:
    """Round a bend at constant speed; the grey of a picture counts its number."""
    times = np.arange(round(seconds * fps) + 1) / fps
    yaw = TURN * times
    radius = SPEED / TURN
    car = planar_pose(radius * np.sin(yaw), radius * (1 - np.cos(yaw)), yaw)
    poses = camera_poses(car, RIG)
    poses[:, :2, 3] -= poses[0, :2, 3]
    return Truth(times, poses, np.stack([picture(i) for i in range(len(times))]))


def picture(number: int) -> UInt8[np.ndarray, "h w 3"]:
    """A flat grey of its number."""
    return np.full((HEIGHT, WIDTH, 3), grey(number), np.uint8)


def grey(number: int) -> int:
    """Value of the pixels of a picture."""
    return 20 + 8 * (number % 25)


def hidden(truth: Truth) -> Float64[np.ndarray, "n 4 4"]:
    """The same path in somebody else's world frame."""
    other = np.eye(4)
    other[:3, :3] = Rotation.from_euler("xyz", [70.0, -20.0, 130.0], degrees=True).as_matrix()
    other[:3, 3] = (400.0, -30.0, 7.0)
    return np.asarray(other @ truth.poses)


def rows(poses: Float64[np.ndarray, "n 4 4"]) -> str:
    """KITTI rows."""
    return "\n".join(" ".join(f"{x:.9e}" for x in pose[:3].reshape(-1)) for pose in poses) + "\n"


def tum(times: Float64[np.ndarray, " n"], poses: Float64[np.ndarray, "n 4 4"]) -> str:
    """TUM rows."""
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    table = np.concatenate([times[:, None], poses[:, :3, 3], quaternions], axis=1)
    lines = (" ".join(f"{x:.9f}" for x in row) for row in table)
    return "# time x y z qx qy qz qw\n" + "\n".join(lines) + "\n"


def write_kitti(root: Path, name: str, truth: Truth, lens: Intrinsics = LENS) -> None:
    """As KITTI odometry: colour camera 6 cm to the right of camera 0, pixels counted from 0.5."""
    folder = root / "sequences" / name
    (folder / "image_2").mkdir(parents=True)
    for number, frame in enumerate(truth.frames):
        Image.fromarray(frame).save(folder / "image_2" / f"{number:06d}.png")
    k = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    projections = {f"P{i}": np.concatenate([k, k @ [[-0.06 * i / 2], [0], [0]]], 1) for i in (0, 2)}
    (folder / "calib.txt").write_text(
        "\n".join(f"{key}: " + " ".join(f"{x:.9e}" for x in p.reshape(-1))
                  for key, p in projections.items()) + "\n"
    )  # fmt: skip
    (folder / "times.txt").write_text("\n".join(f"{t:.6e}" for t in truth.times) + "\n")
    second_from_first = np.eye(4)
    second_from_first[0, 3] = -0.06
    (root / "poses").mkdir(exist_ok=True)
    camera_0 = hidden(truth) @ second_from_first
    (root / "poses" / f"{name}.txt").write_text(rows(invert_pose(camera_0[:1]) @ camera_0))


def write_comma(root: Path, name: str, truth: Truth, codec: str = "libx265") -> None:
    """As comma2k19: poses of the device (x forward, y right, z down) on the globe."""
    folder = root / name
    (folder / "global_pose").mkdir(parents=True)
    stream = imageio_ffmpeg.write_frames(
        str(folder / "video.hevc"),
        (truth.frames.shape[2], truth.frames.shape[1]),
        fps=20,
        codec=codec,
        pix_fmt_out="yuv420p",
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=["-x265-params", "log-level=error:crf=4"],
    )
    stream.send(None)
    for frame in truth.frames:
        stream.send(np.ascontiguousarray(frame).tobytes())
    stream.close()
    device = hidden(truth) @ np.linalg.inv(DEVICE_FROM_CAMERA)
    x, y, z, w = Rotation.from_matrix(device[:, :3, :3]).as_quat().T
    arrays = {
        "frame_times": 1234.5 + truth.times,
        "frame_positions": device[:, :3, 3] + [-2706000.0, -4261000.0, 3885000.0],
        "frame_orientations": np.stack([w, x, y, z], axis=1),
    }
    for key, array in arrays.items():
        with (folder / "global_pose" / key).open("wb") as file:  # a name would get an ending
            np.save(file, array)


def write_folder(root: Path, name: str, truth: Truth, poses: str = "tum") -> None:
    """As an mp4 with poses of a kind."""
    root.mkdir(exist_ok=True)
    write_video(root / f"{name}.mp4", truth.frames, FPS)
    if poses == "npz":
        lens = np.array([[LENS.fx, 0, LENS.cx], [0, LENS.fy, LENS.cy], [0, 0, 1]])
        np.savez(root / f"{name}.npz", c2w=hidden(truth), intrinsics=lens)
        return
    text = tum(truth.times, hidden(truth)) if poses == "tum" else rows(hidden(truth))
    (root / f"{name}.txt").write_text(text)


def write_lens(root: Path) -> None:
    """The lens of a folder."""
    keys = ("fx", "fy", "cx", "cy", "width", "height")
    lens = {key: getattr(LENS, key) for key in keys}
    (root / "intrinsics.json").write_text(json.dumps(lens))


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Seven seconds round a bend."""
    return bend(7.0)
