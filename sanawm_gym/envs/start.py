"""Where a drive begins: a context, a picture on disk or in memory, made fit for a world.

The world frame of an episode has its origin under the car at the start: the rear axle at x = y = 0,
heading east. A context's camera path is moved there as a whole, which changes no motion within it.

Axes: f raw frames of the start clip, h and w of the picture.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sanawm_gym.camera import CameraRig, Intrinsics, fit_image
from sanawm_gym.geometry import check_poses, invert_pose
from sanawm_gym.vehicle import VehicleConfig, vehicle_state
from sanawm_gym.worldmodel.contexts import (
    StartContext,
    list_contexts,
    load_context,
    matching_contexts,
)
from sanawm_gym.worldmodel.official.layout import is_release

from .config import DriveConfig

ASSUMED_FOV_DEG = 70.0
"""Across a picture that comes without intrinsics: a common dashboard camera."""
ASSUMED_SPEED = 8.0
"""At a picture that comes without a speed [m/s]: town traffic."""
_SHORTEST_PATH = 1.0
"""A camera that moved less [m] does not tell its pitch."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The beginning of one episode, ready for the world model and the car."""

    name: str
    """Id of the context, path of the picture, or `array`."""
    frames: UInt8[np.ndarray, "f h w 3"]
    """Clip at the world's picture size; its last frame is the first observation."""
    poses: Float64[np.ndarray, "f 4 4"]
    """`world_from_camera` of the clip [m], in the episode's world frame."""
    intrinsics: Float64[np.ndarray, " 4"]
    """fx, fy, cx, cy at the world's picture size [px]."""
    prompt: str
    """Description for the world model."""
    rig: CameraRig
    """Camera mount."""
    vehicle_state: Float64[np.ndarray, " 6"]
    """The car at the last frame."""


def resolve_start(
    config: DriveConfig, rng: np.random.Generator, *, width: int, height: int, stride: int
) -> Start:
    """Find, read, check and fit the start of an episode.

    Args:
        config: Says what to start from.
        rng: Draws the context when the config names none.
        width: Picture width of the world [px].
        height: Picture height of the world [px].
        stride: Raw frames a decision; a clip is cut to a multiple of it plus one, at its front.

    Raises:
        ValueError: If there is no such start, it cannot be read, or its lens or poses are
            impossible.
    """
    context = _find(config, rng)
    lens = context.intrinsics.check()
    frames, lens = fit_image(context.frames, lens, width, height)
    lens.check()
    length = (len(frames) - 1) // stride * stride + 1
    poses = check_poses(np.asarray(context.poses, dtype=np.float64), f"start {context.name!r}")
    rig = config.rig if config.rig is not None else _rig_of(context, poses)
    return Start(
        name=context.name,
        frames=frames[-length:],
        poses=_to_origin(poses[-length:], rig),
        intrinsics=lens.as_array(),
        prompt=context.caption if config.prompt is None else config.prompt,
        rig=rig,
        vehicle_state=_car_at_start(config, context),
    )


def _find(config: DriveConfig, rng: np.random.Generator) -> StartContext:
    start, world = config.start, os.fspath(config.world)
    if start is None:
        known = _contexts(world)
        if not known:
            raise ValueError(
                f"start: got None, but world {world!r} has no start contexts; expected "
                "a picture; pass start=<image file or uint8 array>"
            )
        if config.prompt:
            # A world asked for night should not have to put out the sun of a noon start first.
            known = matching_contexts(config.prompt, world)
        context = _context(known[int(rng.integers(len(known)))], world)
    elif isinstance(start, StartContext):
        context = start
    elif isinstance(start, np.ndarray):
        return _picture_context("array", start, config.intrinsics)
    elif isinstance(start, (str, os.PathLike)):
        name, known = os.fspath(start), _contexts(world)
        if name not in known:
            return _picture_context(name, _read_image(name, known), config.intrinsics)
        context = _context(name, world)
    else:
        raise ValueError(
            f"start: got a {type(start).__name__}, expected a context id, an image file, a uint8 "
            "array (h, w, 3) or None; convert it to one of them"
        )
    if config.intrinsics is None:
        return context
    height, width = context.frames.shape[1:3]
    lens = _read_intrinsics(config.intrinsics, width, height)
    return dataclasses.replace(context, intrinsics=lens)


