"""Turn part of a drive into the moving picture of the README.

Usage: `python tools/moving_picture.py --video drive.mp4 --out docs/drive.webp`.
"""

from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tyro
from PIL import Image

MAX_BYTES = 3_000_000


@dataclass(frozen=True, kw_only=True)
class MovingPictureConfig:
    """Cut a video down to an animated WebP."""

    video: Path
    """Video to read, as written by `sanawm-gym drive`."""
    out: Path
    """Animated WebP to write."""
    start: float = 0.0
    """First second of the video that is shown, at least 0."""
    seconds: float = 15.0
    """Length of what is shown [s], above 0."""
    fps: int = 8
    """Pictures a second; the video's rate must be a multiple of it."""
    width: int = 448
    """Width [px]; the height follows."""
    quality: int = 60
    """WebP quality, 1 to 100."""


def make(config: MovingPictureConfig) -> None:
    """Write the picture and say how big it became."""
    video_fps = float(iio.immeta(config.video, plugin="FFMPEG")["fps"])
    stride = round(video_fps / config.fps)
    if abs(video_fps - stride * config.fps) > 1e-3:
        raise SystemExit(f"fps: got {config.fps}, expected a divisor of {video_fps:g}")
    first = round(config.start * video_fps)
    last = first + round(config.seconds * video_fps)
    pictures = [
        _resized(frame, config.width)
        for index, frame in enumerate(iio.imiter(config.video, plugin="FFMPEG"))
        if first <= index < last and (index - first) % stride == 0
    ]
    if not pictures:
        raise SystemExit(f"start: got {config.start}, which lies behind the end of the video")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        config.out,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / config.fps),
        loop=0,
        quality=config.quality,
        method=6,
    )
    size = config.out.stat().st_size
    print(f"wrote {config.out}: {len(pictures)} pictures, {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise SystemExit(f"more than {MAX_BYTES / 1e6:g} MB: lower --quality, --width or --seconds")


def _resized(frame: np.ndarray, width: int) -> Image.Image:
    picture = Image.fromarray(frame)
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    make(tyro.cli(MovingPictureConfig))
