"""Recorded drives on disk: mp4 pictures and one parquet row a frame, in shards.

    dataset.json               format, clock, picture size, counts
    shard-00000/episode-000000.mp4
    shard-00000.parquet        written last: a shard whose parquet exists is complete

The action of a row is the one that led to its frame; `expert_action` is what a good driver would do
from it. Numbers that nobody knows of a filmed drive are NaN.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from sanawm_gym.parquet_rows import read_rows
from sanawm_gym.video import read_video

FORMAT_VERSION = 1
# columns of one row, with the length of list columns
LIST_COLUMNS = {"c2w": 16, "intrinsics": 4, "action": 2, "expert_action": 2}
EGO_COLUMNS = ("speed", "steer", "acceleration", "yaw_rate", "x", "y", "yaw")
TRUTH_COLUMNS = (
    "lane_offset", "heading_error", "curvature_ahead", "left_edge", "right_edge",
    "lead_distance", "lead_speed",
)  # fmt: skip
FLAG_COLUMNS = ("on_road", "crashed")
WORD_COLUMNS = ("caption", "policy")


def schema() -> pa.Schema:
    """Arrow schema of a shard."""
    fields = [pa.field("episode", pa.int32()), pa.field("frame", pa.int32())]
    fields += [pa.field(name, pa.list_(pa.float64(), size)) for name, size in LIST_COLUMNS.items()]
    fields += [pa.field(name, pa.float64()) for name in (*EGO_COLUMNS, *TRUTH_COLUMNS)]
    fields += [pa.field(name, pa.bool_()) for name in FLAG_COLUMNS]
    fields += [pa.field(name, pa.dictionary(pa.int32(), pa.string())) for name in WORD_COLUMNS]
    fields.append(pa.field("world_seed", pa.int64()))
    return pa.schema(fields)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What dataset.json says.

    Attributes:
        format_version: Layout of the files.
        fps: Frames a second.
        width: Picture width [px].
        height: Picture height [px].
        seed: Seed the recording was made with.
        num_episodes: Episodes.
        num_frames: Frames of all episodes.
        episodes_per_shard: Episodes in a full shard.
        seconds: Longest episode [s].
        astray: Share of the drivers that were asked to leave the road, 0 to 1.
    """

    format_version: int
    fps: float
    width: int
    height: int
    seed: int
    num_episodes: int
    num_frames: int
    episodes_per_shard: int
    seconds: float
    astray: float = 0.0


@dataclass(frozen=True)
class EpisodeInfo:
    """One recorded drive.

    Attributes:
        index: Number of the episode in the dataset.
        num_frames: Frames, 4 k + 1.
        caption: Description of its world.
        policy: Who drove.
        world_seed: Seed of its world.
        video: Its mp4.
        shard: Number of its shard.
        first_row: Its first row in the shard's table.
    """

    index: int
    num_frames: int
    caption: str
    policy: str
    world_seed: int
    video: Path
    shard: int
    first_row: int


def shard_path(root: Path, shard: int) -> Path:
    """Table of a shard."""
    return root / f"shard-{shard:05d}.parquet"


def episode_path(root: Path, shard: int, episode: int) -> Path:
    """Video of an episode."""
    return root / f"shard-{shard:05d}" / f"episode-{episode:06d}.mp4"


def write_shard(
    root: Path, shard: int, episodes: Sequence[Mapping[str, np.ndarray | list[str]]]
) -> None:
    """Write the table of a shard, one row group an episode; the videos must be there already.

    Args:
        root: Dataset folder.
        shard: Number of the shard.
        episodes: Columns of every episode, in order.
    """
    path, layout = shard_path(root, shard), schema()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with pq.ParquetWriter(partial, layout) as writer:
        for columns in episodes:
            writer.write_table(
                pa.table([_column(columns, field) for field in layout], schema=layout)
            )
    os.replace(partial, path)


def _column(columns: Mapping[str, np.ndarray | list[str]], field: pa.Field) -> pa.Array:
    values = columns[field.name]
    if field.name in LIST_COLUMNS:
        flat = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), LIST_COLUMNS[field.name])
    if field.name in WORD_COLUMNS:
        return pa.array(list(values), pa.string()).dictionary_encode()
    return pa.array(values, field.type)


def write_info(root: Path, info: DatasetInfo) -> None:
    """Write dataset.json."""
    partial = root / f"dataset.json.{os.getpid()}.partial"
    partial.write_text(json.dumps(asdict(info), indent=2) + "\n")
    os.replace(partial, root / "dataset.json")


def read_info(root: Path) -> DatasetInfo:
    """Read dataset.json.

    Raises:
        ValueError: If it is missing, damaged or of another format.
    """
    path = root / "dataset.json"
    try:
        info = DatasetInfo(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"dataset: cannot read {path} ({error}); give a folder that `sanawm-gym record` or "
            "`ingest` wrote"
        ) from error
    if info.format_version != FORMAT_VERSION:
        raise ValueError(
            f"dataset: got format {info.format_version} in {path}, expected {FORMAT_VERSION}; "
            "record it anew"
        )
    return info


