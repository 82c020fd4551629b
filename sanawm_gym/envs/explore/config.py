"""Everything that can be said about an exploration; `gymnasium.make` and `reset` take these."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.envs.config import RENDER_MODES, DriveConfig
from sanawm_gym.envs.settings import Settings
from sanawm_gym.envs.spaces import OBSERVATION_MODES
from sanawm_gym.paths.keys import KeyMapping, find_mapping

if TYPE_CHECKING:
    from sanawm_gym.worldmodel.official import OfficialConfig

ACTION_KINDS = ("continuous", "keys", "key")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExploreConfig(Settings):
    """A camera that goes anywhere in a generated world."""

    world: str | os.PathLike[str] = "drive"
    """World model: a bundled name, a folder or a hub id, of this project or of released weights."""
    release: OfficialConfig | None = None
    """How released weights are loaded, as in `DriveConfig`."""
    envelope: str | None = "auto"
    """Which motion the world is known to draw well, as in `DriveConfig`; `auto` is `walk` for
    released weights and looks at nothing in other worlds."""
    device: str = "cpu"
    """Torch device of the world model."""
    dtype: str = "auto"
    """`float32`, `bfloat16` or `auto`, which asks the processor."""
    backend: str = "auto"
    """`auto`, `plain`, `fused` or `openvino` (extra `fast`): the form in which the world steps."""
    sampler_steps: int | None = None
    """Denoising steps a decision, at least 1; None takes the world's own schedule."""
    guidance: float | None = None
    """How far to go from what an empty prompt gives, through what the prompt gives and beyond, at
    least 0; 3 makes the world obey a prompt that its start does not suggest. Takes a second pass of
    the network a step; None takes the world's own, which is 1 and takes none."""
    refine: bool = False
    """Show what the world's refiner makes of the drawn pictures; costs time, see its card."""
    observation: str = "dict"
    """`dict` (camera and motion), `camera` (the picture alone) or `latent` (latent and motion)."""
    action: str = "continuous"
    """`continuous` (six axes), `keys` (WASD and IJKL, several at once) or `key` (one of them)."""
    mapping: str = "release-2"
    """What the keys mean: `release-1`, `release-2` or `sglang`; see `paths.keys`."""
    render_mode: str | None = None
    """`rgb_array` (newest picture), `rgb_array_list` (every raw frame), `human` (a window)."""
    frames_in_info: bool = False
    """Put the raw frames of every decision and their poses into the info."""
    latency_in_info: bool = False
    """Put the wall time that the world took into the info [ms], which differs from run to run."""
    start: Any = None
    """As in `DriveConfig`: a start context, an image file, a picture, or None for one by seed."""
    prompt: str | None = None
    """Description of the world; None takes the caption of the start context."""
    intrinsics: Intrinsics | Sequence[float] | NDArray[np.floating[Any]] | None = None
    """Lens of the start picture: `Intrinsics`, or fx, fy, cx, cy [px]; see `DriveConfig`."""
    rig: CameraRig | None = None
    """Height and pitch of the first camera; None takes those of the context."""
    max_speed: float = 8.0
    """Speed along an axis at full action, and of keys [m/s], above 0. The bundled world stands
    still below 3; the released SANA-WM walks at 0.4 and knows nothing beyond 0.8."""
    max_turn_deg: float = 20.0
    """Turn about an axis at full action, and of keys [deg/s], above 0."""
    lowest: float = 0.3
    """Height under which the ground holds the camera, in worlds that read it [m], at least 0.1."""
    horizon: float = 60.0
    """Length of an episode [s], above 0; rounded up to whole decisions."""

    def __post_init__(self) -> None:
        """Check what can be checked without the world and the picture."""
        for name, known in (
            ("observation", OBSERVATION_MODES),
            ("action", ACTION_KINDS),
            ("render_mode", (None, *RENDER_MODES)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {list(known)}")
        for name in ("max_speed", "max_turn_deg", "lowest", "horizon"):
            value, least = getattr(self, name), 0.1 if name == "lowest" else 0.0
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not value >= max(least, 1e-6):
                bound = f"of at least {least:g}" if least else "above 0"
                raise ValueError(f"{name}: got {value!r}, expected a finite number {bound}")
        find_mapping(self.mapping)
        # What a start is and how a world is opened is the driving environment's to check.
        self.as_drive()

    @property
    def keys(self) -> KeyMapping:
        """The mapping at this config's speeds."""
        return find_mapping(self.mapping).at_speed(self.max_speed, self.max_turn_deg)

    def as_drive(self) -> DriveConfig:
        """The same world and start, as those of a drive which nobody pays for."""
        return DriveConfig(
            world=self.world,
            release=self.release,
            envelope=self.envelope,
            device=self.device,
            dtype=self.dtype,
            backend=self.backend,
            sampler_steps=self.sampler_steps,
            guidance=self.guidance,
            refine=self.refine,
            start=self.start,
            prompt=self.prompt,
            intrinsics=self.intrinsics,
            rig=self.rig,
            reward="kinematic",
        )


EPISODE_FIELDS = frozenset({"start", "prompt", "intrinsics", "rig", "horizon"})
"""Fields that `reset` may change, and that may differ between the rows of a vector environment."""
