"""Everything that can be said about a drive through a reference world."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.vehicle import VehicleConfig

from ..actions import ActionKind
from ..config import check_rules
from ..generated_config import RENDER_MODES
from ..outcomes import OutcomeConfig
from ..reward import RewardConfig, RewardTerm
from ..spaces import OBSERVATION_MODES
from .scene import SceneConfig
from .world import StartState


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceConfig:
    """A drive through a reference world."""

    observation: str = "dict"
    """`dict` (camera and ego) or `camera` (the picture alone)."""
    action: str | ActionKind = "continuous"
    """`continuous`, `discrete`, `chunk` or `waypoints`, or one of the kinds in `envs.actions`."""
    render_mode: str | None = None
    """`rgb_array` (newest picture), `rgb_array_list` (every raw frame), `human` (a window)."""
    frames_in_info: bool = False
    """Put the raw frames of every decision and their poses into the info."""
    depth_in_info: bool = False
    """Put the depth [m] of the observed picture into the info."""
    scene: SceneConfig | None = None
    """The world; None draws one with the episode's seed."""
    world_seed: int | None = None
    """Seed of the drawn world, at least 0; None takes it from the episode's seed."""
    num_vehicles: int | None = None
    """Other vehicles near the car, 0-12; None takes the scene's number."""
    start: StartState | None = None
    """How the drive begins; None draws a lane and a speed."""
    intrinsics: Intrinsics | None = None
    """Lens and picture size of 128 x 72; None takes the scene's field of view."""
    rig: CameraRig | None = None
    """Camera mount; None takes the scene's height and pitch."""
    vehicle: VehicleConfig = dataclasses.field(default_factory=VehicleConfig)
    """The car."""
    horizon: float = 60.0
    """Length of an episode [s], above 0 and at most 600; rounded up to whole decisions."""
    off_road_margin: float = 0.5
    """The drive ends when every corner of the car is this far beyond the road's edge [m], >= 0."""
    reward: str | RewardConfig | Sequence[RewardTerm] = "auto"
    """Preset (`carl`, `metadrive`, `pdm`, `kinematic`), a config, or reward terms to be added up;
    they read the truth. `auto` is `carl`."""
    outcomes: OutcomeConfig | None = dataclasses.field(default_factory=OutcomeConfig)
    """What the wrong way is; collisions and the edge of the road are known and end a drive at once.
    None lets a drive go on whatever happens."""

    def __post_init__(self) -> None:
        """Check every setting."""
        modes = OBSERVATION_MODES[:2]
        for name, allowed in (("observation", modes), ("render_mode", (None, *RENDER_MODES))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {list(allowed)}"
                )
        for name, kind in (
            ("scene", SceneConfig),
            ("start", StartState),
            ("intrinsics", Intrinsics),
            ("rig", CameraRig),
        ):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ValueError(f"{name}: got {value!r}, expected a {kind.__name__} or None")
        if not isinstance(self.vehicle, VehicleConfig):
            raise ValueError(f"vehicle: got {self.vehicle!r}, expected a VehicleConfig")
        _check_range("horizon", self.horizon, 1e-3, 600.0)
        _check_range("off_road_margin", self.off_road_margin, 0.0, 100.0)
        if self.num_vehicles is not None:
            _check_range("num_vehicles", self.num_vehicles, 0, 12)
        if self.world_seed is not None:
            _check_range("world_seed", self.world_seed, 0, 2**62)
        if self.intrinsics is not None:
            self.intrinsics.check()
        check_rules(self.action, self.reward, self.outcomes)

    def replace(self, changes: Mapping[str, Any]) -> ReferenceConfig:
        """This config with other values.

        Raises:
            ValueError: If a key is no field, or a value is impossible.
        """
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ValueError(
                f"options: got {unknown}, expected some of {known}; check the spelling"
            )
        return dataclasses.replace(self, **changes)


SHARED_FIELDS = frozenset({"observation", "action", "render_mode", "vehicle", "intrinsics"})
"""Fields that fix the spaces: given when the environment is made, not at a reset."""


def _check_range(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name}: got {value!r}, expected a number from {low:g} to {high:g}")
