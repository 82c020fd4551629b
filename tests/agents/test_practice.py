"""Practice: what a driver gets into is kept with what the good driver would have done."""

from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.agents.examples import load_examples
from sanawm_gym.agents.practice import PracticeConfig, drive_path, practise
from sanawm_gym.envs.reference.record import RecordConfig, record


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> PracticeConfig:
    """Two short drives straight on."""
    config = PracticeConfig(
        out=tmp_path_factory.mktemp("practice"), policy="constant", drives=2, seconds=2.0, seed=7
    )
    assert practise(config) == sum(len(np.load(drive_path(config.out, n))["speed"]) for n in (0, 1))
    return config


def test_every_decision_is_kept_with_the_good_drivers_action(practice: PracticeConfig) -> None:
    with np.load(drive_path(practice.out, 0)) as drive:
        count = len(drive["speed"])
        assert 1 <= count <= 8
        assert drive["camera"].shape == (count, 72, 128, 3)
        assert drive["expert_action"].shape == (count, 2)
        assert np.abs(drive["expert_action"]).max() <= 1
        assert drive["expert_action"].std(axis=0).max() > 0  # not the constant driver's own


def test_an_interrupted_practice_ends_with_the_same_drives(
    practice: PracticeConfig, tmp_path: Path
) -> None:
    config = PracticeConfig(out=tmp_path, policy="constant", drives=2, seconds=2.0, seed=7)
    practise(config)
    drive_path(tmp_path, 0).unlink()
    practise(config)
    for number in (0, 1):
        paths = drive_path(tmp_path, number), drive_path(practice.out, number)
        with np.load(paths[0]) as one, np.load(paths[1]) as other:
            for name in one.files:
                np.testing.assert_array_equal(one[name], other[name])


def test_two_practices_do_not_mix_in_one_folder(practice: PracticeConfig) -> None:
    config = PracticeConfig(out=practice.out, policy="random", drives=2, seconds=2.0, seed=7)
    with pytest.raises(ValueError, match=r"got .*random.* holds a practice with .*constant"):
        practise(config)


@pytest.mark.parametrize("bad", [{"drives": 0}, {"seconds": 0.5}, {"threads": 0}, {"seed": -1}])
def test_impossible_practices_are_refused(tmp_path: Path, bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="practice: got"):
        PracticeConfig(out=tmp_path, **bad)  # type: ignore[arg-type]


def test_examples_are_recordings_and_practice_together(
    practice: PracticeConfig, tmp_path: Path
) -> None:
    data = record(RecordConfig(out=tmp_path, episodes=2, seconds=1.0, seed=6))
    alone, held_out = load_examples([data], frame_stride=4, held_out=0.1)
    both, same = load_examples([data, practice.out], frame_stride=4, held_out=0.1)
    assert len(held_out) == len(same) > 0  # practice is learnt whole
    with np.load(drive_path(practice.out, 1)) as drive:
        last = drive["camera"][-1]
        assert len(both) > len(alone)
    np.testing.assert_array_equal(both.camera[-1].numpy(), last)


def test_practice_alone_is_refused_for_cloning(practice: PracticeConfig) -> None:
    with pytest.raises(ValueError, match="at least one recording"):
        load_examples([practice.out], frame_stride=4, held_out=0.1)
