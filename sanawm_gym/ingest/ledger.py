"""Which drives of a source are done: `ingest.json` beside the shards.

A drive is a shard. It enters the ledger after its table is written, so a drive that was interrupted
is begun again, under the same number.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sanawm_gym.episodes import (
    FORMAT_VERSION,
    DatasetInfo,
    episode_path,
    shard_path,
    write_info,
)

from .config import FPS, IngestConfig

_FILE = "ingest.json"


@dataclass
class Ledger:
    """Drives that are done."""

    root: Path
    """Dataset folder."""
    options: dict[str, Any]
    """What the result depends on beside the source."""
    drives: dict[str, dict[str, int]] = field(default_factory=dict)
    """`episodes`, `frames` and the longest episode's frames, `longest`, of every drive in order of
    its shard."""

    @classmethod
    def open(cls, config: IngestConfig) -> Ledger:
        """Begin a dataset or go on with one.

        Raises:
            ValueError: If the folder holds another dataset.
        """
        options = asdict(config)
        del options["source"], options["out"]
        options = json.loads(json.dumps(options))
        path = config.out / _FILE
        if not path.is_file():
            if (config.out / "dataset.json").exists():
                raise ValueError(
                    f"ingest: got {config.out}, which holds a recording; expected a new folder or "
                    "an ingest of the same options"
                )
            config.out.mkdir(parents=True, exist_ok=True)
            return cls(config.out, options)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            ledger = cls(config.out, kept["options"], kept["drives"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"ingest: cannot read {path} ({error}); begin a new folder") from error
        for name, wanted in options.items():
            if ledger.options.get(name) != wanted:
                raise ValueError(
                    f"ingest: got {name}={wanted}, but {config.out} was made with "
                    f"{name}={ledger.options.get(name)}; give the same or begin a new folder"
                )
        return ledger

    @property
    def num_episodes(self) -> int:
        """Episodes of all drives."""
        return sum(drive["episodes"] for drive in self.drives.values())

    @property
    def num_frames(self) -> int:
        """Frames of all drives."""
        return sum(drive["frames"] for drive in self.drives.values())

    def add(self, name: str, lengths: list[int]) -> None:
        """Note that a drive is done.

        Args:
            name: The drive.
            lengths: Frames of its episodes.
        """
        self.drives[name] = {
            "episodes": len(lengths),
            "frames": sum(lengths),
            "longest": max(lengths),
        }
        partial = self.root / f"{_FILE}.{os.getpid()}.partial"
        partial.write_text(
            json.dumps({"options": self.options, "drives": self.drives}, indent=2) + "\n",
            encoding="utf-8",
        )
        os.replace(partial, self.root / _FILE)
        self._write_info()

    def discard(self, shard: int) -> None:
        """Remove what an interrupted or damaged drive left of a shard."""
        shard_path(self.root, shard).unlink(missing_ok=True)
        folder = episode_path(self.root, shard, 0).parent
        if folder.is_dir():
            shutil.rmtree(folder)

    def _write_info(self) -> None:
        drives = self.drives.values()
        write_info(
            self.root,
            DatasetInfo(
                format_version=FORMAT_VERSION,
                fps=FPS,
                width=self.options["width"],
                height=self.options["height"],
                seed=0,
                num_episodes=self.num_episodes,
                num_frames=self.num_frames,
                episodes_per_shard=max(drive["episodes"] for drive in drives),
                seconds=max(drive["longest"] for drive in drives) / FPS,
            ),
        )
