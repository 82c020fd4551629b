"""Pictures of a drive, read one after the other: image files or a video of any length.

Nothing is kept in memory, so an hour of video costs no more than a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from PIL import Image

_UNREADABLE = (OSError, RuntimeError, StopIteration, LookupError, AttributeError)
"""What imageio-ffmpeg raises for a damaged file; the last two come of a header it cannot parse."""

Picture = UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Pictures(Protocol):
    """A row of pictures of one size."""

    @property
    def width(self) -> int:
        """Width [px]."""

    @property
    def height(self) -> int:
        """Height [px]."""

    def __len__(self) -> int:
        """Number of pictures."""

    def read(self, indices: Sequence[int]) -> Iterator[Picture]:
        """Pictures by number, which may repeat but not fall.

        Raises:
            ValueError: If one cannot be read; its file is named.
        """


class ImageFiles:
    """Pictures in files of their own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Take files in order; the first tells the size."""
        self.paths = list(paths)
        self.height, self.width = _read_image(self.paths[0]).shape[:2]

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> Iterator[Picture]:
        """See `Pictures.read`."""
        last, picture = -1, np.empty((0, 0, 3), np.uint8)
        for index in indices:
            if index != last:
                last, picture = index, _read_image(self.paths[index])
            if picture.shape[:2] != (self.height, self.width):
                raise ValueError(
                    f"picture: got {picture.shape[1]}x{picture.shape[0]} in {self.paths[index]}, "
                    f"expected {self.width}x{self.height} like the first; mend or remove the drive"
                )
            yield picture


def _read_image(path: Path) -> Picture:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow says SyntaxError for a broken png
        raise ValueError(f"picture: cannot read {path} ({error}); fetch it again") from error


class VideoFile:
    """Pictures of one video, every coded frame once whatever its time stamp."""

    # Without this ffmpeg repeats and drops frames to make an even clock of an uneven one, and
    # picture i would no longer belong to pose i.
    _EVERY_FRAME = ("-fps_mode", "passthrough", "-threads", "1")

    def __init__(self, path: Path) -> None:
        """Read the header and count the frames, which takes a pass over the file.

        Raises:
            ValueError: If this is no readable video.
        """
        self.path = path
        if not path.is_file():
            raise ValueError(f"video: got no {path}; expected a video there")
        try:
            stream = imageio_ffmpeg.read_frames(str(path), output_params=list(self._EVERY_FRAME))
            header = next(stream)
            stream.close()
            self._num, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
            self.width, self.height = header["size"]
        except _UNREADABLE as error:
            said = str(error).strip().splitlines()
            raise ValueError(
                f"video: cannot read {path} ({said[-1] if said else 'no picture in it'}); is it "
                "complete?"
            ) from error
        self.fps = float(header.get("fps") or 0.0)
        if not self._num:
            raise ValueError(f"video: got no picture in {path}; is it complete?")

    def __len__(self) -> int:
        """Number of frames."""
        return int(self._num)

    def read(self, indices: Sequence[int]) -> Iterator[Picture]:
        """See `Pictures.read`."""
        stream = imageio_ffmpeg.read_frames(str(self.path), output_params=list(self._EVERY_FRAME))
        number, data = -1, b""
        try:
            next(stream)
            for index in indices:
                while number < index:
                    data = next(stream)
                    number += 1
                yield np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3)
        except (OSError, RuntimeError, StopIteration) as error:
            raise ValueError(
                f"video: got {number + 1} frames in {self.path}, expected {len(self)}; is it "
                "complete?"
            ) from error
        finally:
            stream.close()
