"""Videos survive the disk, and nothing half-written is ever left behind."""

import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.video import VideoWriter, contact_sheet, read_video, write_video


def clip(num: int = 9, height: int = 40, width: int = 64) -> np.ndarray:
    """A colour gradient that drifts."""
    y, x = np.mgrid[:height, :width]
    waves = [
        np.stack([np.sin((x + 3 * t) / 9), np.cos((y - t) / 7), np.sin((x + y) / 11)], axis=-1)
        for t in range(num)
    ]
    return (127.5 + 120 * np.stack(waves)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 64), (37, 51), (72, 128)])
def test_a_video_comes_back_with_its_size_and_nearly_its_colours(
    tmp_path: Path, height: int, width: int
) -> None:
    frames = clip(9, height, width)
    write_video(tmp_path / "a.mp4", frames, 16)
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    error = np.mean((back.astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 36


def test_a_range_of_frames_equals_that_range_of_the_whole(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", clip(12), 16)
    whole = read_video(tmp_path / "a.mp4")
    np.testing.assert_array_equal(read_video(tmp_path / "a.mp4", 3, 7), whole[3:7])


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, clip(), 16)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_interrupted_video_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "a.mp4", 16) as writer:
        writer.append(clip()[0])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_video_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 16) as writer:
        writer.append(clip()[0])
        assert not (tmp_path / "a.mp4").exists()
    assert (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    "frame",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)],
)
def test_a_frame_that_is_no_rgb_picture_is_refused(tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        VideoWriter(tmp_path / "a.mp4", 16).append(frame)


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="like the first"),
        VideoWriter(tmp_path / "a.mp4", 16) as writer,
    ):
        writer.append(np.zeros((8, 8, 3), np.uint8))
        writer.append(np.zeros((10, 8, 3), np.uint8))


def test_reading_what_is_no_video_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        read_video(path)
    with pytest.raises(ValueError, match="not a file"):
        read_video(tmp_path / "absent.mp4")


@pytest.mark.parametrize("stop", [None, 3])
def test_reading_leaves_no_file_open(tmp_path: Path, stop: int | None) -> None:
    write_video(tmp_path / "a.mp4", clip(), 16)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_video(tmp_path / "a.mp4", 0, stop)
        with pytest.raises(ValueError, match="is it complete"):
            read_video(tmp_path / "broken.mp4")
        gc.collect()
    assert [str(one.message) for one in told] == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_signal_to_everybody_does_not_end_a_video_early(tmp_path: Path) -> None:
    """As ctrl-C in a terminal, which training takes for a wish to stop after the step."""
    write_video(tmp_path / "a.mp4", clip(60, 144, 256), 16)
    reading = """
import os, signal, sys
from pathlib import Path
from sanawm_gym.video import _Decoder
signal.signal(signal.SIGINT, lambda number, _: print("heard"))
with _Decoder(Path(sys.argv[1])) as decoder:
    frames = decoder.frames()
    next(frames)
    os.killpg(os.getpgrp(), signal.SIGINT)
    print(1 + sum(1 for _ in frames))
"""
    done = subprocess.run(
        [sys.executable, "-c", reading, str(tmp_path / "a.mp4")],
        capture_output=True, text=True, start_new_session=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["heard", "60"]


def test_asking_for_more_frames_than_there_are_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", clip(5), 16)
    with pytest.raises(ValueError, match="expected at least 9"):
        read_video(tmp_path / "a.mp4", 0, 9)


def test_a_contact_sheet_shows_the_pictures_row_by_row() -> None:
    frames = np.stack([np.full((4, 6, 3), 50 * i, np.uint8) for i in range(5)])
    sheet = contact_sheet(frames, columns=3, margin=2)
    assert sheet.shape == (4 + 2 + 4, 3 * 6 + 2 * 2, 3)
    assert sheet[0, 8, 0] == 50 and sheet[6, 0, 0] == 150 and sheet[0, 6, 0] == 96
