"""Everything that can be said about a drive; `gymnasium.make` and `reset` take these fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sanawm_gym.vehicle import VehicleConfig

from .actions import ActionKind, action_kind
from .drift import DriftConfig
from .generated_config import GeneratedConfig, check_number
from .outcomes import OutcomeConfig
from .reward import RewardConfig, RewardTerm, reward_config
from .road_filter import RoadFilterConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveConfig(GeneratedConfig):
    """A drive through a generated world."""

    action: str | ActionKind = "continuous"
    """`continuous`, `discrete`, `chunk` or `waypoints`, or one of the kinds in `actions`."""
    speed: float | None = None
    """Speed at the start [m/s], at least 0; None takes the context's, and 8 for a bare picture."""
    vehicle: VehicleConfig = dataclasses.field(default_factory=VehicleConfig)
    """The car."""
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
        super().__post_init__()
        if not isinstance(self.vehicle, VehicleConfig):
            raise ValueError(
                f"vehicle: got {self.vehicle!r}, expected a VehicleConfig; build one with "
                "VehicleConfig(...)"
            )
        if self.speed is not None:
            check_number("speed", self.speed, at_least=0.0, hint="give metres a second")
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
