"""Recordings: whole, consistent with themselves, the same by any number of workers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig
from sanawm_gym.envs.reference.policies import ASTRAY, POLICIES, sample_start, sample_temper
from sanawm_gym.envs.reference.record import RecordConfig, drive, record
from sanawm_gym.envs.reference.renderer import Renderer
from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import sample_scene
from sanawm_gym.envs.reference.world import ReferenceWorld
from sanawm_gym.episodes import EpisodeDataset, episode_path, shard_path
from sanawm_gym.geometry import planar_pose
from sanawm_gym.vehicle import KinematicBicycle


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Three short drives in two shards."""
    out = tmp_path_factory.mktemp("recording")
    record(RecordConfig(out=out, episodes=3, seconds=2.0, seed=4, episodes_per_shard=2))
    return EpisodeDataset(out)


def test_every_episode_has_four_k_plus_one_frames(dataset: EpisodeDataset) -> None:
    assert len(dataset) == 3 and dataset.info.num_episodes == 3
    for info in dataset.episodes:
        assert info.num_frames % 4 == 1 and info.num_frames <= 33
        assert dataset.frames(info.index).shape == (info.num_frames, 72, 128, 3)


def test_poses_are_those_of_the_car_under_the_camera(dataset: EpisodeDataset) -> None:
    for info in dataset.episodes:
        columns, scene = dataset.columns(info.index), sample_scene(info.world_seed)
        rig = CameraRig(z=scene.camera_height, pitch_deg=scene.camera_pitch_deg)
        car = planar_pose(columns["x"], columns["y"], columns["yaw"])
        np.testing.assert_allclose(columns["c2w"], car @ rig.vehicle_from_camera(), atol=1e-9)


def test_actions_lead_from_each_state_to_the_next(dataset: EpisodeDataset) -> None:
    columns = dataset.columns(0)
    names = ("x", "y", "yaw", "speed", "steer", "acceleration")
    states = np.stack([columns[name] for name in names], axis=1)
    following = KinematicBicycle().advance(states[:-1], columns["action"][1:], 1)[:, 0]
    np.testing.assert_allclose(following, states[1:], atol=1e-9)
    np.testing.assert_array_equal(columns["action"][1:].reshape(-1, 4, 2).std(axis=1), 0.0)


def test_the_video_shows_what_the_poses_see(dataset: EpisodeDataset) -> None:
    for info in dataset.episodes:
        scene = sample_scene(info.world_seed)
        columns = dataset.columns(info.index)
        road = Road(scene, 25.0 * dataset.info.seconds + 325.0)
        place = [float(columns[name][-1]) for name in ("x", "y", "yaw")]
        drawn = Renderer(scene, road).render(*place).astype(float)
        seen = dataset.frames(info.index)[-1]
        difference = np.abs(drawn - seen).mean(axis=-1)
        assert np.median(difference) < 3.0  # but for other vehicles and compression


def test_truth_and_expert_are_finite_and_in_range(dataset: EpisodeDataset) -> None:
    for info in dataset.episodes:
        columns = dataset.columns(info.index)
        for name, values in columns.items():
            if values.dtype == np.float64:
                assert np.isfinite(values).all(), name
        assert np.abs(columns["expert_action"]).max() <= 1.0
        assert (columns["lead_distance"] >= 0).all() and (columns["lead_distance"] <= 100).all()


def test_two_workers_and_a_second_start_give_the_same_bytes(
    dataset: EpisodeDataset, tmp_path: Path
) -> None:
    config = RecordConfig(
        out=tmp_path, episodes=3, seconds=2.0, seed=4, episodes_per_shard=2, workers=2
    )
    record(config)
    shard_path(tmp_path, 1).unlink()
    record(config)
    for path in sorted(dataset.path.rglob("*.*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(dataset.path)).read_bytes() == path.read_bytes()


def test_a_recording_grows_when_more_episodes_are_asked_for(tmp_path: Path) -> None:
    for episodes in (1, 3):
        record(RecordConfig(out=tmp_path, episodes=episodes, seconds=1.0, episodes_per_shard=2))
    assert [info.index for info in EpisodeDataset(tmp_path).episodes] == [0, 1, 2]


def test_two_recordings_do_not_mix_in_one_folder(dataset: EpisodeDataset) -> None:
    config = RecordConfig(out=dataset.path, episodes=4, seconds=2.0, seed=5, episodes_per_shard=2)
    with pytest.raises(ValueError, match=r"got seed=5, but .* seed=4"):
        record(config)


def test_the_card_counts_what_is_there(dataset: EpisodeDataset) -> None:
    card = (dataset.path / "README.md").read_text()
    assert f"3 drives, {dataset.num_frames} frames" in card
    assert dataset.episodes[0].caption in card


def test_all_kinds_of_drivers_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {sample_temper(rng).policy for _ in range(100)}
    assert drawn == set(POLICIES)
    assert sample_temper(rng, astray=True).policy == ASTRAY


def test_who_goes_astray_leaves_the_road_and_comes_back() -> None:
    far, back = [], 0
    for seed in range(4):
        scene = replace(sample_scene(seed), barrier="none")
        world = ReferenceWorld(scene, length=500.0, seed=seed)
        rng = np.random.default_rng(seed)
        temper = sample_temper(rng, astray=True)
        world.start(sample_start(world, temper, rng))
        outside = [world.outside() for _ in drive(world, temper, rng, 80)]
        far.append(max(outside))
        beyond = np.flatnonzero(np.array(outside) > 1.0)
        back += bool(len(beyond)) and min(outside[beyond[0] :]) < -0.5
    # held at full speed the wheel carries a car no farther than this before it is taken back
    assert max(far) > 5.0 and max(far) < 100.0
    assert back > 0


def test_drives_beside_the_road_leave_the_others_as_they_are(tmp_path: Path) -> None:
    settings = {"episodes": 4, "seconds": 1.0, "episodes_per_shard": 4, "seed": 6}
    plain, mixed = tmp_path / "plain", tmp_path / "mixed"
    record(RecordConfig(out=plain, **settings))  # type: ignore[arg-type]
    config = RecordConfig(out=mixed, astray=0.5, **settings)  # type: ignore[arg-type]
    record(config)
    policies = [info.policy for info in EpisodeDataset(mixed).episodes]
    assert [policy == ASTRAY for policy in policies] == [config.is_astray(i) for i in range(4)]
    assert 0 < policies.count(ASTRAY) < 4
    for number in (i for i in range(4) if not config.is_astray(i)):
        same = [episode_path(folder, 0, number).read_bytes() for folder in (plain, mixed)]
        assert same[0] == same[1]
    with pytest.raises(ValueError, match=r"got astray=0.0, but .* astray=0.5"):
        record(RecordConfig(out=mixed, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"episodes": 0}, {"seconds": 0.5}, {"workers": 0}, {"seed": -1}, {"astray": 1.5}]
)
def test_impossible_recordings_are_refused(tmp_path: Path, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="record: got"):
        RecordConfig(out=tmp_path, **bad)  # type: ignore[arg-type]
