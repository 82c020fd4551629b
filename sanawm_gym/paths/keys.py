"""Keys that move a camera: what each one does, and the motion they make.

Three readings of the letters WASD and IJKL are in use for SANA-WM, and they disagree: `a` slides to
the left in one and turns to the left in another, at half the speed. So a mapping is always named.

A walker stands on a level plane: keys turn it about the vertical and tilt its view; they move it
along its heading whatever the tilt. From one frame to the next

    pitch += v_pitch,  yaw += v_yaw
    place += v_ahead (sin yaw, cos yaw) + v_aside (cos yaw, -sin yaw)

with the turn first. Seen from the first camera, with a and b for yaw and pitch, a pose is
R = R_y(a) R_x(b). The velocities v are what the keys ask for, at once, or in a mapping that eases
come closer by 1 - exp(-1 / (16 tau)) a frame; a key that was not down before takes effect at once.
Opposite keys cancel each other, and diagonals are as fast as both their parts.

Axes: n frames; velocities are (ahead, aside, yaw, pitch), right and up positive.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64

from .camera_path import FPS, CameraPath

LETTERS = "wsadikjl"
_AXES = ("ahead", "aside", "yaw", "pitch")


@dataclass(frozen=True, kw_only=True)
class KeyMapping:
    """What the letters mean.

    Attributes:
        name: Its name.
        sideways: Letters that slide to the left and to the right.
        turning: Letters that turn to the left and to the right.
        metres: Way a frame [m], > 0.
        turn_deg: Turn a frame [deg], > 0.
        max_pitch_deg: Greatest tilt up or down [deg], below 90.
        beyond: What a step over that limit does: `ignored` whole, or `clamped` to it.
        turn_of_slide: Share of a turn that comes with a slide, to the same side.
        press_tau: Time constant of getting faster [s]; 0 for at once.
        coast_tau: Time constant of slowing down [s]; 0 for at once.
    """

    name: str
    sideways: str
    turning: str
    metres: float
    turn_deg: float
    max_pitch_deg: float
    beyond: Literal["ignored", "clamped"]
    turn_of_slide: float = 0.0
    press_tau: float = 0.0
    coast_tau: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers that callers change."""
        for name in ("metres", "turn_deg"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"mapping: got {name}={value}, expected a positive number")

    def at_speed(self, speed: float | None, turn_rate_deg: float | None) -> KeyMapping:
        """The same letters at other speeds.

        Args:
            speed: Way a second [m/s]; None keeps the mapping's.
            turn_rate_deg: Turn a second [deg/s]; None keeps the mapping's.
        """
        return dataclasses.replace(
            self,
            metres=self.metres if speed is None else speed / FPS,
            turn_deg=self.turn_deg if turn_rate_deg is None else turn_rate_deg / FPS,
        )

    @property
    def eases(self) -> bool:
        """Whether motion depends on which keys were down before."""
        return self.press_tau > 0 or self.coast_tau > 0

    @property
    def directions(self) -> Mapping[str, tuple[int, int]]:
        """Axis and sign of every letter."""
        pairs = ("sw", self.sideways, self.turning, "ki")
        return {
            letter: (axis, sign)
            for axis, pair in enumerate(pairs)
            for letter, sign in zip(pair, (-1, 1), strict=True)
        }

    def __str__(self) -> str:
        """One line that says what the letters do."""
        return (
            f"{self.name}: {'/'.join(self.turning)} turn, {'/'.join(self.sideways)} slide, "
            f"{self.metres:g} m and {self.turn_deg:g} degrees a frame"
        )


MAPPINGS = {
    mapping.name: mapping
    for mapping in (
        KeyMapping(
            name="release-1",
            sideways="ad",
            turning="jl",
            metres=0.05,
            turn_deg=1.2,
            max_pitch_deg=85.0,
            beyond="ignored",
        ),
        KeyMapping(
            name="release-2",
            sideways="jl",
            turning="ad",
            metres=0.025,
            turn_deg=0.6,
            max_pitch_deg=60.0,
            beyond="clamped",
            press_tau=0.45,
            coast_tau=1.0,
        ),
        KeyMapping(
            name="sglang",
            sideways="ad",
            turning="jl",
            metres=0.04,
            turn_deg=1.2,
            max_pitch_deg=85.0,
            beyond="ignored",
            turn_of_slide=0.4,
        ),
    )
}
"""Published mappings: SANA-WM's first release, which diffusers has too; its second, of the
streaming and training code; and what SGLang documents."""


