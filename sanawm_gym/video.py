"""Videos on disk: mp4 written frame by frame and read whole, and contact sheets.

Writing goes to a temporary name that replaces the final one when the video is complete, so a file
that exists is a whole video. Encoding is single-threaded: the same frames give the same bytes on
the same ffmpeg build.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from PIL import Image

Frame = UInt8[np.ndarray, "h w 3"]


class VideoWriter:
    """Writes an mp4 (h264) frame by frame, in a `with` statement."""

    def __init__(
        self,
        path: str | Path,
        fps: float,
        *,
        crf: int = 10,
        preset: str = "veryfast",
        pixel_format: Literal["yuv444p", "yuv420p"] = "yuv444p",
    ) -> None:
        """Remember where to write; the encoder starts with the first frame.

        Args:
            path: File to write, ending in .mp4.
            fps: Frames a second, > 0.
            crf: x264 quality, 0 (lossless) to 51; 10 shows no blocks.
            preset: x264 preset.
            pixel_format: yuv444p keeps the colour of every pixel; yuv420p halves its resolution and
                plays in every browser (even sides only).
        """
        if fps <= 0 or not 0 <= crf <= 51:
            raise ValueError(f"video: got fps={fps}, crf={crf}, expected fps > 0 and crf in 0-51")
        self.path = Path(path)
        self.num_frames = 0
        self._fps, self._quality = fps, ["-crf", str(crf), "-preset", preset, "-threads", "1"]
        self._pixel_format = pixel_format
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}.partial.mp4")
        self._shape: tuple[int, ...] | None = None
        self._pipe: Generator[None, bytes | None, None] | None = None

    def append(self, frame: np.ndarray) -> None:
        """Add a frame; all frames have the size of the first.

        Raises:
            ValueError: If the frame is not an RGB picture in uint8 of that size.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"video: got a frame of {frame.dtype} {frame.shape}, "
                "expected uint8 (height, width, 3)"
            )
        pipe = self._pipe or self._start(frame.shape)
        if frame.shape != self._shape:
            raise ValueError(
                f"video: got a frame of {frame.shape}, expected {self._shape} like the first"
            )
        pipe.send(np.ascontiguousarray(frame).tobytes())
        self.num_frames += 1

    def _start(self, shape: tuple[int, ...]) -> Generator[None, bytes | None, None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._shape = shape
        pipe: Generator[None, bytes | None, None] = imageio_ffmpeg.write_frames(
            str(self._partial),
            (shape[1], shape[0]),
            fps=self._fps,
            codec="libx264",
            pix_fmt_out=self._pixel_format,
            macro_block_size=1,
            quality=None,
            output_params=self._quality,
            ffmpeg_log_level="error",
        )
        next(pipe)
        self._pipe = pipe
        return pipe

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
            os.replace(self._partial, self.path)

    def __enter__(self) -> VideoWriter:
        """Start writing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file; after an error leave no trace of it."""
        if kind is None:
            self.close()
        elif self._pipe is not None:
            self._pipe.close()
            self._pipe = None
            self._partial.unlink(missing_ok=True)


def write_video(
    path: str | Path,
    frames: Iterable[Frame],
    fps: float,
    *,
    crf: int = 10,
    preset: str = "veryfast",
) -> None:
    """Write all frames as one mp4."""
    with VideoWriter(path, fps, crf=crf, preset=preset) as writer:
        for frame in frames:
            writer.append(frame)


def read_video(
    path: str | Path, start: int = 0, stop: int | None = None
) -> UInt8[np.ndarray, "f h w 3"]:
    """Read frames [start, stop) of a video at its own size.

    Args:
        path: Any file that ffmpeg reads.
        start: First frame, >= 0.
        stop: Frame after the last; the end of the video by default.

    Raises:
        ValueError: If the file is missing, is not a readable video, or has fewer frames than asked
            for.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"video: got {path}, which is not a file; give the path of a video")
    stream = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24", output_params=["-threads", "1"])
    frames = []
    try:
        width, height = next(stream)["size"]
        for index, data in enumerate(stream):
            if stop is not None and index >= stop:
                break
            if index >= start:
                frames.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    # Damaged headers make imageio-ffmpeg fail in its own parsing of ffmpeg's words.
    except (
        OSError, RuntimeError, LookupError, AttributeError, StopIteration
    ) as error:  # fmt: skip
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"video: cannot read {path} ({reason[-1] if reason else 'no picture in it'}); "
            "is it complete?"
        ) from error
    finally:
        stream.close()
    if not frames or (stop is not None and len(frames) < stop - start):
        raise ValueError(
            f"video: got {start + len(frames)} frames in {path}, "
            f"expected at least {stop or start + 1}"
        )
    return np.stack(frames)


def contact_sheet(
    frames: UInt8[np.ndarray, "n h w 3"], columns: int, scale: int = 1, margin: int = 2
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Many pictures as one, row by row.

    Args:
        frames: Pictures of one size.
        columns: Pictures in a row, >= 1.
        scale: Whole-number enlargement of every picture.
        margin: Grey pixels between pictures.
    """
    if columns < 1 or scale < 1:
        raise ValueError(f"contact sheet: got columns={columns}, scale={scale}, expected both >= 1")
    num, height, width, _ = frames.shape
    rows = -(-num // columns)
    tall, wide = height * scale + margin, width * scale + margin
    sheet = np.full((rows * tall - margin, columns * wide - margin, 3), 96, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        picture = Image.fromarray(frame).resize(
            (width * scale, height * scale), Image.Resampling.BICUBIC
        )
        top, left = row * tall, column * wide
        sheet[top : top + height * scale, left : left + width * scale] = np.asarray(picture)
    return sheet
