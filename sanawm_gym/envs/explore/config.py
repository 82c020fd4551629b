"""Everything that can be said about an exploration; `gymnasium.make` and `reset` take these."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sanawm_gym.envs.config import DriveConfig
from sanawm_gym.envs.generated_config import GeneratedConfig, check_choice, check_number
from sanawm_gym.paths.keys import KeyMapping, find_mapping

ACTION_KINDS = ("continuous", "keys", "key")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExploreConfig(GeneratedConfig):
    """A camera that goes anywhere in a generated world."""

    action: str = "continuous"
    """`continuous` (six axes), `keys` (WASD and IJKL, several at once) or `key` (one of them)."""
    mapping: str = "release-2"
    """What the keys mean: `release-1`, `release-2` or `sglang`; see `paths.keys`."""
    max_speed: float = 8.0
    """Speed along an axis at full action, and of keys [m/s], above 0. The bundled world stands
    still below 3; the released SANA-WM walks at 0.4 and knows nothing beyond 0.8."""
    max_turn_deg: float = 20.0
    """Turn about an axis at full action, and of keys [deg/s], above 0."""
    lowest: float = 0.3
    """Height under which the ground holds the camera, in worlds that read it [m], at least 0.1."""

    def __post_init__(self) -> None:
        """Check what can be checked without the world and the picture."""
        super().__post_init__()
        check_choice("action", self.action, ACTION_KINDS)
        check_number("max_speed", self.max_speed, above=0.0, hint="give metres a second")
        check_number("max_turn_deg", self.max_turn_deg, above=0.0, hint="give degrees a second")
        check_number("lowest", self.lowest, at_least=0.1, hint="give metres")
        find_mapping(self.mapping)

    @property
    def keys(self) -> KeyMapping:
        """The mapping at this config's speeds."""
        return find_mapping(self.mapping).at_speed(self.max_speed, self.max_turn_deg)

    def as_drive(self) -> DriveConfig:
        """The same world and start, as those of a drive which nobody pays for."""
        shared = {one.name: getattr(self, one.name) for one in dataclasses.fields(GeneratedConfig)}
        return DriveConfig(**shared, reward="kinematic")


EPISODE_FIELDS = frozenset({"start", "prompt", "intrinsics", "rig", "horizon"})
"""Fields that `reset` may change, and that may differ between the rows of a vector environment."""
