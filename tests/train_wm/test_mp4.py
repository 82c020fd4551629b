"""A video that is not all there is noticed without decoding it."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from sanawm_gym.train_wm.mp4 import count_frames
from sanawm_gym.video import write_video

NUM_FRAMES = 21


@pytest.fixture
def video(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_video(tmp_path / "v.mp4", rng.integers(0, 255, (NUM_FRAMES, 16, 24, 3), np.uint8), 16)
    return tmp_path / "v.mp4"


def repacked(video: Path, flags: str) -> Path:
    """The same coded frames in another order of boxes."""
    out = video.with_name("repacked.mp4")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    words = [ffmpeg, "-v", "error", "-i", str(video), "-c", "copy", "-movflags", flags, str(out)]
    subprocess.run(words, check=True)
    return out


def test_coded_frames_are_counted_wherever_the_index_stands(video: Path) -> None:
    first = repacked(video, "+faststart")
    assert video.read_bytes().find(b"moov") > first.read_bytes().find(b"moov")
    assert count_frames(video) == count_frames(first) == NUM_FRAMES


def test_a_file_without_an_index_of_frames_says_nothing(video: Path) -> None:
    assert count_frames(repacked(video, "frag_keyframe+empty_moov")) is None


@pytest.mark.parametrize("flags", ["", "+faststart"])
@pytest.mark.parametrize("kept", [0.05, 0.99])
def test_a_video_that_ends_early_is_named(video: Path, flags: str, kept: float) -> None:
    path = repacked(video, flags) if flags else video
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"cannot read .*{path.name}.*complete"):
        count_frames(path)


@pytest.mark.parametrize("content", [b"", b"no", b"this is no video at all, whatever its name"])
def test_what_is_no_mp4_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*x\.mp4"):
        count_frames(path)
    with pytest.raises(ValueError, match=r"cannot read .*gone\.mp4"):
        count_frames(tmp_path / "gone.mp4")
