"""One natural English sentence about a scene: road, surroundings, weather, hour, traffic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scene import SceneConfig

_ROADS: dict[str, tuple[str, ...]] = {
    "country": ("country road", "rural road", "road between fields"),
    "forest": ("forest road", "road through the woods", "road winding through a forest"),
    "suburban": ("suburban street", "residential street", "street between houses"),
    "highway": ("highway", "motorway", "freeway"),
    "mountain": ("mountain road", "winding mountain pass", "road through the hills"),
    "desert": ("desert road", "road through the desert", "road through dry land"),
    "city": ("city street", "street in a town", "urban street"),
}
_HOURS: dict[str, tuple[str, ...]] = {
    "morning": ("in the morning", "early in the day"),
    "noon": ("at noon", "in the middle of the day"),
    "afternoon": ("in the afternoon", "late in the day"),
    "sunset": ("at sunset", "in the evening sun", "in the evening"),
    "dusk": ("at dusk", "in the twilight"),
    "night": ("at night", "in the dark"),
}
_WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky", "in clear weather", "with a blue sky"),
    "cloudy": ("with scattered clouds", "under a cloudy sky", "with some clouds"),
    "overcast": ("under a grey sky", "in overcast weather"),
    "rain": ("in the rain", "in rainy weather", "on a wet day"),
    "fog": ("in fog", "in thick mist", "in foggy weather"),
    "snow": ("in snowfall", "in snowy weather", "on a snowy day"),
}
_CLEAR_AT_NIGHT = ("under a clear sky", "in clear weather", "with stars in the sky")
_GROUNDS: dict[str, tuple[str, ...]] = {
    "grass": ("green grass", "meadows"),
    "dry_grass": ("dry grass", "yellow grass"),
    "sand": ("sand", "sandy ground"),
    "snow": ("snow", "snow on the ground"),
    "field": ("fields", "farmland"),
    "forest_floor": ("forest floor", "undergrowth"),
    "pavement": ("paved ground", "pavement"),
}
Pick = Callable[[tuple[str, ...]], str]
_NUMBERS = ("", "one", "two", "three", "four")


def caption(scene: SceneConfig, seed: int = 0) -> str:
    """Describe a scene.

    Args:
        scene: The scene.
        seed: Chooses between synonyms and what is left out.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, seed, 0xCA])))

    def pick(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    weather = (
        _CLEAR_AT_NIGHT
        if (scene.weather, scene.hour) == ("clear", "night")
        else _WEATHERS[scene.weather]
    )
    lanes = scene.num_forward + scene.num_oncoming
    number = f"{_NUMBERS[lanes]}-lane "
    road = pick(_ROADS[scene.kind])
    winding = (
        "winding "
        if scene.min_radius < 40 and scene.straightness < 0.45 and "winding" not in road
        else ""
    )
    oneway = (
        "one-way "
        if scene.num_oncoming == 0 and scene.kind != "highway" and rng.random() < 0.4
        else ""
    )
    head = f"{_article(oneway + number)} {oneway}{number}{winding}{road}"
    parts = [head]
    extras = _extras(scene, pick)
    if extras and rng.random() < 0.75:
        parts.append(f"with {extras[rng.integers(len(extras))]}")
    times = [pick(weather), pick(_HOURS[scene.hour])]
    sentence = " ".join(parts) + " " + " ".join(times)
    return f"{sentence}, {_traffic(scene, pick)}"


def _traffic(scene: SceneConfig, pick: Pick) -> str:
    """How many other vehicles there are."""
    count = scene.num_vehicles
    level = "no" if count == 0 else "light" if count <= 3 else "moderate" if count <= 7 else "heavy"
    words = {
        "no": ("no traffic", "an empty road", "no other cars"),
        "light": ("light traffic", "little traffic", "a few cars"),
        "moderate": ("moderate traffic", "some traffic", "several cars"),
        "heavy": ("heavy traffic", "dense traffic", "many cars"),
    }
    return pick(words[level])


def _extras(scene: SceneConfig, pick: Pick) -> list[str]:
    """What stands or lies beside the road."""
    found = [f"{pick(_GROUNDS[scene.ground])} on both sides"]
    if scene.barrier != "none":
        found.append({"rail": "guard rails", "hedge": "hedges", "wall": "low walls"}[scene.barrier])
    if scene.trees > 0.3 and scene.kind != "forest":
        found.append("trees along the road")
    if scene.num_oncoming and scene.centre_style != "none":
        found.append(f"{_article(scene.centre_colour)} {scene.centre_colour} centre line")
    if scene.merge == "joins":
        found.append("a lane that joins from the right")
    if scene.merge == "ends":
        found.append("a lane that ends")
    return found


def _article(word: str) -> str:
    """The indefinite article before a word ("one" and "one-way" sound like w)."""
    return "an" if word[0] in "aeiu" or word.startswith(("overcast", "open")) else "a"
