"""What all generated environments are told: which world, what is shown of it, where it begins."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.paths.envelope import ENVELOPES

from .settings import Settings
from .spaces import OBSERVATION_MODES

if TYPE_CHECKING:
    from sanawm_gym.worldmodel.official import OfficialConfig

RENDER_MODES = ("rgb_array", "rgb_array_list", "human")


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedConfig(Settings):
    """An episode in a generated world, whatever is done there."""

    world: str | os.PathLike[str] = "drive"
    """World model: a bundled name, a folder or a hub id, of this project or of released weights."""
    release: OfficialConfig | None = None
    """How released weights are loaded: size of the pictures, where their parts lie; its device,
    dtype and refine are those of this config. None as released, and for other worlds."""
    envelope: str | None = "auto"
    """Which motion the world is known to draw well; steps that leave it say so in the info.
    `walk`, `car`, None for any, or `auto`: `walk` for released weights, else None."""
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
    """`dict` (camera and numbers), `camera` (the picture alone) or `latent` (latent frame and
    numbers); the numbers are the car's `ego` or the camera's `motion`."""
    render_mode: str | None = None
    """`rgb_array` (newest picture), `rgb_array_list` (every raw frame), `human` (a window)."""
    frames_in_info: bool = False
    """Put the raw frames of every decision and their poses into the info."""
    latency_in_info: bool = False
    """Put the wall time that the world took for a step into the info, which then differs from run
    to run."""
    start: Any = None
    """Where the episode begins: the id of a start context, an image file, a picture (uint8 array
    (h, w, 3)), a `StartContext`, or None for a bundled context drawn with the episode's seed; with
    a prompt, drawn among those whose captions have most of it."""
    prompt: str | None = None
    """Description of the world; None takes the caption of the start context."""
    intrinsics: Intrinsics | Sequence[float] | NDArray[np.floating[Any]] | None = None
    """Lens of the start picture as given: `Intrinsics`, or fx, fy, cx, cy [px]; None takes the
    context's, and 70 degrees across for a bare picture."""
    rig: CameraRig | None = None
    """Mount of the first camera; None takes the height and pitch of the context's."""
    horizon: float = 60.0
    """Length of an episode [s], above 0; rounded up to whole decisions."""

    def __post_init__(self) -> None:
        """Check what can be checked without the world and the picture."""
        check_choice("observation", self.observation, OBSERVATION_MODES)
        check_choice("render_mode", self.render_mode, (None, *RENDER_MODES))
        check_choice("envelope", self.envelope, (None, "auto", *ENVELOPES))
        if self.release is not None:
            _check_release(self.release)
        if not isinstance(self.rig, CameraRig | None):
            raise ValueError(
                f"rig: got {self.rig!r}, expected a CameraRig; build one with CameraRig(...)"
            )
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ValueError(f"prompt: got {self.prompt!r}, expected a string; write a sentence")
        check_number("horizon", self.horizon, above=0.0, hint="give seconds, for example 60.0")
        if self.sampler_steps is not None and not (
            isinstance(self.sampler_steps, int) and self.sampler_steps >= 1
        ):
            raise ValueError(
                f"sampler_steps: got {self.sampler_steps!r}, expected a whole number of at least "
                "1; leave it out for the world's own schedule"
            )
        if self.guidance is not None:
            check_number("guidance", self.guidance, at_least=0.0, hint="1 draws what is prompted")
        if not isinstance(self.refine, bool):
            raise ValueError(f"refine: got {self.refine!r}, expected True or False; give either")


def check_choice(name: str, value: object, known: Sequence[str | None]) -> None:
    """Refuse what is none of the known values.

    Raises:
        ValueError: Naming the setting.
    """
    if value not in known:
        raise ValueError(f"{name}: got {value!r}, expected one of {list(known)}; choose one")


def check_number(
    name: str,
    value: object,
    *,
    hint: str,
    above: float = -math.inf,
    at_least: float = -math.inf,
) -> None:
    """Refuse what is no finite number within its bound.

    Args:
        name: Of the setting.
        value: What was given.
        hint: What to do instead.
        above: Every number must be larger.
        at_least: No number may be smaller.

    Raises:
        ValueError: Naming the setting.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= above or value < at_least:  # type: ignore[arg-type,operator]
        bound = f"above {above:g}" if above > -math.inf else f"of at least {at_least:g}"
        raise ValueError(f"{name}: got {value!r}, expected a finite number {bound}; {hint}")


def _check_release(release: object) -> None:
    # Imported here: the reference world shares this file and needs no torch.
    from sanawm_gym.worldmodel.official import OfficialConfig

    if not isinstance(release, OfficialConfig):
        raise ValueError(
            f"release: got {release!r}, expected an OfficialConfig or None; build one with "
            "OfficialConfig(...) of sanawm_gym.worldmodel.official"
        )
