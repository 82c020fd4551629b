"""Every layout comes back as the drive that was put into it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.camera import Intrinsics, fit_image
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.ingest.config import IngestConfig
from sanawm_gym.ingest.job import ingest
from tests.ingest.conftest import (
    FPS,
    LENS,
    RIG,
    SPEED,
    TURN,
    Truth,
    bend,
    grey,
    hidden,
    picture,
    tum,
    write_comma,
    write_folder,
    write_kitti,
    write_lens,
)

Writer = Callable[[Path, str, Truth], None]
LAYOUTS: dict[str, tuple[str, Writer]] = {
    "kitti": ("kitti", write_kitti),
    "comma2k19": ("comma2k19", write_comma),
    "tum": ("folder", lambda root, name, truth: write_folder(root, name, truth, "tum")),
    "rows": ("folder", lambda root, name, truth: write_folder(root, name, truth, "rows")),
    "npz": ("folder", lambda root, name, truth: write_folder(root, name, truth, "npz")),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def dataset(
    request: pytest.FixtureRequest, truth: Truth, tmp_path_factory: pytest.TempPathFactory
) -> EpisodeDataset:
    """One drive, through a layout."""
    layout, write = LAYOUTS[request.param]
    source = tmp_path_factory.mktemp(request.param)
    write(source, "01", truth)
    if layout == "folder":
        write_lens(source)
    (source / "captions.json").write_text(json.dumps({"01": "a bend to the left"}))
    out = tmp_path_factory.mktemp(f"{request.param}-out")
    config = IngestConfig(layout=layout, source=source, out=out, camera_height=RIG.z)  # type: ignore[arg-type]
    return EpisodeDataset(ingest(config))


def shown(num: int) -> np.ndarray:
    """Number of the picture nearest to every tick of 1/16 s."""
    return np.rint(np.arange(num) / 16 * FPS - 1e-9).astype(int)


def test_poses_come_back_level_and_at_the_time_of_their_picture(
    dataset: EpisodeDataset, truth: Truth
) -> None:
    assert [info.num_frames for info in dataset.episodes] == [113]
    c2w = dataset.columns(0, names=["c2w"])["c2w"]
    # KITTI and TUM files hold nine digits of numbers up to 400.
    np.testing.assert_allclose(c2w, truth.poses[shown(113)], atol=2e-5)


def test_pictures_are_the_nearest_ones(dataset: EpisodeDataset) -> None:
    values = dataset.frames(0)[:, 36, 64].mean(axis=-1)
    expected = [grey(number) for number in shown(113)]
    np.testing.assert_allclose(values, expected, atol=3)


def test_the_lens_is_cut_with_the_pictures(dataset: EpisodeDataset) -> None:
    lens = LENS
    if dataset.path.name.startswith("comma"):  # which knows its lens, 910 px of 1164
        lens = Intrinsics(910 / 1164 * 192, 910 / 1164 * 192, 96, 60, 192, 120)
    _, fitted = fit_image(picture(0), lens, 128, 72)
    found = dataset.columns(0, names=["intrinsics"])["intrinsics"]
    np.testing.assert_allclose(found, np.tile(fitted.as_array(), (113, 1)), atol=1e-6)


def test_speed_and_yaw_rate_are_those_of_the_drive(dataset: EpisodeDataset) -> None:
    columns = dataset.columns(0)
    # The camera sits ahead of the axle, so along its heading it is as fast as the axle.
    np.testing.assert_allclose(columns["speed"], SPEED, atol=1e-2)
    np.testing.assert_allclose(columns["yaw_rate"], TURN, atol=1e-3)
    np.testing.assert_allclose(columns["steer"], np.arctan(3.089 * TURN / SPEED), atol=1e-3)
    np.testing.assert_allclose(columns["acceleration"], 0.0, atol=5e-2)


def test_what_nobody_knows_is_nan(dataset: EpisodeDataset) -> None:
    columns = dataset.columns(0)
    for name in ("action", "expert_action", "lane_offset", "lead_distance"):
        assert np.isnan(columns[name]).all()
    assert columns["on_road"].all()
    assert not columns["crashed"].any()
    assert dataset.episodes[0].caption == "a bend to the left"
    with pytest.raises(ValueError, match="expert_action"):
        dataset.require("speed", "expert_action")
    dataset.require("speed")


@pytest.mark.parametrize(("layout", "height"), [("kitti", 1.65), ("comma2k19", 1.22)])
def test_known_cars_have_their_camera_at_its_height(
    tmp_path: Path, layout: str, height: float
) -> None:
    LAYOUTS[layout][1](tmp_path / "in", "route|1/3" if layout == "comma2k19" else "00", bend(3.0))
    config = IngestConfig(
        layout=layout,  # type: ignore[arg-type]
        source=tmp_path / "in",
        out=tmp_path / "out",
        min_seconds=2.0,
    )
    c2w = EpisodeDataset(ingest(config)).columns(0, names=["c2w"])["c2w"]
    np.testing.assert_allclose(c2w[:, 2, 3], height, atol=1e-4)


def test_poses_of_their_own_clock_are_read_between(truth: Truth, tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_folder(source, "street", truth)
    write_lens(source)
    # Every third pose, from 0.6 s on: the pictures before have none.
    kept = slice(12, None, 3)
    (source / "street.txt").unlink()
    (source / "street.tum").write_text(tum(truth.times[kept], hidden(truth)[kept]))
    config = IngestConfig(layout="folder", source=source, out=tmp_path / "out", camera_height=RIG.z)
    dataset = EpisodeDataset(ingest(config))
    assert dataset.frames(0)[0, 36, 64, 0] == pytest.approx(grey(12), abs=3)
    c2w = dataset.columns(0, names=["c2w"])["c2w"]
    first = truth.poses[12]
    expected = truth.poses[12 + shown(len(c2w))]
    ways = np.linalg.norm(expected[:, :2, 3] - first[:2, 3], axis=1)
    # Straight lines over 0.15 s cut a bend of 67 m radius by 3 mm.
    np.testing.assert_allclose(np.linalg.norm(c2w[:, :2, 3], axis=1), ways, atol=5e-3)
    np.testing.assert_allclose(c2w[:, 2, 3], RIG.z, atol=1e-3)


@pytest.mark.parametrize(
    ("option", "focal"), [({"fov_deg": 65.2}, 150.1), ({"intrinsics": (150.0,) * 4}, 150.0)]
)
def test_options_tell_the_lens(tmp_path: Path, option: dict[str, float], focal: float) -> None:
    write_folder(tmp_path / "in", "street", bend(3.0), "rows")
    config = IngestConfig(
        layout="folder",
        source=tmp_path / "in",
        out=tmp_path / "out",
        camera_height=1.4,
        min_seconds=2.0,
        **option,
    )  # type: ignore[arg-type]
    dataset = EpisodeDataset(ingest(config))
    fx = dataset.columns(0, 0, 1, ["intrinsics"])["intrinsics"][0, 0]
    assert fx == pytest.approx(focal * 128 / 192, rel=1e-3)