class EpisodeDataset:
    """Reads recorded drives; the last few decoded videos and tables are kept in memory.

    Attributes:
        episodes: Drives of all complete shards.
        damaged: Tables that cannot be read and why, where they are passed over.
    """

    def __init__(
        self, path: str | Path, *, num_cached: int = 8, skip_damaged: bool = False
    ) -> None:
        """Open a dataset; shards that are not complete are left out.

        Args:
            path: Dataset folder.
            num_cached: Decoded episodes to keep (about 9 MB for 20 s of 128 x 72).
            skip_damaged: Note tables that cannot be read in `damaged` instead of raising.

        Raises:
            ValueError: If there is no readable dataset in the folder.
        """
        self.path = Path(path)
        self.info = read_info(self.path)
        self.episodes: list[EpisodeInfo] = []
        self.damaged: dict[Path, str] = {}
        self._by_index: dict[int, EpisodeInfo] = {}
        for table_path in sorted(self.path.glob("shard-*.parquet")):
            try:
                found = self._index(table_path)
            except ValueError as error:
                if not skip_damaged:
                    raise
                self.damaged[table_path] = str(error)
                continue
            self.episodes += found
            self._by_index |= {info.index: info for info in found}
        if not self.episodes:
            reason = next(iter(self.damaged.values()), "it has none")
            raise ValueError(
                f"dataset: got {self.path} without a complete shard ({reason}); finish it with "
                "`sanawm-gym record`"
            )
        self._decode = lru_cache(maxsize=num_cached)(self._read_frames)
        self._table = lru_cache(maxsize=64)(self._read_columns)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    @property
    def num_frames(self) -> int:
        """Frames of all complete episodes."""
        return sum(info.num_frames for info in self.episodes)

    def frames(
        self, episode: int, start: int = 0, stop: int | None = None
    ) -> UInt8[np.ndarray, "f h w 3"]:
        """Pictures [start, stop) of an episode, read-only.

        Raises:
            ValueError: If the episode or the range does not exist or the video is damaged (it is
                named).
        """
        start, stop = self._range(episode, start, stop)
        return self._decode(episode)[start:stop]

    def columns(
        self,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Columns of rows [start, stop); c2w comes as (f, 4, 4), words as one object array.

        Args:
            episode: Number of the episode.
            start: First frame.
            stop: Frame after the last; the end by default.
            names: Columns to read; all by default.
        """
        start, stop = self._range(episode, start, stop)
        table = self._table(episode)
        unknown = [name for name in names or () if name not in table]
        if unknown:
            raise ValueError(
                f"dataset: got columns {', '.join(unknown)}, expected some of {', '.join(table)}"
            )
        return {name: table[name][start:stop] for name in names or table}

    def require(self, *names: str) -> None:
        """Refuse a dataset in which nobody knows some columns.

        Raises:
            ValueError: If they are NaN, as the dataset card of an ingest says.
        """
        columns = self.columns(self.episodes[0].index, 0, 1, names)
        unknown = [name for name, values in columns.items() if not np.isfinite(values).all()]
        if unknown:
            raise ValueError(
                f"dataset: got no {', '.join(unknown)} in {self.path} (NaN: filmed drives do not "
                "tell it), expected a recording of `sanawm-gym record`"
            )

    def _range(self, episode: int, start: int, stop: int | None) -> tuple[int, int]:
        if episode not in self._by_index:
            raise ValueError(
                f"dataset: got episode {episode}, expected one of the {len(self)} in `episodes`"
            )
        num_frames = self._by_index[episode].num_frames
        stop = num_frames if stop is None else stop
        if not 0 <= start < stop <= num_frames:
            raise ValueError(
                f"dataset: got frames {start} to {stop} of episode {episode}, "
                f"expected 0 <= start < stop <= {num_frames}"
            )
        return start, stop

    def _index(self, path: Path) -> list[EpisodeInfo]:
        """Episodes of a table, every one with rows 0 ... n - 1 in order and in no other table."""
        shard = int(path.stem.split("-")[1])
        rows = read_rows(path, ["episode", "frame", "caption", "policy", "world_seed"])
        numbers = rows["episode"]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        ends = np.append(starts[1:], len(numbers))
        found: list[EpisodeInfo] = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            number = int(numbers[start])
            if not np.array_equal(rows["frame"][start:end], np.arange(end - start)):
                raise ValueError(
                    f"dataset: got frames of episode {number} out of order in {path}, expected 0 "
                    f"to {end - start - 1}; record it again"
                )
            if number in self._by_index or number in [info.index for info in found]:
                raise ValueError(
                    f"dataset: got episode {number} once more in {path}; expected every number "
                    "once, so keep the shards of different recordings apart"
                )
            found.append(
                EpisodeInfo(
                    index=number,
                    num_frames=end - start,
                    caption=str(rows["caption"][start]),
                    policy=str(rows["policy"][start]),
                    world_seed=int(rows["world_seed"][start]),
                    video=episode_path(self.path, shard, number),
                    shard=shard,
                    first_row=start,
                )
            )
        return found

    def _read_frames(self, episode: int) -> UInt8[np.ndarray, "f h w 3"]:
        info = self._by_index[episode]
        frames = read_video(info.video)
        expected = (info.num_frames, self.info.height, self.info.width, 3)
        if frames.shape != expected:
            raise ValueError(
                f"dataset: got pictures {frames.shape} in {info.video}, expected {expected}; "
                "record it again"
            )
        frames.flags.writeable = False
        return frames

    def _read_columns(self, episode: int) -> dict[str, np.ndarray]:
        info = self._by_index[episode]
        path, first = shard_path(self.path, info.shard), info.first_row
        columns = read_rows(path, start=first, stop=first + info.num_frames)
        return columns | {"c2w": columns["c2w"].reshape(-1, 4, 4)}
