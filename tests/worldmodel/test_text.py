"""The caption encoder: vocabulary, masks and independence of rows."""

import torch

from sanawm_gym.worldmodel.text import (
    CaptionEncoder,
    CaptionEncoderConfig,
    build_vocabulary,
    split_words,
)

CAPTIONS = ["A two-lane road at night, heavy rain.", "a forest road in fog"]


def make() -> CaptionEncoder:
    vocabulary = build_vocabulary(CAPTIONS)
    return CaptionEncoder(CaptionEncoderConfig(vocabulary=vocabulary, channels=16)).eval()


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert split_words(CAPTIONS[0]) == ["a", "two", "lane", "road", "at", "night", "heavy", "rain"]


def test_unknown_words_are_named_once_and_in_order() -> None:
    assert make().unknown_words("Penguins on a road, penguins and rain") == [
        "penguins",
        "on",
        "and",
    ]


@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    encoder = make()
    together, mask = encoder(["a road in fog", CAPTIONS[0]])
    alone, _ = encoder(["a road in fog"])
    torch.testing.assert_close(together[0, mask[0]], alone[0, mask[0]])


def test_an_empty_prompt_is_one_token() -> None:
    _, mask = make().tokenize([""])
    assert int(mask.sum()) == 1


def test_a_long_prompt_is_cut() -> None:
    ids, mask = make().tokenize(["road " * 100])
    assert ids.shape == (1, 32)
    assert bool(mask.all())
