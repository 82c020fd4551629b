"""The commands of docs/reproduce.md are commands: their stages and options exist."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import tyro

from sanawm_gym.train_wm.stages import STAGES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproduce.md"


def stage_commands() -> list[list[str]]:
    """Words behind ``sanawm-gym train-wm`` in the page's shell blocks."""
    blocks = PAGE.read_text(encoding="utf-8").split("```bash\n")[1:]
    text = "\n".join(block.split("```")[0] for block in blocks).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("sanawm-gym train-wm")]
    return [shlex.split(line, comments=True)[2:] for line in lines]


COMMANDS = stage_commands()


def test_the_page_names_every_stage() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(COMMANDS) >= 12
    for stage in STAGES:
        assert f"`{stage}`" in page, stage


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_a_command_of_the_page_can_be_given(words: list[str]) -> None:
    config, _ = STAGES[words[0]]
    tyro.cli(config, args=words[1:])
