"""The README's job, whole, in a tiny world of random weights."""

from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.cli import main
from sanawm_gym.drive import DriveJob, drive
from sanawm_gym.video import read_video


def _job(world: str, out: Path, **changes: object) -> DriveJob:
    settings = {"world": world, "policy": "random", "seconds": 1.0, "out": out} | changes
    return DriveJob(**settings)


def test_a_drive_writes_every_raw_frame_enlarged(world: str, tmp_path: Path) -> None:
    report = drive(_job(world, tmp_path / "new" / "drive.mp4"))
    frames = read_video(report.path)
    assert frames.shape == (16, 160, 256, 3)
    assert (report.num_decisions, report.world_seconds) == (4, 1.0)
    assert report.metres > 0


def test_the_same_seed_gives_the_same_video_and_another_seed_another(
    world: str, tmp_path: Path
) -> None:
    first, again, other = (
        drive(_job(world, tmp_path / f"{name}.mp4", seed=seed)).path.read_bytes()
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first != other


def test_a_drive_can_begin_at_a_picture_and_at_a_context(
    world: str, picture: Path, tmp_path: Path
) -> None:
    videos = [
        read_video(drive(_job(world, tmp_path / f"{i}.mp4", start=start)).path)
        for i, start in enumerate((str(picture), "road-1"))
    ]
    assert not np.array_equal(*videos)


def test_the_report_says_how_fast_how_well_and_where(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive.mp4"
    assert main(["drive", "--world", world, "--policy", "constant", "--seconds", "0.5",
                 "--out", str(out)]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert all(words in said for words in ("x real time", "reward", "m driven", f"wrote {out}"))


@pytest.mark.parametrize("option", ["--world", "--policy", "--start"])
def test_what_does_not_exist_is_named_in_one_line_and_leaves_no_file(
    option: str, world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive.mp4"
    words = ["drive", "--world", world, "--policy", "constant", "--seconds", "0.5"]
    assert main([*words, "--out", str(out), option, "no-such-thing"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no-such-thing" in said
    assert list(tmp_path.iterdir()) == []


def test_released_weights_are_sent_to_where_they_can_be_driven(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is fetched for that: no driver of the command knows their pictures and pace."""
    assert main(["drive", "--world", "Efficient-Large-Model/SANA-WM_streaming"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "sanawm-gym render --controls" in said