def _contexts(world: str) -> list[str]:
    """Names of a world's start contexts; released weights bring none."""
    return [] if is_release(world) else list_contexts(world)


@lru_cache(maxsize=256)
def _context(name: str, world: str) -> StartContext:
    """A context, decoded once a process: environments begin from the same few again and again."""
    return load_context(name, world)


def _picture_context(name: str, image: NDArray[Any], intrinsics: Any) -> StartContext:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
        raise ValueError(
            f"start: got an array {image.dtype} {image.shape}, expected uint8 (h, w, 3); convert "
            "to RGB bytes"
        )
    height, width = image.shape[:2]
    if intrinsics is None:
        lens = Intrinsics.from_fov(ASSUMED_FOV_DEG, width, height)
    else:
        lens = _read_intrinsics(intrinsics, width, height)
    return StartContext(
        name=name,
        frames=image[None],
        poses=np.eye(4)[None],
        intrinsics=lens,
        caption="",
        speed=ASSUMED_SPEED,
        steer=0.0,
        camera_height=CameraRig().z,
    )


def _read_intrinsics(intrinsics: Any, width: int, height: int) -> Intrinsics:
    if isinstance(intrinsics, Intrinsics):
        return intrinsics
    try:
        numbers = np.asarray(intrinsics, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (4,):
        raise ValueError(
            f"intrinsics: got {intrinsics!r}, expected Intrinsics or four numbers fx, fy, cx, cy; "
            "give them in pixels of the start picture"
        )
    fx, fy, cx, cy = numbers.tolist()
    return Intrinsics(fx, fy, cx, cy, width, height)


def _read_image(name: str, known: list[str]) -> UInt8[np.ndarray, "h w 3"]:
    if not Path(name).is_file():
        near = difflib.get_close_matches(name, known, n=3) or known[:3]
        contexts = f"one of {len(known)} start contexts (for example {near}) or " if known else ""
        raise ValueError(f"start: got {name!r}, expected {contexts}an image file; check the path")
    try:
        with Image.open(name) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"start: got {name!r}, which cannot be read as a picture ({error}); expected jpg, png "
            "or webp; convert it"
        ) from error


def _rig_of(context: StartContext, poses: Float64[np.ndarray, "f 4 4"]) -> CameraRig:
    """Mount of a context's camera: its height as stated, its pitch from how it moved.

    A car moves in the ground plane, so a way (dx, dy, dz) in camera axes gives tan(pitch) = -dy/dz,
    straight or bent. How far ahead of the axle the camera sits is not told: the default stays.
    """
    dy, dz = invert_pose(poses[0])[1:3] @ poses[-1][:, 3]
    pitch_deg = math.degrees(math.atan2(-dy, dz)) if dz > _SHORTEST_PATH else 0.0
    return CameraRig(z=float(context.camera_height), pitch_deg=pitch_deg)


def _to_origin(poses: Float64[np.ndarray, "f 4 4"], rig: CameraRig) -> Float64[np.ndarray, "f 4 4"]:
    """Move a path so that it ends exactly at the camera of a car that stands at the origin."""
    last = rig.vehicle_from_camera()
    moved = np.matmul(last @ invert_pose(poses[-1]), poses)
    moved[-1] = last
    return np.asarray(moved)


def _car_at_start(config: DriveConfig, context: StartContext) -> Float64[np.ndarray, " 6"]:
    """The car within its limits; a bent start at speed is straightened to what the tyres hold."""
    vehicle: VehicleConfig = config.vehicle
    speed = min(float(context.speed if config.speed is None else config.speed), vehicle.max_speed)
    grip = math.atan2(vehicle.wheelbase * vehicle.max_lateral_accel, speed**2)
    limit = min(vehicle.max_steer, grip)
    return vehicle_state(speed=speed, steer=max(-limit, min(limit, float(context.steer))))
