"""What a reference world looks like, as numbers: one frozen record drawn from a seed.

Everything that is random about a world before the car moves is decided here or from
`SceneConfig.seed`, so equal seeds give equal worlds. Kinds of road set the ranges; weather, hour
and camera are drawn independently of the kind as far as that stays believable (no snow in the
desert).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("country", "forest", "suburban", "highway", "mountain", "desert", "city")
WEATHERS = ("clear", "cloudy", "overcast", "rain", "fog", "snow")
HOURS = ("morning", "noon", "afternoon", "sunset", "dusk", "night")
GROUNDS = ("grass", "dry_grass", "sand", "snow", "field", "forest_floor", "pavement")


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """One world of the reference simulator.

    Attributes:
        seed: Seed of everything drawn later from the scene (road, objects, textures), >= 0.
        kind: Kind of road, one of KINDS.
        num_forward: Lanes in the ego's direction, 1-4 (all lanes together at most 4).
        num_oncoming: Lanes of oncoming traffic, 0-2; 0 means one-way.
        lane_width: Lane width [m], 2.7-4.
        min_radius: Tightest curve [m], >= 15.
        straightness: Share of the road that is straight, 0-1.
        merge: Extra lane on the right: none, joins (begins and runs on) or ends (tapers away).
        centre_colour: Paint between the directions, white or yellow.
        centre_style: none, dashed, solid or double.
        edge_lines: Whether edge lines are painted.
        wear: How worn the paint is, 0-0.7.
        asphalt_tone: Grey level of the dry asphalt, 0.2-0.55.
        asphalt_noise: Strength of patches and streaks on the asphalt, 0-1.
        shoulder: Strip beside the lanes: paved, gravel, none or kerb.
        shoulder_width: Width of that strip [m], 0-2.5.
        ground: Texture beyond it, one of GROUNDS.
        weather: One of WEATHERS.
        hour: One of HOURS.
        visibility: Distance at which haze takes 95 % of the contrast [m].
        sun_azimuth: Direction of the sun or moon in the world [rad].
        trees: Density of trees, 0-1.
        buildings: Density of buildings, 0-1.
        furniture: Density of posts, signs and lamps, 0-1.
        barrier: Along the road: none, rail, hedge or wall.
        num_vehicles: Other vehicles kept near the ego, 0-12.
        speed_limit: Speed of free traffic [m/s], 6-24.
        camera_height: Camera above the ground [m], 1.2-1.8.
        camera_pitch_deg: Camera pitch [deg], + looks down (as in `CameraRig`), within +-10.
        fov_deg: Horizontal field of view [deg], 50-100.
    """

    seed: int
    kind: str = "country"
    num_forward: int = 1
    num_oncoming: int = 1
    lane_width: float = 3.5
    min_radius: float = 60.0
    straightness: float = 0.3
    merge: str = "none"
    centre_colour: str = "white"
    centre_style: str = "dashed"
    edge_lines: bool = True
    wear: float = 0.1
    asphalt_tone: float = 0.36
    asphalt_noise: float = 0.4
    shoulder: str = "gravel"
    shoulder_width: float = 0.8
    ground: str = "grass"
    weather: str = "clear"
    hour: str = "noon"
    visibility: float = 800.0
    sun_azimuth: float = 1.0
    trees: float = 0.5
    buildings: float = 0.1
    furniture: float = 0.4
    barrier: str = "none"
    num_vehicles: int = 3
    speed_limit: float = 14.0
    camera_height: float = 1.5
    camera_pitch_deg: float = 0.0
    fov_deg: float = 70.0

    def __post_init__(self) -> None:
        """Check names and counts."""
        named = (("kind", KINDS), ("weather", WEATHERS), ("hour", HOURS), ("ground", GROUNDS))
        for name, allowed in named:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"scene: got {name}={getattr(self, name)!r}, expected one of {list(allowed)}"
                )
        if self.num_forward < 1 or self.num_forward + self.num_oncoming > 4:
            raise ValueError(
                f"scene: got {self.num_forward} forward and {self.num_oncoming} oncoming lanes, "
                "expected at least one forward and at most four in all"
            )
        if self.min_radius < 15.0:
            raise ValueError(f"scene: got min_radius={self.min_radius} m, expected at least 15")

    @property
    def is_dark(self) -> bool:
        """Whether headlights are on."""
        return self.hour in ("night", "dusk")

    @property
    def is_wet(self) -> bool:
        """Whether the road is wet."""
        return self.weather == "rain"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Ranges of one kind of road (weights for choices, low-high for numbers)."""

    lanes: tuple[tuple[int, int], ...]
    lane_width: tuple[float, float]
    min_radius: tuple[float, float]
    straightness: tuple[float, float]
    grounds: tuple[str, ...]
    shoulders: tuple[str, ...]
    barriers: tuple[str, ...]
    trees: tuple[float, float]
    buildings: tuple[float, float]
    furniture: tuple[float, float]
    speed: tuple[float, float]
    vehicles: tuple[int, int]
    merge: float = 0.0


