"""What an mp4 says of itself, read without decoding it: whether it is all there, its frames.

An mp4 is a row of boxes: four bytes of size (1 means eight more follow, 0 the rest of the file),
four bytes of name, content. `mdat` holds the coded pictures, `moov` the index of them: a `trak` a
stream, in whose `stsz` every coded frame has a size. [ISO/IEC 14496-12, 4.2, 8.7.3]

Bytes that went wrong in the middle of a picture are not noticed, here or by a decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TO_SIZES = (b"mdia", b"minf", b"stbl")


def count_frames(path: Path) -> int | None:
    """Coded frames of the video in an mp4 that is all there.

    Returns:
        Their number, or None if the index does not tell (fragmented files have none).

    Raises:
        ValueError: If the file is missing, is no mp4, ends too early or has no index.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            top = {name: (start, stop) for name, start, stop in _boxes(file, 0, size)}
            if b"moov" not in top:
                raise ValueError(f"has boxes {_words(top)} and no index moov")
            for name, start, stop in _boxes(file, *top[b"moov"]):
                if name == b"trak" and _is_video(file, start, stop):
                    return _num_samples(file, start, stop)
    except (OSError, ValueError, struct.error) as error:
        raise ValueError(f"video: cannot read {path} ({error}); is it complete?") from error
    return None


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and end of the content of every box between two places of a file."""
    while start < stop:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            header, (size,) = 16, struct.unpack(">Q", file.read(8))
        elif size == 0:
            size = stop - start
        if size < header or not name.isascii():
            raise ValueError(f"no box at byte {start}")
        if start + size > stop:
            raise ValueError(f"box {_words([name])} ends {start + size - stop} bytes too early")
        yield name, start + header, start + size
        start += size


def _find(file: BinaryIO, start: int, stop: int, wanted: bytes) -> tuple[int, int] | None:
    """Content of the first box of a name."""
    spans = (span for name, *span in _boxes(file, start, stop) if name == wanted)
    first, last = next(spans, (0, 0))
    return (first, last) if last else None


def _is_video(file: BinaryIO, start: int, stop: int) -> bool:
    media = _find(file, start, stop, b"mdia")
    handler = _find(file, *media, b"hdlr") if media else None
    if handler is None:
        return False
    file.seek(handler[0] + 8)
    return file.read(4) == b"vide"


def _num_samples(file: BinaryIO, start: int, stop: int) -> int | None:
    """Entries of the sample size box of a trak."""
    span: tuple[int, int] | None = (start, stop)
    for name in _TO_SIZES:
        span = _find(file, *span, name) if span else None
    sizes = _find(file, *span, b"stsz") if span else None
    if sizes is None:
        return None
    file.seek(sizes[0] + 8)
    (number,) = struct.unpack(">I", file.read(4))
    return int(number) or None


def _words(names: dict[bytes, tuple[int, int]] | list[bytes]) -> str:
    return ", ".join(name.decode("ascii", "replace") for name in names) or "none"
