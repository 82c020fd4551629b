"""Paths of a camera on a car that is driven by given controls, with the car's own equations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose
from sanawm_gym.vehicle import YAW, KinematicBicycle, VehicleConfig, X, Y, vehicle_state

from .camera_path import FPS, CameraPath
from .pose_files import read_rows

SECONDS_PER_CONTROL = 0.25
"""What a row without a duration is held for [s]."""


def read_controls(path: str | Path) -> Float64[np.ndarray, "n 3"]:
    """Rows of steer, pedal and seconds out of a text file or an npy array.

    Args:
        path: `.npy`, or text with two or three numbers a row, commas or blanks between them. Two
            are steer (+1 full left) and pedal (throttle above 0, brake below), each in [-1, 1],
            held for a quarter of a second; the third says for how long instead [s].

    Raises:
        ValueError: If the file is missing or holds anything else.
    """
    path = Path(path)
    if path.suffix == ".npy":
        try:
            rows = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"cannot read {path} ({error}); expected an array of numpy") from error
        if rows.ndim != 2 or rows.shape[1] not in (2, 3) or not len(rows):
            raise ValueError(f"got an array of {rows.shape} in {path}, expected (n, 2) or (n, 3)")
    else:
        rows = read_rows(path, columns=(2, 3), separators=",")
    if rows.shape[1] == 2:
        rows = np.column_stack([rows, np.full(len(rows), SECONDS_PER_CONTROL)])
    _check(rows, str(path))
    return rows


def driven_path(
    controls: Float64[np.ndarray, "n 3"],
    *,
    speed: float = 0.0,
    steer: float = 0.0,
    rig: CameraRig | None = None,
    vehicle: VehicleConfig | None = None,
    fps: float = FPS,
) -> CameraPath:
    """The path of a camera on a car.

    Args:
        controls: Steer, pedal and for how long [s], in order; durations round to whole frames.
        speed: At the start [m/s].
        steer: Wheel angle at the start [rad].
        rig: Mount; 1.5 m ahead of the axle and above the ground by default.
        vehicle: The car.
        fps: Clock of the path [Hz].

    Returns:
        `world_from_camera` with z up and the ground at 0: the car begins at the origin and heads
        along x.

    Raises:
        ValueError: If a control is out of range.
    """
    _check(controls, "controls")
    bicycle = KinematicBicycle(vehicle)
    states = [vehicle_state(speed=speed, steer=steer)[None]]
    for left, pedal, seconds in controls.tolist():
        num_frames = round(seconds * fps)
        action = np.array([[left, pedal]])
        states.append(bicycle.advance(states[-1][-1:], action, num_frames, fps)[0])
    cars = np.concatenate(states)
    world_from_vehicle = planar_pose(cars[:, X], cars[:, Y], cars[:, YAW])
    return CameraPath(camera_poses(world_from_vehicle, rig or CameraRig()), fps)


def _check(controls: Float64[np.ndarray, "n 3"], name: str) -> None:
    for row, (steer, pedal, seconds) in enumerate(controls.tolist()):
        if not (abs(steer) <= 1 and abs(pedal) <= 1 and 1 / FPS <= seconds <= 3600):
            raise ValueError(
                f"{name}: got steer {steer:g}, pedal {pedal:g} for {seconds:g} s in row {row}, "
                "expected both in [-1, 1], for a sixteenth of a second to an hour"
            )
