"""Smooth paths through a few key poses, as slow as a world needs them.

Positions follow a centripetal Catmull-Rom spline, rotations its counterpart on the sphere (SQUAD),
both with one parameter u that counts the keys. The pace along u comes from the limits: a small
piece of way ds and of turn da takes

    dt = sqrt((ds / max_speed)^2 + (da / max_turn_rate)^2)

so neither limit is ever exceeded, both give way to each other smoothly, and a path that only moves
or only turns does so at its limit. Laplacian smoothing of the sampled poses then rounds what is
left of the corners at the keys: it replaces every step by a mean of its neighbours, so it cannot
make one longer. That is how the paths of SANA-WM-Bench are made (0.4 m/s, 12 degrees a second),
without its test against the depth of the scene.

Axes: k keys, n frames, m places of the parameter.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sanawm_gym.geometry import check_poses

from .camera_path import FPS, CameraPath

BENCH_SPEED = 0.4
"""Of SANA-WM-Bench [m/s]."""
BENCH_TURN_RATE_DEG = 12.0
"""Of SANA-WM-Bench [deg/s]."""
_PIECES = 128
"""Between two keys, when the pace is measured."""
_LARGEST_TURN = math.radians(150.0)
"""Between neighbouring keys; which way round a greater one goes is a matter of rounding."""
_MANY_FRAMES = 100_000


def spline_path(
    keys: Float64[np.ndarray, "k 4 4"],
    *,
    max_speed: float = BENCH_SPEED,
    max_turn_rate: float = math.radians(BENCH_TURN_RATE_DEG),
    smoothing: int = 8,
    fps: float = FPS,
) -> CameraPath:
    """The fastest smooth path through key poses within limits of speed and turn.

    Args:
        keys: `world_from_camera` of at least two poses [m]; the path begins at the first and ends
            at the last exactly, and passes the others closely (exactly without smoothing).
        max_speed: [m/s], above 0.
        max_turn_rate: About whatever axis [rad/s], above 0.
        smoothing: Passes of Laplacian smoothing, at least 0.
        fps: Clock of the path [Hz].

    Raises:
        ValueError: If there are too few keys, they are all the same or half a turn apart, or a
            limit is not positive.
    """
    _check(keys, max_speed, max_turn_rate, smoothing)
    u = np.linspace(0.0, len(keys) - 1.0, (len(keys) - 1) * _PIECES + 1)
    way, turn = _increments(*_at(keys, u))
    taken = np.concatenate([[0.0], np.cumsum(np.hypot(way / max_speed, turn / max_turn_rate))])
    num_steps = math.ceil(taken[-1] * fps)
    while num_steps < _MANY_FRAMES:
        places, turns = _at(keys, np.interp(np.linspace(0, taken[-1], num_steps + 1), taken, u))
        for _ in range(smoothing):
            places, turns = _smoothed(places, turns)
        way, turn = _increments(places, turns)
        excess = fps * float(max((way / max_speed).max(), (turn / max_turn_rate).max()))
        if excess <= 1.0:
            return _path(keys, places, turns, fps)
        # The pace was measured on chords; what they cut off is a fraction of a step.
        num_steps = max(num_steps + 1, math.ceil(num_steps * excess))
    raise ValueError(
        f"spline: got a path of more than {_MANY_FRAMES} frames, expected a shorter or faster one; "
        f"raise max_speed ({max_speed:g} m/s) or max_turn_rate ({max_turn_rate:g} rad/s)"
    )


def _check(
    keys: Float64[np.ndarray, "k 4 4"], max_speed: float, max_turn_rate: float, smoothing: int
) -> None:
    check_poses(keys, "key poses")
    if len(keys) < 2:
        raise ValueError(f"spline: got {len(keys)} key poses, expected at least two")
    for name, limit in (("max_speed", max_speed), ("max_turn_rate", max_turn_rate)):
        if not (math.isfinite(limit) and limit > 0):
            raise ValueError(f"spline: got {name}={limit}, expected a positive number")
    if smoothing < 0:
        raise ValueError(f"spline: got smoothing={smoothing}, expected 0 or more passes")
    turns = Rotation.from_matrix(keys[:, :3, :3])
    angles = (turns[:-1].inv() * turns[1:]).magnitude()
    wide = np.flatnonzero(angles > _LARGEST_TURN)
    if len(wide):
        raise ValueError(
            f"spline: got a turn of {math.degrees(angles[wide[0]]):.0f} degrees from key {wide[0]} "
            "to the next, expected at most 150; put a key in between that says which way round"
        )
    if angles.max() < 1e-9 and np.ptp(keys[:, :3, 3], axis=0).max() < 1e-9:
        raise ValueError("spline: got key poses that are all the same, expected some motion")


def _at(
    keys: Float64[np.ndarray, "k 4 4"], u: Float64[np.ndarray, " m"]
) -> tuple[Float64[np.ndarray, "m 3"], Rotation]:
    """Positions and rotations at places of the parameter, key i at u = i."""
    segment = np.minimum(u.astype(np.intp), len(keys) - 2)
    share = u - segment
    points, tangents = keys[:, :3, 3], _tangents(keys[:, :3, 3])
    s = share[:, None]
    places = (
        (2 * s**3 - 3 * s**2 + 1) * points[segment]
        + (s**3 - 2 * s**2 + s) * tangents[0][segment]
        + (3 * s**2 - 2 * s**3) * points[segment + 1]
        + (s**3 - s**2) * tangents[1][segment]
    )
    turns = Rotation.from_matrix(keys[:, :3, :3])
    inner = _inner_rotations(turns)
    outside = _between(turns[segment], turns[segment + 1], share)
    inside = _between(inner[segment], inner[segment + 1], share)
    return places, _between(outside, inside, 2 * share * (1 - share))


def _tangents(
    points: Float64[np.ndarray, "k 3"],
) -> tuple[Float64[np.ndarray, "j 3"], Float64[np.ndarray, "j 3"]]:
    """Derivatives at both ends of every segment by its own parameter in [0, 1]; j = k - 1.

    Centripetal knots lie the square root of the distance apart, which leaves no loops and cusps;
    beyond the ends the path is thought to go on straight.
    """
    extended = np.concatenate(
        [2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]]
    )
    gaps = np.sqrt(np.linalg.norm(np.diff(extended, axis=0), axis=1)) + 1e-9
    slopes = np.diff(extended, axis=0) / gaps[:, None]
    wide = (extended[2:] - extended[:-2]) / (gaps[1:] + gaps[:-1])[:, None]
    velocity = slopes[:-1] - wide + slopes[1:]
    own = gaps[1:-1, None]
    return velocity[:-1] * own, velocity[1:] * own


def _inner_rotations(turns: Rotation) -> Rotation:
    """Control rotations of SQUAD; at the ends the keys themselves.

    They stay so near their keys that neighbours are less than half a turn apart: further off, the
    way between them would jump to the other side of the sphere.
    """
    if len(turns) == 2:
        return turns
    here = turns[1:-1]
    after, before = (here.inv() * turns[2:]).as_rotvec(), (here.inv() * turns[:-2]).as_rotvec()
    pull = -(after + before) / 4
    widest = np.maximum(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1))
    room = 0.45 * (math.pi - widest)
    length = np.maximum(np.linalg.norm(pull, axis=1), 1e-12)
    middle = here * Rotation.from_rotvec(pull * np.minimum(1.0, room / length)[:, None])
    return Rotation.concatenate([turns[:1], middle, turns[-1:]])


def _between(first: Rotation, second: Rotation, share: Float64[np.ndarray, " m"]) -> Rotation:
    return first * Rotation.from_rotvec(share[:, None] * (first.inv() * second).as_rotvec())


def _increments(
    places: Float64[np.ndarray, "n 3"], turns: Rotation
) -> tuple[Float64[np.ndarray, " j"], Float64[np.ndarray, " j"]]:
    """Way [m] and turn [rad] of every step."""
    way = np.linalg.norm(np.diff(places, axis=0), axis=1)
    return way, (turns[:-1].inv() * turns[1:]).magnitude()


def _smoothed(
    places: Float64[np.ndarray, "n 3"], turns: Rotation
) -> tuple[Float64[np.ndarray, "n 3"], Rotation]:
    """Every pose but the ends halfway to the middle of its neighbours."""
    if len(places) < 3:
        return places, turns
    moved = places.copy()
    moved[1:-1] = places[1:-1] / 2 + (places[:-2] + places[2:]) / 4
    here = turns[1:-1]
    pull = (here.inv() * turns[:-2]).as_rotvec() + (here.inv() * turns[2:]).as_rotvec()
    middle = here * Rotation.from_rotvec(pull / 4)
    return moved, Rotation.concatenate([turns[:1], middle, turns[-1:]])


def _path(
    keys: Float64[np.ndarray, "k 4 4"],
    places: Float64[np.ndarray, "n 3"],
    turns: Rotation,
    fps: float,
) -> CameraPath:
    poses = np.tile(np.eye(4), (len(places), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = turns.as_matrix(), places
    poses[0], poses[-1] = keys[0], keys[-1]
    return CameraPath(poses, fps)
