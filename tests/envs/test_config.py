"""Settings: what is refused, and how options reach single rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sanawm_gym.camera import CameraRig
from sanawm_gym.envs.config import EPISODE_FIELDS, DriveConfig, split_options
from sanawm_gym.envs.drift import DriftConfig
from sanawm_gym.envs.outcomes import OutcomeConfig
from sanawm_gym.vehicle import VehicleConfig

Make = Callable[..., Any]

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, r"options: got \['colour'\], expected some of \['world'"),
    ({"observation": "lidar"}, r"observation: got 'lidar', expected one of \['dict'"),
    ({"render_mode": "ansi"}, r"render_mode: got 'ansi', expected one of"),
    ({"horizon": 0.0}, r"horizon: got 0.0, expected a finite number above 0"),
    ({"horizon": float("nan")}, r"horizon: got nan, expected a finite number"),
    ({"speed": -1.0}, r"speed: got -1.0, expected a finite number of at least 0"),
    ({"sampler_steps": 0}, r"sampler_steps: got 0, expected a whole number"),
    ({"guidance": -1.0}, r"guidance: got -1.0, expected a finite number of at least 0"),
    ({"reward": "points"}, r"reward: got 'points', expected one of \['auto', 'carl'"),
    ({"reward": "carl"}, r"reward: got 'carl', which reads the road, in a world without heads"),
    ({"world": "atlantis"}, r"atlantis"),
    ({"device": "toaster"}, r"device: got 'toaster', expected a torch device"),
    ({"dtype": "float7"}, r"float7"),
]


@pytest.mark.parametrize(("kwargs", "message"), IMPOSSIBLE)
@pytest.mark.filterwarnings("ignore:.*The environment is being initialised with render_mode")
def test_impossible_settings_are_refused_when_the_environment_is_made(
    make: Make, make_vec: Make, kwargs: dict[str, Any], message: str
) -> None:
    for build in (make, lambda **kw: make_vec(2, **kw)):
        with pytest.raises(ValueError, match=message):
            build(**kwargs)


@pytest.mark.parametrize(("kwargs", "message"), IMPOSSIBLE)
def test_impossible_options_are_refused_at_the_reset_and_change_nothing(
    make: Make, kwargs: dict[str, Any], message: str
) -> None:
    env, twin = make().unwrapped, make().unwrapped
    for one in (env, twin):
        one.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        env.reset(options=kwargs)
    action = np.array([0.3, 0.2], np.float32)
    assert (env.step(action)[0]["camera"] == twin.step(action)[0]["camera"]).all()
    assert (env.reset()[0]["camera"] == twin.reset()[0]["camera"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "nowhere"}, "expected one of 3 start contexts"),
        ({"intrinsics": (9.0, 9.0, 32.0, 20.0)}, "expected 25 to 120"),
        ({"observation": "camera"}, "fixed when the environment was made"),
        ({"vehicle": VehicleConfig(max_speed=90.0)}, "fixed when the environment was made"),
        ({"prompt": ["day", "night"]}, "got 2 values of 'prompt', expected 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    make: Make, options: dict[str, Any], message: str
) -> None:
    env = make()
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options=options)


@pytest.mark.parametrize(
    "action",
    [[np.nan, 0.0], [0.0, np.inf], [0.0], [0.0, 0.0, 0.0], [[0.0, 0.0]], "left", None],
    ids=str,
)
def test_bad_actions_are_refused_before_anything_moves(make: Make, action: Any) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=r"^action: got .*, expected .*; "):
        env.step(action)
    assert env.snapshot().state is before.state


@pytest.mark.parametrize("count", [0, -1])
def test_a_vector_environment_needs_rows(make_vec: Make, count: int) -> None:
    with pytest.raises(ValueError, match=r"num_envs: got .*, expected a whole number"):
        make_vec(count)


def test_an_unknown_autoreset_mode_is_refused(make_vec: Make) -> None:
    with pytest.raises(ValueError, match=r"autoreset_mode: got 'never', expected one of"):
        make_vec(2, autoreset_mode="never")


@pytest.mark.parametrize("seed", [[1, 2, 3], [1, -2], -4])
def test_seeds_that_do_not_fit_are_refused(make_vec: Make, seed: Any) -> None:
    envs = make_vec(2)
    with pytest.raises(ValueError, match=r"seed: got .*, expected a whole number"):
        envs.reset(seed=seed)


def test_every_setting_of_an_episode_is_also_an_option(make: Make, picture: Path) -> None:
    env = make()
    observation, info = env.reset(
        seed=0,
        options={
            "start": picture,
            "prompt": "a wet road at night",
            "intrinsics": (100.0, 100.0, 60.0, 45.0),
            "speed": 3.0,
            "rig": CameraRig(z=2.0),
            "vehicle": VehicleConfig(wheelbase=3.5),
            "horizon": 0.5,
            "reward": "kinematic",
            "outcomes": OutcomeConfig(patience=2),
            "drift": DriftConfig(memory=1.0),
            "frames_in_info": True,
        },
    )
    assert info["prompt"] == "a wet road at night" and info["start"] == str(picture)
    assert info["world_from_camera"][2, 3] == 2.0 and observation["ego"][0] == 3.0
    ends = [env.step(np.zeros(2, np.float32)) for _ in range(2)]
    assert [end[3] for end in ends] == [False, True] and ends[0][4]["frames"].shape[0] == 4
    _, info = env.reset(seed=0)  # episode options are gone, those of the environment stay
    assert info["prompt"] != "a wet road at night" and info["world_from_camera"][2, 3] == 1.3
    assert "frames" in env.step(np.zeros(2, np.float32))[4]


def test_a_list_gives_one_option_to_each_row(make_vec: Make) -> None:
    envs = make_vec(2)
    _, infos = envs.reset(seed=0, options={"start": ["road-2", "road-0"], "horizon": [0.25, 9.0]})
    assert infos["start"].tolist() == ["road-2", "road-0"]
    assert envs.step(np.zeros((2, 2), np.float32))[3].tolist() == [True, False]


def test_what_all_rows_share_cannot_change_for_some_of_them(make_vec: Make) -> None:
    envs = make_vec(2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    mask = np.array([True, False])
    with pytest.raises(ValueError, match=r"options: got \['sampler_steps'\] for 1 of 2 rows"):
        envs.reset(options={"reset_mask": mask, "sampler_steps": 2})
    envs.reset(options={"sampler_steps": 2})
    assert envs.unwrapped.config.sampler_steps == 2


def test_splitting_options_keeps_arrays_and_tuples_whole() -> None:
    image = np.zeros((3, 3, 3), np.uint8)
    rows = split_options({"start": image, "intrinsics": (1.0, 2.0), "speed": [1.0, 2.0]}, 2)
    assert rows[0]["start"] is image and rows[1]["intrinsics"] == (1.0, 2.0)
    assert [row["speed"] for row in rows] == [1.0, 2.0]


def test_episode_fields_are_fields() -> None:
    assert set(DriveConfig.__dataclass_fields__) >= EPISODE_FIELDS


@pytest.mark.parametrize("setting", [{"sampler_steps": 3}, {"guidance": 2.5}])
def test_more_sampler_steps_and_guidance_draw_other_pictures(
    make: Make, setting: dict[str, Any]
) -> None:
    drawn = []
    for given in ({}, setting):
        env: gym.Env[Any, Any] = make(**given)
        env.reset(seed=0)
        drawn.append(env.step(np.zeros(2, np.float32))[0]["camera"])
    assert (drawn[0] != drawn[1]).any()
