"""Camera paths on disk and on the clock."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sanawm_gym.geometry import relative_poses
from sanawm_gym.paths.camera_path import CameraPath, from_steps, whole_chunks
from sanawm_gym.paths.files import read_path, write_path

LENS = (600.0, 590.0, 640.0, 350.0)


def some_path(num_frames: int = 20, fps: float = 16.0) -> CameraPath:
    """A path with every motion there is, far from the origin and not upright."""
    rng = np.random.default_rng(2)
    steps = rng.normal(0.0, 0.3, (2, num_frames - 1, 3))
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.3, -2.0, 0.5]).as_matrix()
    pose[:3, 3] = (1000.0, -50.0, 3.0)
    return CameraPath(from_steps(*steps).beginning_at(pose).poses, fps, LENS)


@pytest.mark.parametrize("name", ["a.npz", "poses.npy", "a.txt", "a.tum", "a.kitti"])
def test_a_path_comes_back_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    path = some_path()
    write_path(path, tmp_path / "new" / name)
    back = read_path(tmp_path / "new" / name)
    assert np.abs(back.poses - path.poses).max() < 1e-12 * 1000
    assert back.fps == 16.0
    assert back.lens == (LENS if name.endswith((".npz", ".npy")) else None)


def test_an_export_of_the_benchmark_is_read_with_its_lens_and_clock(tmp_path: Path) -> None:
    poses = some_path(49).poses.astype(np.float32)
    lens = np.tile([[600.0, 0.0, 640.0], [0.0, 590.0, 350.0], [0.0, 0.0, 1.0]], (49, 1, 1))
    file = tmp_path / "scene.npz"
    np.savez(file, c2w=poses, intrinsics=lens, fps=16, num_frames=49)
    path = read_path(file)
    assert path.lens == LENS and path.num_frames == 49 and path.seconds == 3.0
    np.testing.assert_allclose(path.poses[:, :3, 3], poses[:, :3, 3])
    np.testing.assert_allclose(path.poses[:, :3, :3], poses[:, :3, :3], atol=1e-6)


def test_poses_at_another_clock_are_interpolated_to_the_worlds(tmp_path: Path) -> None:
    slow = CameraPath(np.tile(np.eye(4), (11, 1, 1)), 10.0)
    slow.poses[:, 2, 3] = np.arange(11) * 0.5
    slow.poses[:, :3, :3] = Rotation.from_rotvec(np.arange(11)[:, None] * [0, 0.1, 0]).as_matrix()
    write_path(slow, tmp_path / "a.tum")
    write_path(slow, tmp_path / "a.txt")
    for path in (
        read_path(tmp_path / "a.tum"),
        read_path(tmp_path / "a.txt", file_fps=10.0),
    ):
        assert (path.num_frames, path.fps) == (17, 16.0)
        np.testing.assert_allclose(path.speeds(), 5.0)
        np.testing.assert_allclose(path.turn_rates(), 1.0)


def test_uneven_times_are_kept_as_times(tmp_path: Path) -> None:
    times = np.array([0.0, 0.1, 0.5, 1.0])
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = 2.0 * times
    np.savez(tmp_path / "a.npz", c2w=poses, times=times)
    np.testing.assert_allclose(read_path(tmp_path / "a.npz").speeds(), 2.0)


def test_at_its_own_clock_a_path_is_read_bit_for_bit(tmp_path: Path) -> None:
    path = some_path()
    np.savez(tmp_path / "a.npz", c2w=path.poses, times=5.0 + np.arange(20) / 16.0)
    np.testing.assert_array_equal(
        read_path(tmp_path / "a.npz").poses[:, :3, 3], path.poses[:, :3, 3]
    )


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"c2w": np.full((3, 4, 4), np.nan)}, "not finite"),
        ({"c2w": np.tile(np.diag([2.0, 2.0, 2.0, 1.0]), (3, 1, 1))}, "not rigid"),
        ({"c2w": np.eye(4)}, "expected c2w of shape"),
        ({"c2w": np.eye(4)[None], "fps": np.array(0)}, "fps=0"),
        ({"poses": np.eye(4)[None]}, "no c2w"),
        ({"c2w": np.tile(np.eye(4), (3, 1, 1)), "times": np.array([0.0, 2.0, 1.0])}, "rising"),
        (
            {"c2w": np.tile(np.eye(4), (2, 1, 1)), "intrinsics": np.array([LENS, (900,) * 4])},
            "lens that changes",
        ),
    ],
)
def test_what_is_no_path_is_refused_with_its_name(
    arrays: dict[str, np.ndarray], named: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=named):
        read_path(tmp_path / "odd.npz")


def test_a_clock_is_not_told_to_a_file_that_has_one(tmp_path: Path) -> None:
    write_path(some_path(), tmp_path / "a.tum")
    with pytest.raises(ValueError, match="a clock of its own"):
        read_path(tmp_path / "a.tum", file_fps=10.0)
    with pytest.raises(ValueError, match="is not a file"):
        read_path(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"expected a file of poses"):
        write_path(some_path(), tmp_path / "a.json")


def test_a_path_begins_where_it_is_put_and_moves_as_before() -> None:
    path, start = some_path(), some_path(2).poses[1]
    moved = path.beginning_at(start)
    np.testing.assert_array_equal(moved.poses[0], start)
    np.testing.assert_allclose(relative_poses(moved.poses), relative_poses(path.poses), atol=1e-9)


def test_motions_and_poses_are_each_others_inverse() -> None:
    path = some_path()
    back = from_steps(*path.steps(), path.fps)
    np.testing.assert_allclose(back.poses, relative_poses(path.poses), atol=1e-9)
    translations, turns = path.steps()
    assert np.allclose(np.linalg.norm(translations, axis=1) * 16, path.speeds())
    assert np.allclose(np.linalg.norm(turns, axis=1) * 16, path.turn_rates())


def test_chunks_hold_the_first_picture_and_the_rest_of_the_path() -> None:
    assert [whole_chunks(n, 24) for n in (1, 2, 25, 26, 961)] == [0, 1, 1, 2, 40]
    assert [whole_chunks(n, 4) for n in (1, 5, 6, 961)] == [0, 1, 2, 240]
    path = some_path(6)
    held = path.held_to(1 + 4 * whole_chunks(6, 4))
    assert held.num_frames == 9
    np.testing.assert_array_equal(held.poses[:6], path.poses)
    assert (held.poses[6:] == path.poses[5]).all()
