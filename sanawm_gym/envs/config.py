"""Everything that can be said about a drive; `gymnasium.make` and `reset` take these fields."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.paths.envelope import ENVELOPES
from sanawm_gym.vehicle import VehicleConfig

from .actions import ActionKind, action_kind
from .drift import DriftConfig
from .outcomes import OutcomeConfig
from .reward import RewardConfig, RewardTerm, reward_config
from .road_filter import RoadFilterConfig
from .settings import Settings
from .spaces import OBSERVATION_MODES

if TYPE_CHECKING:
    from sanawm_gym.worldmodel.official import OfficialConfig

RENDER_MODES = ("rgb_array", "rgb_array_list", "human")


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveConfig(Settings):
    """A drive through a generated world."""

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
    """`dict` (camera and ego), `camera` (the picture alone) or `latent` (latent frame and ego)."""
    action: str | ActionKind = "continuous"
    """`continuous`, `discrete`, `chunk` or `waypoints`, or one of the kinds in `actions`."""
    render_mode: str | None = None
    """`rgb_array` (newest picture), `rgb_array_list` (every raw frame), `human` (a window)."""
    frames_in_info: bool = False
    """Put the raw frames of every decision and their poses into the info."""
    latency_in_info: bool = False
    """Put the wall time that the world took for a step into the info, which then differs from run
    to run."""
    start: Any = None
    """Where the drive begins: the id of a start context, an image file, a picture (uint8 array
    (h, w, 3)), a `StartContext`, or None for a bundled context drawn with the episode's seed; with
    a prompt, drawn among those whose captions have most of it."""
    prompt: str | None = None
    """Description of the world; None takes the caption of the start context."""
    intrinsics: Intrinsics | Sequence[float] | NDArray[np.floating[Any]] | None = None
    """Lens of the start picture as given: `Intrinsics`, or fx, fy, cx, cy [px]; None takes the
    context's, and 70 degrees across for a bare picture."""
    speed: float | None = None
    """Speed at the start [m/s], at least 0; None takes the context's, and 8 for a bare picture."""
    rig: CameraRig | None = None
    """Camera mount; None takes the height and pitch of the context's camera."""
    vehicle: VehicleConfig = dataclasses.field(default_factory=VehicleConfig)
    """The car."""
    horizon: float = 60.0
    """Length of an episode [s], above 0; rounded up to whole decisions."""
    reward: str | RewardConfig | Sequence[RewardTerm] = "auto"
    """Preset (`carl`, `metadrive`, `pdm`, `kinematic`), a config, or reward terms to be added up.
    `auto` is `carl` in worlds with heads, and `kinematic`, which is blind to the picture, in
    others."""
    road_filter: RoadFilterConfig | None = dataclasses.field(default_factory=RoadFilterConfig)
    """How what pictures say of the road is put together with the car's motion; None takes every
    picture by itself."""
    outcomes: OutcomeConfig | None = dataclasses.field(default_factory=OutcomeConfig)
    """When what is read off the pictures ends the drive; None never does."""
    drift: DriftConfig | None = dataclasses.field(default_factory=DriftConfig)
    """When a drive is cut short because its world has drifted; None never is."""

    def __post_init__(self) -> None:
        """Check what can be checked without the world and the picture."""
        _check_choice("observation", self.observation, OBSERVATION_MODES)
        if self.render_mode is not None:
            _check_choice("render_mode", self.render_mode, RENDER_MODES)
        _check_choice("envelope", self.envelope, (None, "auto", *ENVELOPES))
        if self.release is not None:
            _check_release(self.release)
        for name, kind in (("vehicle", VehicleConfig), ("rig", CameraRig)):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "rig" and value is None):
                raise ValueError(
                    f"{name}: got {value!r}, expected a {kind.__name__}; "
                    f"build one with {kind.__name__}(...)"
                )
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ValueError(f"prompt: got {self.prompt!r}, expected a string; write a sentence")
        _check_number("horizon", self.horizon, above=0.0, hint="give seconds, for example 60.0")
        if self.speed is not None:
            _check_number("speed", self.speed, at_least=0.0, hint="give metres a second")
        if self.sampler_steps is not None and not (
            isinstance(self.sampler_steps, int) and self.sampler_steps >= 1
        ):
            raise ValueError(
                f"sampler_steps: got {self.sampler_steps!r}, expected a whole number of at least "
                "1; leave it out for the world's own schedule"
            )
        if self.guidance is not None:
            _check_number("guidance", self.guidance, at_least=0.0, hint="1 draws what is prompted")
        if not isinstance(self.refine, bool):
            raise ValueError(f"refine: got {self.refine!r}, expected True or False; give either")
        check_rules(self.action, self.reward, self.outcomes)
        for name, rule in (("road_filter", RoadFilterConfig), ("drift", DriftConfig)):
            value = getattr(self, name)
            if not (value is None or isinstance(value, rule)):
                raise ValueError(
                    f"{name}: got {value!r}, expected a {rule.__name__} or None; build one with "
                    f"{rule.__name__}(...)"
                )


EPISODE_FIELDS = frozenset(
    {
        "start",
        "prompt",
        "intrinsics",
        "speed",
        "rig",
        "vehicle",
        "horizon",
        "reward",
        "road_filter",
        "outcomes",
        "drift",
    }
)
"""Fields that may differ between the rows of a vector environment."""


def split_options(options: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """Options of every row of a batch: a list of `num_rows` values gives one to each.

    Raises:
        ValueError: If a list has another length.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(num_rows)]
    for name, value in options.items():
        shared = not isinstance(value, list)
        if not shared and len(value) != num_rows:
            raise ValueError(
                f"options: got {len(value)} values of {name!r}, expected {num_rows}, one a row; "
                "give a single value (not a list) to use it everywhere"
            )
        for index, row in enumerate(rows):
            row[name] = value if shared else value[index]
    return rows


def check_rules(action: object, reward: object, outcomes: object) -> None:
    """Refuse settings of the task that are none, in whichever world.

    Raises:
        ValueError: Naming the setting.
    """
    action_kind(action)  # type: ignore[arg-type]
    reward_config(reward, can_read=True)  # type: ignore[arg-type]
    if not isinstance(outcomes, OutcomeConfig | None):
        raise ValueError(
            f"outcomes: got {outcomes!r}, expected an OutcomeConfig or None; build one with "
            "OutcomeConfig(...)"
        )


def _check_release(release: object) -> None:
    # Imported here: the reference world shares this file and needs no torch.
    from sanawm_gym.worldmodel.official import OfficialConfig

    if not isinstance(release, OfficialConfig):
        raise ValueError(
            f"release: got {release!r}, expected an OfficialConfig or None; build one with "
            "OfficialConfig(...) of sanawm_gym.worldmodel.official"
        )


def _check_choice(name: str, value: object, known: Sequence[str | None]) -> None:
    if value not in known:
        raise ValueError(f"{name}: got {value!r}, expected one of {list(known)}; choose one")


def _check_number(
    name: str,
    value: object,
    *,
    hint: str,
    above: float = -math.inf,
    at_least: float = -math.inf,
) -> None:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= above or value < at_least:  # type: ignore[arg-type,operator]
        bound = f"above {above:g}" if above > -math.inf else f"of at least {at_least:g}"
        raise ValueError(f"{name}: got {value!r}, expected a finite number {bound}; {hint}")
