"""Arrays of npz entries in a zip file, mapped into memory instead of read.

An npz is itself a zip. Where neither of the two compresses, an array lies in the outer file as it
is, and a view of the file serves: pages are loaded when they are touched, and the system takes them
back when it needs room. What is compressed is read whole.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

_LOCAL_HEADER = 30
"""Bytes before the name in front of an entry; the last four tell the lengths of name and extra.
[APPNOTE.TXT, 4.3.7]"""
_NPY_HEADER = 65536
"""More than any header of an array takes."""

Bytes = UInt8[np.ndarray, " _"]


class NpzPack:
    """A zip file of npz entries.

    Args:
        path: The file.

    Raises:
        zipfile.BadZipFile: If it is none.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as pack:
            self._entries = {info.filename: info for info in pack.infolist()}
        self._path = path
        # Copy on write: nobody can change the file, and torch asks for memory that can be written.
        self._bytes: Bytes = np.asarray(np.memmap(path, np.uint8, mode="c"))

    def size(self, name: str) -> int | None:
        """Bytes of an entry, or None if there is no such one."""
        return self._entries[name].file_size if name in self._entries else None

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Arrays of an entry by name.

        Its checksum is compared, which reads it once and keeps nothing.

        Raises:
            KeyError: If there is no such entry.
            zipfile.BadZipFile, ValueError: If it is damaged.
        """
        info = self._entries[name]
        if info.compress_type != zipfile.ZIP_STORED:
            with zipfile.ZipFile(self._path) as pack:
                return npz_arrays(np.frombuffer(bytearray(pack.read(name)), np.uint8))
        data = _stored(self._bytes, info)
        if zlib.crc32(data.data) != info.CRC:
            raise zipfile.BadZipFile(f"the checksum of {name} is wrong")
        return npz_arrays(data)


def npz_arrays(data: Bytes) -> dict[str, np.ndarray]:
    """Arrays of an npz file, views of its bytes where they are not compressed.

    Raises:
        zipfile.BadZipFile, ValueError: If it is damaged.
    """
    with zipfile.ZipFile(io.BufferedReader(_View(data))) as npz:
        return {
            info.filename.removesuffix(".npy"): _array(npz, info, data) for info in npz.infolist()
        }


def _array(npz: zipfile.ZipFile, info: zipfile.ZipInfo, data: Bytes) -> np.ndarray:
    if info.compress_type == zipfile.ZIP_STORED:
        content = _stored(data, info)
        head = io.BytesIO(content[:_NPY_HEADER].tobytes())
        if np.lib.format.read_magic(head) == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(head)
            size = math.prod(shape) * dtype.itemsize
            raw = content[head.tell() : head.tell() + size]
            if not dtype.hasobject and len(raw) == size:
                return raw.view(dtype).reshape(shape, order="F" if is_fortran else "C")
    with npz.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _stored(data: Bytes, info: zipfile.ZipInfo) -> Bytes:
    """Content of an entry that is not compressed."""
    start = info.header_offset
    lengths = data[start + _LOCAL_HEADER - 4 : start + _LOCAL_HEADER].tobytes()
    if len(lengths) < 4:
        raise zipfile.BadZipFile(f"{info.filename} lies behind the end of the file")
    start += _LOCAL_HEADER + sum(struct.unpack("<HH", lengths))
    content = data[start : start + info.file_size]
    if len(content) < info.file_size:
        raise zipfile.BadZipFile(f"{info.filename} is cut off")
    return content


class _View(io.RawIOBase):
    """Bytes as a file, without a copy of them."""

    def __init__(self, data: Bytes) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part.tobytes()
        self._at += len(part)
        return len(part)
