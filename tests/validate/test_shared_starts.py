"""Both worlds begin at the same moment, and the same actions move the car alike in both."""

from __future__ import annotations

import numpy as np
import pytest

from sanawm_gym.camera import fit_image
from sanawm_gym.envs.reading import QUANTITIES, Reading
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.validate.clean_pass import read_video
from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.starts import LEAD, ReferenceDrive, SharedStart, find_starts

pytestmark = pytest.mark.filterwarnings("ignore:this world never learnt")
FIRST_SEED, HORIZON = 40_100, 3.0


@pytest.fixture(scope="module")
def starts() -> list[SharedStart]:
    return find_starts(2, FIRST_SEED, HORIZON)


def test_the_same_actions_move_the_car_alike_in_both_worlds(
    starts: list[SharedStart], world: str
) -> None:
    settings = {"world": world, "dtype": "float32", "outcomes": None, "drift": None}
    envs = GeneratedDrives(starts, [1, 2], settings)
    reference = ReferenceDrive(horizon=HORIZON, frames=False, endings=False)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    pictures = envs.observation["camera"].copy()
    poses = [info["world_from_camera"] for info in envs.infos]
    for action in actions:
        envs.step(np.tile(action, (2, 1)))
    for row, start in enumerate(starts):
        reference.begin(start)
        seen, _ = fit_image(reference.observation["camera"], start.context.intrinsics, 64, 40)
        np.testing.assert_array_equal(pictures[row], seen)
        first, way = reference.info["world_from_camera"], reference.info["distance"]
        for action in actions:
            reference.step(action)
        ego = envs.observation["ego"][row]
        np.testing.assert_allclose(ego, reference.observation["ego"], atol=1e-5)
        driven = reference.info["distance"] - way
        assert envs.infos[row]["distance"] == pytest.approx(driven, abs=1e-6) and driven > 1.0
        here = np.linalg.inv(poses[row]) @ envs.infos[row]["world_from_camera"]
        there = np.linalg.inv(first) @ reference.info["world_from_camera"]
        np.testing.assert_allclose(here, there, atol=1e-6)


def test_the_clean_pass_over_video_reads_at_the_start_what_the_environment_reads(
    starts: list[SharedStart],
) -> None:
    """Beyond the start too, if it reads the first moments right: it is one pass over the clip."""
    start, model = starts[0], shared_world("drive")
    envs = GeneratedDrives([start], [1], {"world": "drive", "road_filter": None})
    lens = np.asarray(start.context.intrinsics.as_array(), dtype=np.float64)
    given = (start.context.frames, start.poses, lens, start.context.caption)
    mean, deviation = read_video(model, *given)
    assert mean.shape == (LEAD + 1, len(QUANTITIES))
    read = Reading(mean=mean[-1:], deviation=deviation[-1:]).row(0)
    for name, told in envs.infos[0]["perceived"].items():
        assert read[name]["mean"] == pytest.approx(told["mean"], rel=0.02, abs=0.02), name
        assert read[name]["deviation"] == pytest.approx(told["deviation"], rel=0.02, abs=0.02)


def test_starts_are_the_same_again_and_roll_at_a_steady_speed(starts: list[SharedStart]) -> None:
    again = find_starts(1, starts[1].world_seed, HORIZON)[0]
    np.testing.assert_array_equal(again.context.frames, starts[1].context.frames)
    np.testing.assert_array_equal(again.lead, starts[1].lead)
    for start in starts:
        assert len(start.context.frames) == 17
        ways = np.linalg.norm(np.diff(start.poses[:, :3, 3], axis=0), axis=1)
        assert np.ptp(ways) < 0.05 * ways.mean()


def test_drives_that_are_over_leave_the_batch_and_change_nothing_for_the_others(
    starts: list[SharedStart], world: str
) -> None:
    settings = {
        "world": world,
        "dtype": "float32",
        "outcomes": None,
        "drift": None,
        "horizon": 0.75,
    }
    action = np.array([[0.3, 0.5], [-0.2, 0.1]], dtype=np.float32)
    both, alone = (GeneratedDrives(starts, [1, 2], settings) for _ in range(2))
    alone.step(action)
    both.step(action)
    # As an ending of the first drive would do it.
    alone._drop(np.array([True, False]))
    still = alone.observation["camera"][0].copy()
    for _ in range(2):
        rewards = alone.step(action)
        both.step(action)
    assert rewards[0] == 0.0 and alone.infos[1]["distance"] == both.infos[1]["distance"]
    np.testing.assert_array_equal(alone.observation["camera"][0], still)
    pair = (one.observation["camera"][1].astype(int) for one in (alone, both))
    assert np.abs(np.subtract(*pair)).max() <= 2
    assert both.ends == ["horizon", "horizon"] and not both.living
    assert not both.step(action).any()