_KIND_RANGES: dict[str, _Kind] = {
    "country": _Kind(
        lanes=((1, 1), (1, 1), (1, 1), (2, 1), (1, 0)),
        lane_width=(2.9, 3.6),
        min_radius=(35, 140),
        straightness=(0.15, 0.6),
        grounds=("grass", "field", "field", "dry_grass", "grass"),
        shoulders=("gravel", "none", "gravel", "paved"),
        barriers=("none", "none", "none", "hedge", "rail"),
        trees=(0.1, 0.6),
        buildings=(0.0, 0.25),
        furniture=(0.2, 0.9),
        speed=(11, 18),
        vehicles=(0, 7),
    ),
    "forest": _Kind(
        lanes=((1, 1), (1, 1), (1, 0)),
        lane_width=(2.8, 3.5),
        min_radius=(25, 90),
        straightness=(0.1, 0.4),
        grounds=("forest_floor", "grass", "forest_floor"),
        shoulders=("none", "gravel"),
        barriers=("none", "none", "none", "rail"),
        trees=(0.8, 1.0),
        buildings=(0.0, 0.03),
        furniture=(0.1, 0.6),
        speed=(9, 15),
        vehicles=(0, 5),
    ),
    "suburban": _Kind(
        lanes=((1, 1), (1, 1), (1, 0), (2, 0)),
        lane_width=(2.9, 3.5),
        min_radius=(15, 70),
        straightness=(0.3, 0.7),
        grounds=("grass", "grass", "pavement"),
        shoulders=("kerb", "kerb", "none"),
        barriers=("none", "none", "hedge"),
        trees=(0.15, 0.5),
        buildings=(0.6, 1.0),
        furniture=(0.4, 1.0),
        speed=(7, 12),
        vehicles=(0, 8),
    ),
    "highway": _Kind(
        lanes=((2, 0), (3, 0), (4, 0), (3, 0), (2, 2)),
        lane_width=(3.4, 3.8),
        min_radius=(180, 500),
        straightness=(0.3, 0.8),
        grounds=("grass", "dry_grass", "field", "sand"),
        shoulders=("paved",),
        barriers=("rail", "rail", "none", "wall"),
        trees=(0.05, 0.4),
        buildings=(0.0, 0.15),
        furniture=(0.3, 0.8),
        speed=(17, 23),
        vehicles=(2, 12),
        merge=0.45,
    ),
    "mountain": _Kind(
        lanes=((1, 1), (1, 1), (1, 0)),
        lane_width=(2.8, 3.4),
        min_radius=(15, 45),
        straightness=(0.05, 0.3),
        grounds=("grass", "dry_grass", "forest_floor"),
        shoulders=("gravel", "none"),
        barriers=("rail", "rail", "wall", "none"),
        trees=(0.2, 0.8),
        buildings=(0.0, 0.05),
        furniture=(0.3, 0.9),
        speed=(8, 13),
        vehicles=(0, 4),
    ),
    "desert": _Kind(
        lanes=((1, 1), (1, 1), (2, 0), (1, 0)),
        lane_width=(3.1, 3.8),
        min_radius=(60, 300),
        straightness=(0.3, 0.8),
        grounds=("sand", "sand", "dry_grass"),
        shoulders=("gravel", "none", "paved"),
        barriers=("none", "none", "rail"),
        trees=(0.0, 0.12),
        buildings=(0.0, 0.05),
        furniture=(0.1, 0.6),
        speed=(13, 21),
        vehicles=(0, 4),
        merge=0.1,
    ),
    "city": _Kind(
        lanes=((1, 1), (2, 1), (2, 2), (3, 0), (2, 0)),
        lane_width=(3.0, 3.5),
        min_radius=(20, 120),
        straightness=(0.4, 0.8),
        grounds=("pavement", "pavement", "grass"),
        shoulders=("kerb",),
        barriers=("none",),
        trees=(0.05, 0.35),
        buildings=(0.9, 1.0),
        furniture=(0.6, 1.0),
        speed=(8, 13),
        vehicles=(2, 12),
        merge=0.2,
    ),
}
_KIND_WEIGHTS = (0.22, 0.15, 0.17, 0.18, 0.1, 0.07, 0.11)
_WEATHER_WEIGHTS = (0.34, 0.22, 0.16, 0.12, 0.08, 0.08)
_HOUR_WEIGHTS = (0.18, 0.24, 0.2, 0.14, 0.1, 0.14)
_VISIBILITY = {
    "clear": (700, 2000), "cloudy": (600, 1500), "overcast": (350, 900),
    "rain": (130, 320), "fog": (55, 130), "snow": (110, 300),
}  # fmt: skip


