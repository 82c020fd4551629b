"""Every place of a recording is drawn as often as every other, by however many processes."""

import numpy as np
import pytest
import torch

from sanawm_gym.train_wm.clip_draw import ClipDraw, draw_length
from sanawm_gym.train_wm.processes import Rows, rows_of_rank


def test_every_piece_is_as_likely_as_every_other(capsys: pytest.CaptureFixture[str]) -> None:
    draw, generator = ClipDraw([10, 3, 5, 31], 5), torch.Generator().manual_seed(0)
    assert "1 of 4 clips have fewer than 5 frames" in capsys.readouterr().out
    drawn = [draw.draw(5, generator) for _ in range(6800)]
    pieces, counts = np.unique(drawn, axis=0, return_counts=True)
    expected = [(0, i) for i in range(6)] + [(2, 0)] + [(3, i) for i in range(27)]
    assert [tuple(piece) for piece in pieces.tolist()] == expected
    # 200 draws a piece: chi-square over 33 degrees of freedom stays below its 0.1 % point.
    assert float(((counts - 200) ** 2 / 200).sum()) < 63.9


def test_a_share_of_the_pieces_begins_where_a_clip_does() -> None:
    draw, generator = ClipDraw([1000, 3, 1000], 5), torch.Generator().manual_seed(0)
    drawn = [draw.draw(5, generator, beginnings=0.25) for _ in range(2000)]
    first = [clip for clip, start in drawn if start == 0]
    assert 0.21 < len(first) / len(drawn) < 0.29
    assert set(first) == {0, 2}


def test_clips_that_are_all_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match=r"longest of 2 clips has 9 latent frames, .*at least 13"):
        ClipDraw([4, 9], 13, "latent frames")


def test_lengths_of_a_step_cover_their_range_and_follow_from_seed_and_step() -> None:
    lengths = [draw_length(5, 17, 4, seed=3, step=step) for step in range(200)]
    assert set(lengths) == {5, 9, 13, 17}
    assert min(lengths.count(length) for length in set(lengths)) > 30
    assert lengths == [draw_length(5, 17, 4, seed=3, step=step) for step in range(200)]
    assert draw_length(9, 9, 4, seed=3, step=0) == 9


def test_what_a_row_reads_does_not_depend_on_the_number_of_processes() -> None:
    draw = ClipDraw([40, 7, 90], 6)

    def read(rank: int, num_ranks: int) -> dict[int, tuple[int, int]]:
        numbers = rows_of_rank("batch_size", 8, rank, num_ranks)
        return {
            number: draw.draw(6, generator)
            for number, generator in zip(numbers, Rows(numbers, 11).generators, strict=True)
        }

    alone = read(0, 1)
    assert len(set(alone.values())) > 4
    assert alone == read(0, 2) | read(1, 2)
    assert alone == read(0, 4) | read(1, 4) | read(2, 4) | read(3, 4)
