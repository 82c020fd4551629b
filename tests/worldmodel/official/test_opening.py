"""What a release is opened with: whatever cannot be is told first, and named."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld
from sanawm_gym.worldmodel.official.layout import get_layout

from .components import SIZE, autoencoder, gemma2, tokenizer

SCREEN = OfficialConfig(height=SIZE[0], width=SIZE[1], dtype="float32")
Release = Callable[[str], Path]


@pytest.fixture
def torn(release: Release) -> Path:
    """A release with all its parts, whose network lacks a tensor: reading it fails."""
    folder = release("original")
    (weights,) = (folder / "dit").iterdir()
    tensors = load_file(weights)
    del tensors["x_embedder.proj.bias"]
    save_file(tensors, weights)
    autoencoder().save_pretrained(folder / "vae")
    gemma2().save_pretrained(folder / "text_encoder")
    tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "1 missing: x_embedder.proj.bias"),
        ({"autoencoder": "/nowhere"}, "autoencoder: got /nowhere, which holds none"),
        ({"text": str(Path(__file__).parent)}, "text: got .*, which holds no text encoder"),
        ({"text": "./nowhere"}, r"no weights '\./nowhere' on disk or on the hub"),
        ({"refine": "blocks"}, "has no refiner: expected one of"),
        ({"refine": "blocks", "refiner": "/nowhere"}, "refiner: got /nowhere, which holds none"),
        ({"device": "gpu"}, "device: got 'gpu', expected 'cpu' or 'cuda'"),
    ],
)
def test_a_part_that_is_not_there_is_missed_before_the_network_is_read(
    changes: dict[str, Any], named: str, torn: Path
) -> None:
    with pytest.raises(ValueError, match=named):
        OfficialWorld.from_pretrained(torn, dataclasses.replace(SCREEN, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"offload": "block"},
            r"offload: got 'block', expected one of \['no', 'parts', 'blocks'\]",
        ),
        ({"refine": "yes"}, "refine: got 'yes'"),
        ({"formulas": "paper"}, "formulas: got 'paper'"),
        ({"height": 0}, "expected positive numbers"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(changes: dict[str, Any], named: str) -> None:
    config = copy.copy(SCREEN)
    for name, value in changes.items():
        # Past the type checks of these tests, which a user has not switched on.
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=named):
        config.__post_init__()


def test_a_torn_json_is_named(release: Release) -> None:
    folder = release("diffusers")
    (index,) = (folder / "transformer").glob("*.index.json")
    for path, content, named in (
        (index, "[1]", "index.json holds a list"),
        (index, "{}", r"index\.json has no weight_map"),
        (index, "{", r"index\.json is not valid json"),
        (folder / "transformer" / "config.json", "{", r"config\.json is not valid json"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=named):
            get_layout(folder, ("network",))
