"""Which way the camera goes: one of four ways to say it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sanawm_gym.camera import CameraRig
from sanawm_gym.paths.camera_path import CameraPath
from sanawm_gym.paths.driving import driven_path, read_controls
from sanawm_gym.paths.files import read_key_poses, read_path
from sanawm_gym.paths.key_words import key_path
from sanawm_gym.paths.keys import find_mapping
from sanawm_gym.paths.spline import BENCH_SPEED, BENCH_TURN_RATE_DEG, spline_path

_WAYS = ("poses", "actions", "controls", "waypoints")


@dataclass(frozen=True, kw_only=True)
class CourseConfig:
    """The way: give exactly one of poses, actions, controls and waypoints."""

    poses: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """One pose a frame: .npz with c2w, .npy, .txt (KITTI or TUM), .tum, .kitti."""
    poses_fps: Annotated[float | None, tyro.conf.arg(metavar="HZ")] = None
    """Clock of `poses` [Hz], above 0, where the file has none; 16 if not given."""
    poses_pitch_deg: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """How far the first camera of `poses` or `waypoints` looks down [deg], within +-90. If given,
    the motion is levelled under the picture's camera; if not, it is taken in the axes of the first
    camera as it is, and a camera that looks down goes down."""
    actions: Annotated[str | None, tyro.conf.arg(metavar="KEYS")] = None
    """Held keys and for how many frames of 1/16 s: "w-32, wd-16, none-8" or "w32 wd16"."""
    mapping: str = "release-2"
    """What the keys mean: release-2 (a/d turn, j/l slide), release-1 or sglang (a/d slide)."""
    controls: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A car's steer and pedal, both -1 to 1, in rows of text or an .npy; a third column says for
    how long [s], else a quarter of a second each."""
    waypoints: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A few key poses in any of the files of `poses`; a smooth path leads through them."""
    speed: Annotated[float | None, tyro.conf.arg(metavar="M/S")] = None
    """With actions the speed of keys, with waypoints the limit [m/s], above 0; 0.4 if not given,
    or what the mapping says."""
    turn_rate_deg: Annotated[float | None, tyro.conf.arg(metavar="DEG/S")] = None
    """With actions the turn of keys, with waypoints the limit [deg/s], above 0; 12 if not given,
    or what the mapping says."""

    def __post_init__(self) -> None:
        """Refuse no way, two ways, and settings of another way."""
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"path: got {got}, expected exactly one of {', '.join(_WAYS)}")
        for name, ways in (
            ("poses_fps", ("poses",)),
            ("poses_pitch_deg", ("poses", "waypoints")),
            ("speed", ("actions", "waypoints")),
            ("turn_rate_deg", ("actions", "waypoints")),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if given[0] not in ways:
                raise ValueError(
                    f"{name}: got {value:g} with {given[0]}, which it does not change; expected it "
                    f"with {' or '.join(ways)}; leave it out"
                )
            angle = name == "poses_pitch_deg"
            if not math.isfinite(value) or (abs(value) > 90 if angle else value <= 0):
                expected = "an angle within +-90" if angle else "a positive number"
                raise ValueError(f"{name}: got {value}, expected {expected}")
        find_mapping(self.mapping)

    def describe(self) -> str:
        """What is followed, in one line."""
        if self.actions is not None:
            mapping = find_mapping(self.mapping).at_speed(self.speed, self.turn_rate_deg)
            return f"keys of the mapping {mapping}"
        return next(
            f"{name} of {getattr(self, name)}" for name in _WAYS if getattr(self, name) is not None
        )


def course(
    config: CourseConfig, *, fps: float, rig: CameraRig, speed: float = 0.0, steer: float = 0.0
) -> CameraPath:
    """The path, in whatever frame it comes.

    Args:
        config: Which one.
        fps: Clock of the world [Hz].
        rig: Mount of the first camera: keys move a tilted camera level, cars carry it.
        speed: Of the car at the start [m/s]; only for controls.
        steer: Its wheel angle [rad].

    Raises:
        ValueError: If a file is missing or damaged, or keys mean nothing.
    """
    if config.poses is not None:
        path = read_path(config.poses, fps=fps, file_fps=config.poses_fps)
        return _levelled(path, config, rig)
    if config.actions is not None:
        mapping = find_mapping(config.mapping).at_speed(config.speed, config.turn_rate_deg)
        pitch = -math.radians(rig.pitch_deg)
        return key_path(config.actions, mapping, pitch=pitch).at_clock(fps)
    if config.controls is not None:
        rows = read_controls(config.controls)
        return driven_path(rows, speed=speed, steer=steer, rig=rig, fps=fps)
    assert config.waypoints is not None
    turn_rate_deg = config.turn_rate_deg or BENCH_TURN_RATE_DEG
    path = spline_path(
        read_key_poses(config.waypoints),
        max_speed=config.speed or BENCH_SPEED,
        max_turn_rate=math.radians(turn_rate_deg),
        fps=fps,
    )
    return _levelled(path, config, rig)


def _levelled(path: CameraPath, config: CourseConfig, rig: CameraRig) -> CameraPath:
    """A path of a file under a mount, level where it is known to be."""
    if config.poses_pitch_deg is None:
        return path
    return path.remounted(math.radians(config.poses_pitch_deg), math.radians(rig.pitch_deg))
