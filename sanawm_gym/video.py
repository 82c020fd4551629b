"""Videos on disk: mp4 written frame by frame and read whole, and contact sheets.

Writing goes to a temporary name that replaces the final one when the video is complete, so a file
that exists is a whole video. Encoding is single-threaded: the same frames give the same bytes on
the same ffmpeg build.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
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


class _Decoder:
    """ffmpeg decoding one video into a pipe, in a `with` statement that ends it and closes both.

    The pictures come as PPM images, each of which says its own size.
    """

    def __init__(self, path: Path) -> None:
        self.num_frames = 0
        command = [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-an"),
            *("-threads", "1", "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"),
        ]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed on leaving
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # A signal meant for this process must not end the video half read.
            start_new_session=True,
        )

    def frames(self) -> Iterator[Frame]:
        """Pictures in order; one that is cut short ends them."""
        pipe = self._process.stdout
        assert pipe is not None
        while pipe.readline().strip() == b"P6":
            width, height = (int(word) for word in pipe.readline().split())
            pipe.readline()  # 255, the brightest value
            data = pipe.read(3 * width * height)
            if len(data) < 3 * width * height:
                return
            self.num_frames += 1
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)

    def complaint(self) -> str:
        """What ffmpeg said last, once it has come to its end."""
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no picture in it"

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.__exit__(None, None, None)
        self._log.close()


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
    frames = []
    with _Decoder(path) as decoder:
        for index, frame in enumerate(decoder.frames()):
            if stop is not None and index >= stop:
                break
            if index >= start:
                frames.append(frame)
        if not frames and not decoder.num_frames:
            raise ValueError(f"video: cannot read {path} ({decoder.complaint()}); is it complete?")
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
