"""comma2k19: minutes of highway from a windscreen camera, with poses on the globe.

    Chunk_1/ROUTE/SEGMENT/video.hevc            (or video.mp4), 1164 x 874 at 20 Hz
    .../global_pose/frame_times                 seconds, one a frame
    .../global_pose/frame_positions             metres, earth-centred and earth-fixed
    .../global_pose/frame_orientations          quaternion, scalar first

The four are files of numpy without an ending. A quaternion turns device axes (x forward, y right,
z down) into those of the globe.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sanawm_gym.camera import Intrinsics
from sanawm_gym.paths.pose_files import read_array
from sanawm_gym.paths.trajectory import Trajectory, check_times, from_quaternions

from .config import IngestConfig
from .drive import Drive, Layout
from .pictures import VideoFile

_FOCAL = 910.0 / 1164
"""Focal length over width of the picture."""
_VIDEOS = ("video.hevc", "video.mp4")
_MISSING_FRAMES = 2
"""Frames at the end of a segment that a whole video may lack."""
_DEVICE_FROM_CAMERA = np.array(
    [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def _names(config: IngestConfig) -> list[str]:
    found = [path.parent for name in _VIDEOS for path in config.source.rglob(name)]
    found += [path.parent for path in config.source.rglob("global_pose")]
    return sorted({path.relative_to(config.source).as_posix() for path in found})


def _read(config: IngestConfig, name: str) -> Drive:
    folder = config.source / name
    pose_folder = folder / "global_pose"
    times = read_array(pose_folder / "frame_times", ())
    positions = read_array(pose_folder / "frame_positions", (3,))
    wxyz = read_array(pose_folder / "frame_orientations", (4,))
    if not len(times) == len(positions) == len(wxyz):
        raise ValueError(
            f"got {len(times)} times, {len(positions)} positions and {len(wxyz)} orientations in "
            f"{pose_folder}, expected as many of each"
        )
    check_times(times, str(pose_folder / "frame_times"))
    pictures = _video(folder)
    missing = len(times) - len(pictures)
    if not 0 <= missing <= _MISSING_FRAMES:
        raise ValueError(
            f"got {len(pictures)} pictures in {pictures.path} and {len(times)} times, expected as "
            "many; is the video complete?"
        )
    # The globe is large: positions near zero keep all digits.
    device = from_quaternions(positions - positions[0], wxyz[:, [1, 2, 3, 0]], str(pose_folder))
    focal = _FOCAL * pictures.width
    width, height = pictures.width, pictures.height
    return Drive(
        pictures=pictures,
        times=times[: len(pictures)],
        path=Trajectory(times, device @ _DEVICE_FROM_CAMERA),
        intrinsics=Intrinsics(focal, focal, width / 2, height / 2, width, height),
    )


def _video(folder: Path) -> VideoFile:
    for name in _VIDEOS:
        if (folder / name).is_file():
            return VideoFile(folder / name)
    raise ValueError(f"got no {' or '.join(_VIDEOS)} in {folder}, expected a video")


COMMA2K19 = Layout(
    names=_names,
    read=_read,
    camera_height=1.22,
    terms="comma2k19 is under the MIT licence, copyright comma.ai; keep its notice.",
)
