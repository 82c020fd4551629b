"""Recorded drives drawn again by the bundled world, kept with the good driver's answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.agents.examples import load_examples
from sanawm_gym.agents.imagination import ImaginationConfig, imagine
from sanawm_gym.agents.practice import drive_path
from sanawm_gym.envs.reference.record import RecordConfig, record
from sanawm_gym.episodes import EpisodeDataset


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of two seconds; the last is held out."""
    out = tmp_path_factory.mktemp("recording")
    return record(RecordConfig(out=out, episodes=2, seconds=2.0, seed=8))


@pytest.fixture(scope="module")
def imagined(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> ImaginationConfig:
    """Three stretches, drawn two at a time."""
    config = ImaginationConfig(
        data=recording,
        out=tmp_path_factory.mktemp("imagined"),
        stretches=3,
        seconds=0.75,
        lead=0.5,
        held_out=0.5,
        batch_size=2,
    )
    assert imagine(config) == 9
    return config


def test_what_was_drawn_is_near_what_was_recorded_and_keeps_its_answers(
    imagined: ImaginationConfig, recording: Path
) -> None:
    dataset = EpisodeDataset(recording)
    answers = np.stack(dataset.columns(0)["expert_action"]).astype(np.float32)
    frames = dataset.frames(0).astype(float)
    for number in range(3):
        with np.load(drive_path(imagined.out, number)) as kept:
            assert kept["camera"].shape == (3, 72, 128, 3)
            # The moment's place in the recording is found by its first answer.
            row = int(np.abs(answers - kept["expert_action"][0]).sum(axis=1).argmin())
            np.testing.assert_array_equal(answers[row : row + 12 : 4], kept["expert_action"])
            error = np.abs(kept["camera"][0] - frames[row]).mean()
            assert 0 < error < np.abs(frames[row] - frames[row].mean()).mean()


def test_an_interrupted_run_ends_with_the_same_files(
    imagined: ImaginationConfig, tmp_path: Path
) -> None:
    config = replace(imagined, out=tmp_path)
    imagine(config)
    drive_path(tmp_path, 1).unlink()
    imagine(config)
    for number in range(3):
        with (
            np.load(drive_path(tmp_path, number)) as one,
            np.load(drive_path(imagined.out, number)) as other,
        ):
            np.testing.assert_array_equal(one["camera"], other["camera"])


def test_cloning_reads_it_beside_a_recording(imagined: ImaginationConfig, recording: Path) -> None:
    alone, _ = load_examples([recording], frame_stride=4, held_out=0.5)
    both, _ = load_examples([recording, imagined.out], frame_stride=4, held_out=0.5)
    assert len(both) == len(alone) + 9


def test_other_settings_and_short_recordings_are_refused(
    imagined: ImaginationConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="give another folder"):
        imagine(replace(imagined, seconds=0.5))
    with pytest.raises(ValueError, match="record longer drives"):
        imagine(replace(imagined, out=tmp_path, seconds=9.0))
    with pytest.raises(ValueError, match="imagination: got seconds=0"):
        replace(imagined, seconds=0.0)