def sample_scene(seed: int) -> SceneConfig:
    """Draw a world.

    Args:
        seed: Seed, >= 0; equal seeds give equal scenes on every machine.
    """
    if seed < 0:
        raise ValueError(f"scene: got seed={seed}, expected a whole number >= 0")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x5CE4E])))
    kind = KINDS[rng.choice(len(KINDS), p=_KIND_WEIGHTS)]
    ranges = _KIND_RANGES[kind]
    num_forward, num_oncoming = ranges.lanes[rng.integers(len(ranges.lanes))]
    merge = "none"
    if rng.random() < ranges.merge and num_forward + num_oncoming < 4:
        merge = ("joins", "ends")[rng.integers(2)]
    weather = WEATHERS[rng.choice(len(WEATHERS), p=_WEATHER_WEIGHTS)]
    if kind == "desert" and weather == "snow":
        weather = "clear"
    ground = ranges.grounds[rng.integers(len(ranges.grounds))]
    if weather == "snow" and rng.random() < 0.8:
        ground = "snow"
    shoulder = ranges.shoulders[rng.integers(len(ranges.shoulders))]
    unmarked = num_forward + num_oncoming <= 2 and kind != "highway" and rng.random() < 0.18
    styles = ("dashed", "dashed", "solid", "double")
    style = "none" if unmarked else styles[rng.integers(len(styles))]
    low, high = _VISIBILITY[weather]
    return SceneConfig(
        seed=seed,
        kind=kind,
        num_forward=num_forward,
        num_oncoming=num_oncoming,
        lane_width=float(rng.uniform(*ranges.lane_width)),
        min_radius=float(np.exp(rng.uniform(*np.log(ranges.min_radius)))),
        straightness=float(rng.uniform(*ranges.straightness)),
        merge=merge,
        centre_colour=("white", "yellow")[rng.integers(2)],
        centre_style=style if num_oncoming else "none",
        edge_lines=bool(not unmarked and rng.random() < (0.45 if shoulder == "kerb" else 0.9)),
        wear=float(rng.uniform(0.0, 0.6) ** 1.5),
        asphalt_tone=float(rng.uniform(0.24, 0.5)),
        asphalt_noise=float(rng.uniform(0.1, 1.0)),
        shoulder=shoulder,
        shoulder_width=float(
            rng.uniform(1.2, 2.5) if shoulder in ("paved", "kerb") else rng.uniform(0.4, 1.2)
        ),
        ground=ground,
        weather=weather,
        hour=HOURS[rng.choice(len(HOURS), p=_HOUR_WEIGHTS)],
        visibility=float(rng.uniform(low, high)),
        sun_azimuth=float(rng.uniform(-np.pi, np.pi)),
        trees=float(rng.uniform(*ranges.trees)),
        buildings=float(rng.uniform(*ranges.buildings)),
        furniture=float(rng.uniform(*ranges.furniture)),
        barrier=ranges.barriers[rng.integers(len(ranges.barriers))],
        num_vehicles=int(rng.integers(ranges.vehicles[0], ranges.vehicles[1] + 1)),
        speed_limit=float(rng.uniform(*ranges.speed)),
        camera_height=float(rng.uniform(1.2, 1.8)),
        camera_pitch_deg=float(rng.uniform(-3.0, 1.5)),
        fov_deg=float(rng.uniform(50.0, 100.0)),
    )
