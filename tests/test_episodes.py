"""Recorded drives come back as they were written, and damage is named."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sanawm_gym.episodes import (
    EGO_COLUMNS,
    FLAG_COLUMNS,
    FORMAT_VERSION,
    LIST_COLUMNS,
    TRUTH_COLUMNS,
    DatasetInfo,
    EpisodeDataset,
    episode_path,
    shard_path,
    write_info,
    write_shard,
)
from sanawm_gym.video import write_video

LENGTHS = (9, 5, 13)


def columns(episode: int, num: int) -> dict[str, np.ndarray | list[str]]:
    """Random numbers under every name of the format."""
    rng = np.random.default_rng(episode)
    filled: dict[str, np.ndarray | list[str]] = {
        name: rng.standard_normal((num, size)) for name, size in LIST_COLUMNS.items()
    }
    filled |= {name: rng.standard_normal(num) for name in (*EGO_COLUMNS, *TRUTH_COLUMNS)}
    filled |= {name: rng.random(num) < 0.5 for name in FLAG_COLUMNS}
    filled["episode"], filled["frame"] = np.full(num, episode), np.arange(num)
    filled["caption"], filled["policy"] = [f"road {episode}"] * num, ["good"] * num
    filled["world_seed"] = np.full(num, 100 + episode)
    return filled


def picture(episode: int, frame: int) -> np.ndarray:
    """A flat colour that tells episode and frame."""
    return np.full((16, 24, 3), 20 + 60 * episode + 4 * frame, np.uint8)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three episodes in two shards."""
    for shard, episodes in enumerate(((0, 1), (2,))):
        for episode in episodes:
            frames = [picture(episode, frame) for frame in range(LENGTHS[episode])]
            write_video(episode_path(tmp_path, shard, episode), frames, 16)
        write_shard(tmp_path, shard, [columns(e, LENGTHS[e]) for e in episodes])
    info = DatasetInfo(
        format_version=FORMAT_VERSION, fps=16.0, width=24, height=16, seed=0, num_episodes=3,
        num_frames=sum(LENGTHS), episodes_per_shard=2, seconds=1.0,
    )  # fmt: skip
    write_info(tmp_path, info)
    return tmp_path


def test_episodes_are_listed_with_their_words(dataset: Path) -> None:
    opened = EpisodeDataset(dataset)
    assert [info.num_frames for info in opened.episodes] == list(LENGTHS)
    assert [info.caption for info in opened.episodes] == ["road 0", "road 1", "road 2"]
    assert opened.episodes[2].world_seed == 102 and opened.num_frames == sum(LENGTHS)


def test_columns_come_back_exactly(dataset: Path) -> None:
    opened = EpisodeDataset(dataset)
    for episode, num in enumerate(LENGTHS):
        written, read = columns(episode, num), opened.columns(episode)
        assert set(written) == set(read)
        for name, values in written.items():
            expected = np.asarray(values)
            expected = expected.reshape(-1, 4, 4) if name == "c2w" else expected
            np.testing.assert_array_equal(read[name], expected)


def test_a_range_of_rows_and_pictures_is_that_range(dataset: Path) -> None:
    opened = EpisodeDataset(dataset)
    part = opened.columns(2, 4, 9, ["frame", "caption"])
    assert part["frame"].tolist() == [4, 5, 6, 7, 8] and list(part) == ["frame", "caption"]
    pictures = opened.frames(2, 4, 9)
    assert pictures.shape == (5, 16, 24, 3) and pictures.dtype == np.uint8
    expected = np.stack([picture(2, frame) for frame in range(4, 9)])
    np.testing.assert_allclose(pictures.astype(int), expected, atol=3)


def test_pictures_cannot_be_overwritten_in_the_cache(dataset: Path) -> None:
    frames = EpisodeDataset(dataset).frames(0)
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 0


def test_a_shard_without_its_table_is_left_out(dataset: Path) -> None:
    shard_path(dataset, 1).unlink()
    assert len(EpisodeDataset(dataset)) == 2


def test_a_damaged_video_is_named(dataset: Path) -> None:
    path = episode_path(dataset, 0, 1)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"episode-000001\.mp4"):
        EpisodeDataset(dataset).frames(1)


def test_a_video_of_another_length_is_named(dataset: Path) -> None:
    write_video(episode_path(dataset, 0, 1), [picture(1, 0)] * 4, 16)
    with pytest.raises(ValueError, match=r"episode-000001\.mp4.*expected \(5, 16, 24, 3\)"):
        EpisodeDataset(dataset).frames(1)


def test_a_damaged_table_is_named(dataset: Path) -> None:
    shard_path(dataset, 1).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"shard-00001\.parquet"):
        EpisodeDataset(dataset)


def test_damaged_tables_are_passed_over_and_noted_when_asked(dataset: Path) -> None:
    path = shard_path(dataset, 0)
    path.write_bytes(path.read_bytes()[:-100])
    opened = EpisodeDataset(dataset, skip_damaged=True)
    assert [info.index for info in opened.episodes] == [2]
    assert list(opened.damaged) == [path]
    np.testing.assert_array_equal(opened.columns(2)["frame"], np.arange(LENGTHS[2]))
    shard_path(dataset, 1).unlink()
    with pytest.raises(ValueError, match=r"without a complete shard .*shard-00000\.parquet"):
        EpisodeDataset(dataset, skip_damaged=True)


def test_damage_in_the_rows_of_one_episode_leaves_the_others_readable(dataset: Path) -> None:
    path = shard_path(dataset, 0)
    column = pq.read_metadata(path).row_group(1).column(2)
    assert column.path_in_schema.startswith("c2w")
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    opened = EpisodeDataset(dataset)
    np.testing.assert_array_equal(
        opened.columns(0)["c2w"].reshape(-1, 16), columns(0, LENGTHS[0])["c2w"]
    )
    with pytest.raises(ValueError, match=r"shard-00000\.parquet"):
        opened.columns(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frame": np.array([0, 1, 3, 4, 5])}, "episode 7 out of order"),
        ({"episode": np.full(5, 0)}, "episode 0 once more"),
    ],
)
def test_rows_that_do_not_make_whole_episodes_are_refused(
    dataset: Path, changes: dict[str, np.ndarray], said: str
) -> None:
    write_shard(dataset, 1, [columns(7, 5) | changes])
    with pytest.raises(ValueError, match=said):
        EpisodeDataset(dataset)


def test_a_table_without_a_column_is_named(dataset: Path) -> None:
    table = pq.read_table(shard_path(dataset, 1))
    pq.write_table(table.drop_columns(["policy"]), shard_path(dataset, 1))
    with pytest.raises(ValueError, match=r"shard-00001\.parquet .*no column policy"):
        EpisodeDataset(dataset)


@pytest.mark.parametrize(
    ("episode", "start", "stop"), [(7, 0, 1), (0, 0, 10), (0, 5, 5), (0, -1, 3)]
)
def test_what_is_not_there_is_refused(dataset: Path, episode: int, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        EpisodeDataset(dataset).frames(episode, start, stop)


def test_an_unknown_column_is_refused_with_the_known_ones(dataset: Path) -> None:
    with pytest.raises(ValueError, match=r"got columns speeed, .*speed"):
        EpisodeDataset(dataset).columns(0, names=["speeed"])


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json"):
        EpisodeDataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format_version": 1}')
    with pytest.raises(ValueError, match=r"dataset\.json"):
        EpisodeDataset(tmp_path)