def find_mapping(name: str) -> KeyMapping:
    """A published mapping.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in MAPPINGS:
        raise ValueError(
            f"mapping: got {name!r}, expected one of {list(MAPPINGS)}; they read the letters a, d, "
            "j and l differently, see docs/camera_paths.md"
        )
    return MAPPINGS[name]


@dataclass(frozen=True)
class Walker:
    """Where keys have led so far; nothing in it is ever changed.

    Attributes:
        east: Way to the right of the first heading [m].
        north: Way along the first heading [m].
        yaw: Heading, to the right of the first one [rad].
        pitch: Tilt of the view above the horizon [rad].
        velocity: (ahead, aside) [m] and (yaw, pitch) [rad] a frame.
        held: Letters that were down.
    """

    east: float = 0.0
    north: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    velocity: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    held: frozenset[str] = frozenset()

    def step(self, keys: Iterable[str], mapping: KeyMapping) -> Walker:
        """One frame with some keys down."""
        held = frozenset(keys)
        velocity = next_velocity(self, held, mapping)
        ahead, aside, turn, tilt = velocity
        pitch = self.pitch + tilt
        # A camera that begins beyond the limit goes no further.
        limit = max(math.radians(mapping.max_pitch_deg), abs(self.pitch))
        if abs(pitch) > limit:
            ignored = mapping.beyond == "ignored"
            pitch = self.pitch if ignored else math.copysign(limit, pitch)
        yaw = self.yaw + turn
        sin, cos = math.sin(yaw), math.cos(yaw)
        return Walker(
            east=self.east + ahead * sin + aside * cos,
            north=self.north + ahead * cos - aside * sin,
            yaw=yaw,
            pitch=pitch,
            velocity=velocity,
            held=held,
        )

    def level_from_camera(self) -> Float64[np.ndarray, "4 4"]:
        """Pose in a level frame at the first place (x right, y down, z along the first heading)."""
        (sa, ca), (sb, cb) = (
            (math.sin(angle), math.cos(angle)) for angle in (self.yaw, self.pitch)
        )
        pose = np.eye(4)
        pose[:3, :3] = [[ca, sa * sb, sa * cb], [0.0, cb, -sb], [-sa, ca * sb, ca * cb]]
        pose[0, 3], pose[2, 3] = self.east, self.north
        return pose


KEY_SETS = sorted(
    (
        frozenset(itertools.chain.from_iterable(choice))
        for choice in itertools.product(*(("", a, b, a + b) for a, b in ("ws", "ad", "ik", "jl")))
    ),
    key=lambda held: (len(held), sorted(held)),
)
"""All sets of letters, small ones first."""
_BITS = np.array([sum(1 << LETTERS.index(letter) for letter in held) for held in KEY_SETS])
_INDEX = {held: index for index, held in enumerate(KEY_SETS)}


def next_velocity(walker: Walker, held: frozenset[str], mapping: KeyMapping) -> tuple[float, ...]:
    """Velocity in the frame in which some keys are down; see the module."""
    row = next_velocities(walker, mapping, [_INDEX[held]])[0]
    return tuple(row.tolist())


def next_velocities(
    walker: Walker, mapping: KeyMapping, sets: Sequence[int] = range(len(KEY_SETS))
) -> Float64[np.ndarray, "s 4"]:
    """Velocity in the next frame for each of some sets of keys, by their place in `KEY_SETS`."""
    chosen = list(sets)
    target = _targets(mapping)[chosen]
    fresh = (_BITS[chosen] & ~_BITS[_INDEX[walker.held]]) != 0
    press, coast = (_share(tau) for tau in (mapping.press_tau, mapping.coast_tau))
    now = np.array(walker.velocity)
    eased = now + np.where(target != 0, press, coast) * (target - now)
    return np.where(fresh[:, None], target, eased)


@lru_cache(maxsize=64)
def _targets(mapping: KeyMapping) -> Float64[np.ndarray, "s 4"]:
    """Velocities that the sets of keys ask for."""
    signs = np.zeros((len(KEY_SETS), len(_AXES)))
    for row, held in enumerate(KEY_SETS):
        for letter in held:
            axis, sign = mapping.directions[letter]
            signs[row, axis] += sign
    signs[:, 2] += mapping.turn_of_slide * signs[:, 1]
    turn = math.radians(mapping.turn_deg)
    return np.asarray(signs * (mapping.metres, mapping.metres, turn, turn))


def _share(tau: float) -> float:
    """Share of the distance to the target that a frame covers."""
    return 1.0 - math.exp(-1.0 / (FPS * tau)) if tau > 0 else 1.0


def walked(
    frames: Sequence[Iterable[str]], mapping: KeyMapping, *, pitch: float = 0.0
) -> CameraPath:
    """The path of a camera while keys are down, one more pose than frames.

    Args:
        frames: Letters that are down in every frame.
        mapping: What they mean.
        pitch: Tilt of the first camera above the horizon [rad]; the path stays level under it.
    """
    walker = Walker(pitch=pitch)
    poses = [walker.level_from_camera()]
    for keys in frames:
        walker = walker.step(keys, mapping)
        poses.append(walker.level_from_camera())
    return CameraPath(np.stack(poses), FPS)
