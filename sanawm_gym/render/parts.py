"""What is kept of a video that is not yet whole: its parts, and the world's state after the last.

    out.parts/run.json              what is being rendered, in fingerprints
    out.parts/frames-00000.npy      uint8 (f, h, w, 3), as drawn
    out.parts/state-00003.safetensors
    out.parts/done-...              what else is done, such as the preview

Pictures are kept as drawn and encoded at the end, so that the bytes of the video do not depend on
where it was interrupted. A part counts once its state is there, which is written after its
pictures; every file appears whole under its name. A minute is 27 MB at 128x72 and 2.6 GB at
1280x704.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import load_file, save
from torch import Tensor

from .kept_state import tensors_of, with_tensors


def fingerprint(*contents: bytes | str) -> str:
    """Short hash of some contents."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content.encode() if isinstance(content, str) else content)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def stamp_of(file: Path) -> str:
    """Name, size and time of a file: what changes when it is written anew."""
    kept = file.stat()
    return f"{file.resolve()} {kept.st_size} {kept.st_mtime_ns}"


class PartStore:
    """The folder of an unfinished video."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, run: Mapping[str, str], *, restart: bool = False) -> None:
        """Begin, or take up what is there.

        Args:
            run: Fingerprints of everything that the pictures depend on, by name.
            restart: Remove what is there.

        Raises:
            ValueError: If there are parts of another run; nothing has changed then.
        """
        if restart:
            self.remove()
        described = self.folder / "run.json"
        if described.is_file():
            kept = json.loads(described.read_text(encoding="utf-8"))
            names = [name for name in {**kept, **run} if kept.get(name) != run.get(name)]
            if not names:
                return
            if self.num_kept() or any(self.folder.glob("done-*")):
                raise ValueError(
                    f"out: got parts of another run in {self.folder} (other {', '.join(names)}), "
                    "expected those of this very command; give another --out, or --restart to "
                    "remove them"
                )
            self.remove()  # stopped before anything was whole: there is nothing to lose
        if self.folder.exists():
            raise ValueError(
                f"out: got {self.folder}, which holds no unfinished video; expected it to be free; "
                "give another --out"
            )
        self.folder.mkdir(parents=True)
        self._write(described, (json.dumps(dict(run), indent=2) + "\n").encode())

    def note(self, done: str) -> None:
        """Remember that something besides the parts is done."""
        self._write(self.folder / f"done-{fingerprint(done)}", done.encode())

    def noted(self, done: str) -> bool:
        """Whether that was done in this run."""
        return (self.folder / f"done-{fingerprint(done)}").is_file()

    def num_kept(self) -> int:
        """Parts that are whole."""
        found = [int(path.stem.split("-")[1]) for path in self.folder.glob("state-*.safetensors")]
        return max(found, default=-1) + 1

    def keep(self, index: int, frames: UInt8[np.ndarray, "f h w 3"], state: Any) -> Any:
        """Add a part, the next one.

        Returns:
            The state as it will be read back. Going on from it is going on as after an
            interruption: the same numbers in another order of memory are rounded otherwise.
        """
        buffer = io.BytesIO()
        np.save(buffer, frames, allow_pickle=False)
        self._write(self._frames(index), buffer.getvalue())
        tensors = {name: _plain(tensor) for name, tensor in tensors_of(state).items()}
        self._write(self._state(index), save(tensors))
        self._state(index - 1).unlink(missing_ok=True)
        return with_tensors(state, tensors)

    def frames(self, index: int) -> UInt8[np.ndarray, "f h w 3"]:
        """Pictures of a part."""
        return np.asarray(np.load(self._frames(index), allow_pickle=False))

    def state(self, like: Any) -> Any:
        """State after the last part, or the given one where there is none.

        Args:
            like: Any state of the same run, whose kind and layout are taken.
        """
        kept = self.num_kept()
        if not kept:
            return like
        read = load_file(self._state(kept - 1))
        return with_tensors(like, {name: _plain(tensor) for name, tensor in read.items()})

    def remove(self) -> None:
        """Remove the folder, if it is one of ours."""
        if (self.folder / "run.json").is_file():
            shutil.rmtree(self.folder)

    def _frames(self, index: int) -> Path:
        return self.folder / f"frames-{index:05d}.npy"

    def _state(self, index: int) -> Path:
        return self.folder / f"state-{index:05d}.safetensors"

    def _write(self, path: Path, content: bytes) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        os.replace(partial, path)


def _plain(tensor: Tensor) -> Tensor:
    """A copy on the CPU in memory of its own, row by row."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
