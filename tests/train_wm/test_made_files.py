"""Stages that make files say how, and do not mix what was made in several ways."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sanawm_gym.train_wm.run_record import begin_files


@dataclass(frozen=True, kw_only=True)
class FilesConfig:
    """As the stages `rollouts`, `trajectories` and `drafts` have one."""

    latents: Path
    network: Path
    out: Path
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


@pytest.fixture
def config(tmp_path: Path) -> FilesConfig:
    for name in ("latents", "network"):
        (tmp_path / name).mkdir()
    save_file({"weight": torch.zeros(4)}, tmp_path / "network" / "network.safetensors")
    made = FilesConfig(
        latents=tmp_path / "latents", network=tmp_path / "network", out=tmp_path / "out"
    )
    begin_files(made)
    (made.out / "clip-0.safetensors").write_bytes(b"made")
    return made


def test_a_folder_says_how_its_files_were_made(config: FilesConfig) -> None:
    told = json.loads((config.out / "run.json").read_text())
    assert told["config"]["seed"] == 0
    assert told["data"].keys() == {"latents", "network"}
    assert told.keys() >= {"source", "hardware", "command"}


def test_a_second_run_may_be_elsewhere_and_no_other(config: FilesConfig) -> None:
    begin_files(replace(config, threads=2))
    with pytest.raises(ValueError, match=r"made otherwise: seed is 1, expected 0.*another out"):
        begin_files(replace(config, seed=1))
    assert json.loads((config.out / "run.json").read_text())["config"]["threads"] == 2


def test_other_weights_of_the_same_size_are_other_weights(config: FilesConfig) -> None:
    save_file({"weight": torch.ones(4)}, config.network / "network.safetensors")
    with pytest.raises(ValueError, match="the files of network have changed"):
        begin_files(config)


def test_a_folder_in_which_nothing_was_made_yet_may_begin_anew(config: FilesConfig) -> None:
    (config.out / "clip-0.safetensors").unlink()
    begin_files(replace(config, seed=1))
    assert json.loads((config.out / "run.json").read_text())["config"]["seed"] == 1
