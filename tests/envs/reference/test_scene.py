"""Scenes are drawn within their documented ranges, by seed alone."""

import dataclasses

import pytest

from sanawm_gym.envs.reference.caption import caption
from sanawm_gym.envs.reference.scene import (
    GROUNDS,
    HOURS,
    KINDS,
    WEATHERS,
    SceneConfig,
    sample_scene,
)

SCENES = [sample_scene(seed) for seed in range(400)]


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert sample_scene(5) == sample_scene(5)
    assert len({dataclasses.replace(scene, seed=0) for scene in SCENES}) == len(SCENES)


def test_every_kind_weather_hour_and_ground_occurs() -> None:
    for name, values in (
        ("kind", KINDS), ("weather", WEATHERS), ("hour", HOURS), ("ground", GROUNDS),
        ("merge", ("none", "joins", "ends")), ("barrier", ("none", "rail", "hedge", "wall")),
    ):  # fmt: skip
        assert {getattr(scene, name) for scene in SCENES} == set(values)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("min_radius", 15, 500), ("lane_width", 2.7, 4), ("camera_height", 1.2, 1.8),
        ("fov_deg", 50, 100), ("num_vehicles", 0, 12), ("speed_limit", 6, 24), ("wear", 0, 0.7),
        ("camera_pitch_deg", -10, 10), ("num_forward", 1, 4), ("num_oncoming", 0, 2),
    ],
)  # fmt: skip
def test_numbers_stay_in_their_ranges_and_use_them(name: str, low: float, high: float) -> None:
    values = [getattr(scene, name) for scene in SCENES]
    assert low <= min(values) and max(values) <= high
    assert max(values) - min(values) > 0.2 * (high - low)


def test_bad_scenes_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="got kind='moon'"):
        SceneConfig(seed=0, kind="moon")
    with pytest.raises(ValueError, match="at most four"):
        SceneConfig(seed=0, num_forward=3, num_oncoming=2)
    with pytest.raises(ValueError, match="at least 15"):
        SceneConfig(seed=0, min_radius=8.0)
    with pytest.raises(ValueError, match="got seed=-1"):
        sample_scene(-1)


def test_captions_differ_and_name_the_weather_by_its_words() -> None:
    captions = [caption(scene) for scene in SCENES]
    assert len(set(captions)) > 0.95 * len(captions)
    words = {"rain": ("rain", "wet"), "fog": ("fog", "mist"), "snow": ("snow",)}
    for scene, text in zip(SCENES, captions, strict=True):
        if scene.weather in words:
            assert any(word in text for word in words[scene.weather])
        assert text.startswith(("a ", "an ")) and "  " not in text


def test_captions_count_lanes_and_traffic() -> None:
    text = caption(SceneConfig(seed=1, num_forward=2, num_oncoming=1, num_vehicles=0))
    assert "three-lane" in text
    assert text.endswith(("no traffic", "an empty road", "no other cars"))
