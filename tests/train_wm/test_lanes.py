"""Lanes read every clip in order, keep the path of the cameras whole, and change what is asked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanawm_gym.train_wm.lanes import Lanes
from sanawm_gym.train_wm.latent_clips import LatentClip, load_latent_clips
from tests.train_wm.conftest import TINY_NETWORK

PIECE = 3


@pytest.fixture(scope="module")
def clips(latents: Path) -> list[LatentClip]:
    """All clips of the tiny recording."""
    return [clip for part in load_latent_clips(latents) for clip in part]


def lanes(clips: list[LatentClip], **changes: object) -> Lanes:
    return Lanes(
        clips,
        lanes=[0],
        piece=PIECE,
        model=TINY_NETWORK,
        picture=(72, 128),
        seed=3,
        **changes,  # type: ignore[arg-type]
    )


def pieces_of(reader: Lanes, count: int) -> list:
    return [reader.read([0]) for _ in range(count)]


def test_a_lap_follows_the_last_without_a_jump_of_the_origin(clips: list[LatentClip]) -> None:
    clip = clips[:1]
    length = clip[0].latents.shape[0]
    read = pieces_of(lanes(clip, laps=3), 3 * (length // PIECE))
    begins = [piece.begins[0] for piece in read]
    assert begins[0]
    turn = length // PIECE
    assert not begins[turn]
    assert torch.equal(read[turn].last_pose[0], clip[0].poses[0])
    # A state that the first lap left lies in the origin of its last latent frame, one stride before
    # the lap's last pose; the transport takes it to that pose, which the second lap calls its own.
    stride = TINY_NETWORK.temporal_stride
    stop = stride * (turn * PIECE - 1)
    moved = torch.linalg.inv(clip[0].poses[stop]) @ clip[0].poses[stop - stride]
    torch.testing.assert_close(read[turn].transport[0, 0], moved)


def test_a_clip_is_left_after_its_laps(clips: list[LatentClip]) -> None:
    clip = clips[:1]
    turns = clip[0].latents.shape[0] // PIECE
    later = (clip[0].latents.shape[0] - 1) // PIECE
    begins = [piece.begins[0] for piece in pieces_of(lanes(clip, laps=2), turns + later + 1)]
    assert [i for i, first in enumerate(begins) if first] == [0, turns + later]


def test_later_laps_exchange_caption_and_frames_and_keep_cameras(clips: list[LatentClip]) -> None:
    named = [
        LatentClip(**{**vars(clip), "caption": f"clip {index}"}) for index, clip in enumerate(clips)
    ]
    count = 60
    plain = pieces_of(lanes(named, laps=3), count)
    other = pieces_of(lanes(named, laps=3, exchange=1.0), count)
    changed = 0
    for a, b in zip(plain, other, strict=True):
        assert torch.equal(a.poses, b.poses)
        assert torch.equal(a.transport, b.transport)
        assert a.exchanged == [False]
        assert b.exchanged == [True] or a.captions == b.captions
        if a.captions != b.captions:
            changed += 1
            assert not torch.equal(a.latents, b.latents)
    assert changed > count // 4
    assert plain[0].captions == other[0].captions


def test_drives_that_leave_the_road_are_read_once_and_lend_no_pictures(
    clips: list[LatentClip],
) -> None:
    named = [
        replace(clip, caption=f"clip {index}", strays=index % 2 == 0)
        for index, clip in enumerate(clips)
    ]
    straying = {clip.caption for clip in named if clip.strays}
    read = pieces_of(lanes(named, laps=3, exchange=1.0), 90)
    seen, visits = dict.fromkeys(straying, 0), dict.fromkeys(straying, 0)
    for piece in read:
        assert not (piece.exchanged[0] and piece.captions[0] in straying)
        if piece.captions[0] in straying:
            seen[piece.captions[0]] += 1
            visits[piece.captions[0]] += piece.begins[0]
    assert sum(visits.values()) > 2
    lengths = {clip.caption: clip.latents.shape[0] // PIECE for clip in named}
    finished = sum(seen.values()) - sum(visits[name] * lengths[name] for name in straying)
    assert -max(lengths.values()) < finished <= 0  # but for the last, each visit is one lap


def test_progress_takes_a_reader_back_to_any_lap(clips: list[LatentClip]) -> None:
    reader = lanes(clips, laps=3, exchange=0.5)
    pieces_of(reader, 7)
    kept = reader.progress()
    expected = pieces_of(reader, 12)
    again = lanes(clips, laps=3, exchange=0.5)
    again.load_progress(kept)
    for a, b in zip(expected, pieces_of(again, 12), strict=True):
        assert torch.equal(a.latents, b.latents)
        assert a.captions == b.captions


def test_clips_too_short_for_a_second_lap_are_refused(clips: list[LatentClip]) -> None:
    short = [LatentClip(**{**vars(clips[0]), "latents": clips[0].latents[:PIECE]})]
    lanes(short)
    with pytest.raises(ValueError, match="at least 4"):
        lanes(short, laps=2)
