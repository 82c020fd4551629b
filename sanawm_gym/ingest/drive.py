"""What a layout is: where its drives lie, and how one of them becomes pictures with a camera path.

A reader says nothing about clocks, sizes or the world frame; that is common to all layouts. It
gives poses as `world_from_camera` with OpenCV axes (x right, y down, z forward) in metres, in any
world frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sanawm_gym.camera import Intrinsics
from sanawm_gym.paths.trajectory import Trajectory

from .config import IngestConfig
from .pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class Drive:
    """One drive as its layout has it."""

    pictures: Pictures
    """Its video."""
    times: Float64[np.ndarray, " n"]
    """When each picture was taken [s], rising."""
    path: Trajectory
    """Where the camera was, on the same clock."""
    intrinsics: Intrinsics
    """Lens of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way in which others keep drives on disk."""

    names: Callable[[IngestConfig], list[str]]
    """Names of the drives in a source, in order."""
    read: Callable[[IngestConfig, str], Drive]
    """Opens one of them; a ValueError says what is wrong with it."""
    camera_height: float | None
    """Camera above the road [m], where it is known."""
    terms: str
    """What the dataset card says about the rights in the pictures."""
