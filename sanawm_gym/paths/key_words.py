"""The written form of held keys, and back from a path to the keys that make it.

    w-16, dw-8, none-4        forward a second, then half a second in a curve, then hands off

A word is keys and a number of frames; the hyphen and the commas may be left out ("w16 dw8 none4"),
case and blanks do not matter. Every frame is a sixteenth of a second.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np

from sanawm_gym.geometry import relative_poses

from .camera_path import FPS, CameraPath
from .keys import KEY_SETS, LETTERS, KeyMapping, Walker, next_velocities, walked

_WORD = re.compile(rf"\s*(none|[{LETTERS}]+)\s*-?\s*(\d+)\s*[,，]?")
_CLOSE = 0.01
"""Share of a mapping's step within which a motion is that of a key."""
_MANY = 16
"""Stories that are followed beside each other."""


def parse_keys(text: str) -> list[frozenset[str]]:
    """Letters that are down in every frame.

    Raises:
        ValueError: If a word is not keys and a number of frames above 0.
    """
    lower, at, frames = text.lower().strip(), 0, list[frozenset[str]]()
    while at < len(lower):
        word = _WORD.match(lower, at)
        if word is None or int(word[2]) == 0:
            raise ValueError(
                f"actions: got {lower[at : at + 20]!r}, expected keys out of {LETTERS} or none and "
                "then a number of frames, such as w-16 or dw8; separate words by commas or blanks"
            )
        held = frozenset() if word[1] == "none" else frozenset(word[1])
        frames += [held] * int(word[2])
        at = word.end()
    if not frames:
        raise ValueError("actions: got an empty string, expected words such as 'w-16, dw-8'")
    return frames


def format_keys(frames: list[frozenset[str]]) -> str:
    """The shortest text that `parse_keys` reads as these frames."""
    words = []
    for held, run in itertools.groupby(frames):
        keys = "".join(letter for letter in LETTERS if letter in held) or "none"
        words.append(f"{keys}-{len(list(run))}")
    return ",".join(words)


def key_path(text: str, mapping: KeyMapping, *, pitch: float = 0.0) -> CameraPath:
    """The path that written keys make; see `keys.walked`."""
    return walked(parse_keys(text), mapping, pitch=pitch)


@dataclass(frozen=True)
class _Story:
    """Keys that explain a path so far."""

    walker: Walker
    frames: tuple[frozenset[str], ...]


def keys_of(path: CameraPath, mapping: KeyMapping, *, pitch: float = 0.0) -> str:
    """Keys that make a path: the inverse of `key_path`, where there is one.

    Several sets of keys may do the same in a frame (a tilt at its limit does nothing); all of them
    are followed, and of those that explain the whole path the one with the fewest keys is told.

    Args:
        path: At 16 Hz.
        mapping: What the letters mean.
        pitch: Tilt of the first camera above the horizon [rad].

    Raises:
        ValueError: If the clock is another, or a motion is not one that keys make; it is named.
    """
    if path.fps != FPS:
        raise ValueError(f"actions: got a path at {path.fps:g} Hz, expected {FPS:g}; use at_clock")
    turn = math.radians(mapping.turn_deg)
    unit = np.array([mapping.metres, mapping.metres, turn])
    stories = [_Story(Walker(pitch=pitch), ())]
    for frame, (observed, tilt) in enumerate(_headings(path, pitch)):
        found: dict[tuple[frozenset[str], tuple[float, ...]], _Story] = {}
        for story in stories:
            velocities = next_velocities(story.walker, mapping)
            off = np.abs(velocities[:, :3] - observed[:3]) / unit
            # The tilt is compared after its limit, so only with what is left.
            for index in np.flatnonzero(off.max(axis=1) <= _CLOSE):
                held = KEY_SETS[index]
                walker = story.walker.step(held, mapping)
                if abs(walker.pitch - tilt) <= _CLOSE * turn:
                    now = held if mapping.eases else frozenset()
                    found.setdefault((now, walker.velocity), _Story(walker, (*story.frames, held)))
        if not found:
            raise ValueError(_unexplained(frame, observed, mapping))
        stories = sorted(found.values(), key=_num_keys)[:_MANY]
    return format_keys(list(min(stories, key=_num_keys).frames))


def _num_keys(story: _Story) -> int:
    return sum(map(len, story.frames))


def _headings(path: CameraPath, pitch: float) -> list[tuple[list[float], float]]:
    """Velocity of every frame as keys would make it, and the tilt after it.

    Raises:
        ValueError: If the camera rolls or leaves its level, which no key does.
    """
    first = Walker(pitch=pitch).level_from_camera()
    poses = np.matmul(first, relative_poses(path.poses))
    yaws = np.unwrap(np.arctan2(poses[:, 0, 2], poses[:, 2, 2]))
    tilts = np.arcsin(np.clip(-poses[:, 1, 2], -1.0, 1.0))
    rolls = np.arcsin(np.clip(poses[:, 1, 0], -1.0, 1.0))
    climbs = np.abs(np.diff(poses[:, 1, 3], prepend=0.0))
    wrong = np.flatnonzero((np.abs(rolls) > 1e-3) | (climbs > 1e-3))
    if len(wrong):
        raise ValueError(
            f"actions: got a camera that rolls by {math.degrees(rolls[wrong[0]]):.2f} degrees or "
            f"climbs by {climbs[wrong[0]]:.3f} m in frame {wrong[0]}, expected one that stays "
            "upright and level, as keys move it; render its poses instead"
        )
    ways = np.diff(poses[:, :3, 3], axis=0)
    sin, cos = np.sin(yaws[1:]), np.cos(yaws[1:])
    velocities = np.stack(
        [
            ways[:, 0] * sin + ways[:, 2] * cos,
            ways[:, 0] * cos - ways[:, 2] * sin,
            np.diff(yaws),
            np.diff(tilts),
        ],
        axis=1,
    )
    return list(zip(velocities.tolist(), tilts[1:].tolist(), strict=True))


def _unexplained(frame: int, observed: list[float], mapping: KeyMapping) -> str:
    ahead, aside, turn, tilt = observed
    return (
        f"actions: got {ahead:.3f} m ahead, {aside:.3f} m aside, {math.degrees(turn):.2f} degrees "
        f"of turn and {math.degrees(tilt):.2f} of tilt in frame {frame}, expected what keys of "
        f"{mapping.name!r} make ({mapping.metres:g} m and {mapping.turn_deg:g} degrees a frame at "
        "full speed); name the mapping the path was made with, or render its poses instead"
    )
