"""Damage is named and skipped, an interrupted ingest goes on, and what is impossible is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym import cli
from sanawm_gym.agents.examples import load_examples
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.ingest.config import IngestConfig
from sanawm_gym.ingest.job import ingest
from sanawm_gym.ingest.pictures import VideoFile
from tests.ingest.conftest import (
    Truth,
    bend,
    grey,
    write_comma,
    write_folder,
    write_kitti,
    write_lens,
)

GOOD = ("a", "e")


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Three seconds round a bend."""
    return bend(3.0)


def config(source: Path, out: Path, **changes: object) -> IngestConfig:
    settings = {"layout": "folder", "camera_height": 1.4, "min_seconds": 2.0, **changes}
    return IngestConfig(source=source, out=out, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good drives and all kinds of damage."""
    root = tmp_path_factory.mktemp("videos")
    for name in GOOD:
        write_folder(root, name, truth)
    write_lens(root)
    video, poses = (root / "a.mp4").read_bytes(), (root / "a.txt").read_text()
    lines = poses.splitlines()
    damaged = {
        "cut": (video[: len(video) // 2], poses),
        "empty": (b"", poses),
        "few": (video, "\n".join(lines[:-9])[:-40] + "\n"),
        "nan": (video, poses.replace(lines[20], " ".join([lines[20].split()[0], *["nan"] * 7]))),
        "words": (video, poses.replace(lines[9], "x " * 8)),
        "stamps": (video, "\n".join("9" + line for line in lines[1:-4])),
    }
    for name, (pictures, text) in damaged.items():
        (root / f"{name}.mp4").write_bytes(pictures)
        (root / f"{name}.txt").write_text(text)
    (root / "lonely.mp4").write_bytes(video)
    return root


def test_damaged_drives_are_named_and_counted(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["ingest", "--layout", "folder", "--source", str(source), "--out", str(tmp_path)]
    assert cli.main([*words, "--camera-height", "1.4", "--min-seconds", "2"]) == 0
    said = capfd.readouterr().out
    skipped = [line.split()[1].rstrip(":") for line in said.splitlines() if "skipped " in line[:9]]
    assert sorted(skipped) == ["cut", "empty", "few", "lonely", "nan", "stamps", "words"]
    assert "2 episodes, 98 frames of 2 drive(s); 7 skipped" in said
    dataset = EpisodeDataset(tmp_path)
    assert [info.index for info in dataset.episodes] == [0, 1]
    for info in dataset.episodes:
        assert dataset.frames(info.index).shape == (49, 72, 128, 3)
    card = (tmp_path / "README.md").read_text()
    assert "Left out, 7:" in card and "`nan`" in card and "NaN, because nobody knows" in card


def test_an_interrupted_ingest_ends_with_the_same_files(
    truth: Truth, source: Path, tmp_path: Path
) -> None:
    both = tmp_path / "in"
    write_folder(both, "a", truth)
    write_lens(both)
    ingest(config(both, tmp_path / "parts"))
    write_folder(both, "b", truth)
    # As if the second drive had been broken off in the middle.
    leftover = tmp_path / "parts" / "shard-00001"
    leftover.mkdir()
    (leftover / "episode-000001.mp4").write_bytes(b"half")
    (leftover / "episode-000009.mp4").write_bytes(b"half")
    before = (tmp_path / "parts" / "shard-00000.parquet").stat().st_mtime_ns
    ingest(config(both, tmp_path / "parts"))
    assert (tmp_path / "parts" / "shard-00000.parquet").stat().st_mtime_ns == before
    ingest(config(both, tmp_path / "whole"))
    names = {
        out: sorted(p.relative_to(tmp_path / out) for p in (tmp_path / out).rglob("*.*"))
        for out in ("parts", "whole")
    }
    assert names["parts"] == names["whole"]
    for name in names["whole"]:
        if (tmp_path / "whole" / name).is_file():
            whole, parts = (tmp_path / out / name for out in ("whole", "parts"))
            assert whole.read_bytes() == parts.read_bytes()


def test_a_mended_drive_is_taken_the_next_time(truth: Truth, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        write_folder(root, name, truth)
    write_lens(root)
    poses = (root / "a.txt").read_text()
    (root / "a.txt").write_text("nothing")
    assert len(EpisodeDataset(ingest(config(root, out)))) == 1
    (root / "a.txt").write_text(poses)
    assert len(EpisodeDataset(ingest(config(root, out)))) == 2
    assert list(json.loads((out / "ingest.json").read_text())["drives"]) == ["b", "a"]


def test_a_broken_picture_in_the_middle_leaves_nothing_of_its_drive(
    truth: Truth, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    for name in ("00", "01"):
        write_kitti(root, name, truth)
    (root / "sequences" / "00" / "image_2" / "000040.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "sequences" / "11").mkdir()
    dataset = EpisodeDataset(ingest(config(root, tmp_path / "out", layout="kitti")))
    assert len(dataset) == 1
    videos = sorted(path.name for path in (tmp_path / "out").rglob("*.mp4"))
    assert videos == ["episode-000000.mp4"]


@pytest.mark.parametrize(
    ("share", "reason"), [(0.02, "cannot read"), (0.9, r"got \d\d pictures in .* and 61 times")]
)
def test_a_video_that_ends_early_is_named(
    truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float, reason: str
) -> None:
    root = tmp_path / "in"
    for name in ("c/r/1", "c/r/2"):
        write_comma(root, name, truth)
    video = root / "c/r/1/video.hevc"
    video.write_bytes(video.read_bytes()[: int(share * video.stat().st_size)])
    ingest(config(root, tmp_path / "out", layout="comma2k19"))
    said = capsys.readouterr().out
    assert re.search(f"skipped c/r/1: .*{reason}", said)
    assert "1 drive(s); 1 skipped" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fov_deg": 130.0}, "got 130 degrees, expected 25 to 120"),
        ({"intrinsics": (900.0, 900.0, 96.0, 60.0)}, "field of view: got 12"),
        ({}, "got no lens"),
    ],
)
def test_a_lens_that_no_world_knows_is_refused(
    truth: Truth, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    write_folder(tmp_path / "in", "a", truth)
    with pytest.raises(ValueError, match=f"none of 1 drives can be used; the first, a: .*{said}"):
        ingest(config(tmp_path / "in", tmp_path / "out", **changes))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "nowhere"], "got source nowhere"),
        (["--source", "."], "got no drive in ."),
        (["--layout", "kitti", "--fov-deg", "70"], "fov_deg with layout kitti"),
        (["--camera-height", "140"], "got camera_height=140"),
        (["--min-seconds", "30"], "min_seconds=30"),
        (["--width", "130"], "130x72"),
    ],
)
def test_impossible_options_end_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    base = ["--layout", "folder", "--source", ".", "--out", "out", "--camera-height", "1.4"]
    assert cli.main(["ingest", *base, *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_folder_needs_the_height_of_its_camera(truth: Truth, tmp_path: Path) -> None:
    write_folder(tmp_path / "in", "a", truth)
    with pytest.raises(ValueError, match="--camera-height"):
        ingest(config(tmp_path / "in", tmp_path / "out", camera_height=None))


def test_captions_of_unknown_drives_are_refused(truth: Truth, tmp_path: Path) -> None:
    write_folder(tmp_path / "in", "a", truth)
    (tmp_path / "in" / "captions.json").write_text('{"b": "night"}')
    with pytest.raises(ValueError, match=r"got b in .*captions\.json, expected .* a"):
        ingest(config(tmp_path / "in", tmp_path / "out"))


def test_other_options_or_another_dataset_are_not_mixed(truth: Truth, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    write_folder(root, "a", truth)
    write_lens(root)
    ingest(config(root, out))
    with pytest.raises(ValueError, match=r"got camera_height=2.0, but .* camera_height=1.4"):
        ingest(config(root, out, camera_height=2.0))
    (out / "ingest.json").unlink()
    with pytest.raises(ValueError, match="which holds a recording"):
        ingest(config(root, out))


def test_nobody_can_be_cloned_from_a_filmed_drive(source: Path, tmp_path: Path) -> None:
    ingest(config(source, tmp_path))
    with pytest.raises(ValueError, match=r"got no expert_action .*sanawm-gym record"):
        load_examples([tmp_path], frame_stride=4, held_out=0.1)


def test_a_video_is_read_in_passing(source: Path) -> None:
    video = VideoFile(source / "a.mp4")
    assert (len(video), video.width, video.height, video.fps) == (61, 192, 120, 20.0)
    wanted = [0, 0, 3, 4, 4, 60]
    values = [frame.mean() for frame in video.read(wanted)]
    np.testing.assert_allclose(values, [grey(number) for number in wanted], atol=3)
