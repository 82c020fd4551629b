"""Whether a drive moves as the world has seen cameras move; what it never saw it draws badly.

The released SANA-WM was trained and is shown at walking pace: 0.8 m/s, 0.05 m a picture. A car at
13 m/s moves by 0.81 m a picture, sixteen times as far. Nothing is refused; it is said, in `info` at
every step and once in the log.

Axes: b cars, f raw frames of a decision.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sanawm_gym.paths.camera_path import CameraPath
from sanawm_gym.paths.envelope import ENVELOPES, WALK, Envelope, departures

from .released import ReleasedWorld
from .worlds import World


def known_motion(name: str | None, world: World) -> Envelope | None:
    """The envelope that a setting stands for.

    Args:
        name: `walk`, `car`, `auto` or None for no envelope. `auto` is the released networks' own,
            in their unit of length, and none for other worlds: the car of the environment keeps to
            what they know.
        world: In which a drive takes place.
    """
    if name == "auto":
        if not isinstance(world, ReleasedWorld):
            return None
        return WALK.in_unit(world.official.parts.network.config.camera_unit_m)
    return None if name is None else ENVELOPES[name]


def departures_of(
    before: Float64[np.ndarray, "b 4 4"],
    poses: Float64[np.ndarray, "b f 4 4"],
    fps: float,
    envelope: Envelope,
) -> tuple[str, ...]:
    """Where cameras left an envelope during a decision; an empty line where they did not.

    Args:
        before: `world_from_camera` at its beginning [m].
        poses: And at all its raw frames.
        fps: Raw frames a second.
        envelope: What the world knows.
    """
    paths = np.concatenate([before[:, None], poses], axis=1)
    return tuple("; ".join(departures(CameraPath(path, fps), envelope)) for path in paths)


_TOLD: set[tuple[str, str]] = set()


def say_that_it_left(
    world: str,
    envelope: Envelope | None,
    lines: Sequence[str] | None,
    slower: str = "speed=..., a VehicleConfig with a lower max_speed",
) -> None:
    """Once a process and world: a log entry, since the drive goes on as asked for.

    Args:
        world: Name of it.
        envelope: What it knows; None where nobody looked.
        lines: What `departures_of` found.
        slower: Settings that would keep to the envelope.
    """
    left = next(filter(None, lines or ()), None)
    if envelope is None or left is None or (world, envelope.name) in _TOLD:
        return
    _TOLD.add((world, envelope.name))
    logging.getLogger(__name__).warning(
        "in world %r the camera moves beyond %s, which is all it has seen: %s. Expect bad "
        "pictures. Go slower (%s), or fine-tune it on driving video (docs/official.md) and say "
        "envelope='car'; envelope=None stops the check",
        world,
        envelope.name,
        left,
        slower,
    )
