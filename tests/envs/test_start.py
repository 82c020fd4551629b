"""Starts: contexts, image files, arrays, and what is wrong with some of them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.envs.config import DriveConfig
from sanawm_gym.envs.start import Start, resolve_start
from sanawm_gym.vehicle import SPEED, STEER, VehicleConfig
from sanawm_gym.worldmodel.contexts import load_context, save_contexts
from sanawm_gym.worldmodel.source import find_world
from tests.conftest import CAPTION, HEIGHT, WIDTH, start_context


def resolve(world: str, seed: int = 0, **kwargs: Any) -> Start:
    config = DriveConfig(world=world, **kwargs)
    rng = np.random.default_rng(seed)
    return resolve_start(config, rng, width=WIDTH, height=HEIGHT, stride=4)


def test_a_context_brings_its_pictures_words_lens_and_speed(world: str) -> None:
    start = resolve(world, start="road-2")
    context = load_context("road-2", world)
    assert (start.frames == context.frames).all() and start.prompt == CAPTION
    assert (start.intrinsics == context.intrinsics.as_array()).all()
    assert start.vehicle_state[SPEED] == 6.0 and start.vehicle_state[STEER] == 0.02


def test_a_contexts_path_is_moved_to_the_origin_without_changing_its_motion(world: str) -> None:
    start = resolve(world, start="road-0")
    assert (start.poses[-1] == start.rig.vehicle_from_camera()).all()
    np.testing.assert_allclose(
        start.poses[:, 0, 3], start.rig.x - 6 / 16 * np.arange(4, -1, -1), atol=1e-5
    )
    np.testing.assert_allclose(start.poses[:, 2, 3], start.rig.z, atol=1e-5)


def test_the_mount_is_read_from_the_contexts_height_and_motion(world: str) -> None:
    assert resolve(world, start="road-0").rig.z == 1.3
    assert resolve(world, start="road-0").rig.pitch_deg == pytest.approx(4.0, abs=1e-3)
    mine = CameraRig(z=2.0)
    assert resolve(world, start="road-0", rig=mine).rig == mine


def test_without_a_start_the_seed_draws_one_of_the_contexts(world: str) -> None:
    names = {resolve(world, seed).name for seed in range(20)}
    assert names == {"road-0", "road-1", "road-2"}
    assert resolve(world, 7).name == resolve(world, 7).name


def test_without_a_start_the_prompt_says_among_which_to_draw(tmp_path: Path, world: str) -> None:
    shown = {"dim": "a road at night", "wet": "a street in the rain", "dry": "a road at noon"}
    context = load_context("road-0", world)
    contexts = [
        dataclasses.replace(context, name=name, caption=text) for name, text in shown.items()
    ]
    shutil.copy(find_world(world) / "world.json", tmp_path)
    save_contexts(contexts, tmp_path, fps=16)

    def drawn(prompt: str) -> set[str]:
        starts = [resolve(str(tmp_path), seed, prompt=prompt) for seed in range(12)]
        assert {start.prompt for start in starts} == {prompt}
        return {start.name for start in starts}

    assert drawn("night on the road") == {"dim"}
    assert drawn("Rain!") == {"wet"}
    assert drawn("a road") == {"dim", "dry"}
    assert drawn("volcano") == set(shown)
    assert resolve(str(tmp_path), start="dry", prompt="night").name == "dry"


def test_an_image_file_is_cut_to_the_worlds_size(world: str, picture: Path) -> None:
    start = resolve(world, start=picture)
    assert start.frames.shape == (1, HEIGHT, WIDTH, 3) and start.name == str(picture)
    lens = Intrinsics(*start.intrinsics, WIDTH, HEIGHT)
    assert lens.horizontal_fov_deg == pytest.approx(70.0)
    assert start.vehicle_state[SPEED] == 8.0 and start.rig == CameraRig()


def test_an_array_is_a_start_and_its_intrinsics_are_of_the_given_size(world: str) -> None:
    image = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    lens = (100.0, 110.0, 64.0, 40.0)
    start = resolve(world, start=image, intrinsics=lens, speed=3.0, prompt="fog")
    np.testing.assert_allclose(start.intrinsics, [50.0, 55.0, 32.0, 20.0])
    assert start.vehicle_state[SPEED] == 3.0 and start.prompt == "fog"


def test_a_clip_is_cut_at_its_front_to_whole_decisions(world: str) -> None:
    clip = start_context("mine", 7, 0)
    start = resolve(world, start=clip)
    assert len(start.frames) == len(start.poses) == 5
    assert (start.frames == clip.frames[2:]).all()


def test_a_start_faster_and_tighter_than_the_car_is_held_to_its_limits(world: str) -> None:
    clip = dataclasses.replace(start_context("mine", 5, 0), speed=40.0, steer=0.4)
    start = resolve(world, start=clip, vehicle=VehicleConfig(max_speed=20.0))
    speed, steer = start.vehicle_state[[SPEED, STEER]]
    assert speed == 20.0
    assert speed**2 * np.tan(steer) / 3.089 == pytest.approx(5.5)


def spoil_poses(value: float) -> Any:
    clip = start_context("mine", 5, 0)
    poses = clip.poses.copy()
    poses[3, 0, 3] = value
    return dataclasses.replace(clip, poses=poses)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start": "no-such-road"}, r"got 'no-such-road', expected one of 3 start contexts"),
        ({"start": "missing.jpg"}, r"expected .* or an image file; check the path"),
        ({"start": __file__}, r"cannot be read as a picture"),
        ({"start": 7}, r"got a int, expected a context id"),
        ({"start": np.zeros((40, 64), np.uint8)}, r"expected uint8 \(h, w, 3\)"),
        ({"start": np.zeros((40, 64, 3))}, r"got an array float64"),
        ({"start": np.zeros((0, 64, 3), np.uint8)}, r"expected uint8 \(h, w, 3\)"),
        ({"start": spoil_poses(np.nan)}, r"start 'mine': got 1 non-finite"),
        ({"start": spoil_poses(np.inf)}, r"start 'mine': got 1 non-finite"),
        ({"intrinsics": (10.0, 10.0, 32.0, 20.0)}, r"field of view: got .*, expected 25 to 120"),
        ({"intrinsics": (900.0, 900.0, 32.0, 20.0)}, r"field of view: got .*, expected 25 to 120"),
        ({"intrinsics": (50.0, 50.0)}, r"intrinsics: got .*, expected Intrinsics or four"),
        ({"intrinsics": (1.0, 2.0, 3.0)}, r"intrinsics: got .*, expected Intrinsics"),
        ({"intrinsics": (float("nan"), 50.0, 32.0, 20.0)}, r"intrinsics: got .*, expected finite"),
        ({"intrinsics": Intrinsics.from_fov(70.0, 100, 50)}, r"expected the intrinsics' 100x50"),
    ],
)
def test_impossible_starts_are_refused(world: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(world, **kwargs)
