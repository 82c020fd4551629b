"""The page that teaches training: its commands are understood, and its Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from sanawm_gym import cli
from sanawm_gym.agents.algorithms import ALGORITHMS

PAGE = (Path(__file__).parents[2] / "docs" / "train_a_policy.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("sanawm-gym ")
]


def test_the_page_shows_every_algorithm() -> None:
    assert all(f"| `{name}` |" in PAGE for name in ALGORITHMS)
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_understood(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to where it would begin: what a command is told is parsed and checked as ever."""
    begun = []
    monkeypatch.setattr(
        cli, "_call", lambda config, function, *, prog, words: begun.append(
            cli._parse(config, prog=prog, words=words)
        )
    )  # fmt: skip
    assert cli.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert len(begun) == 1


def test_the_python_of_the_page_judges_drivers(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    small = code.replace("num_envs=4, horizon=20.0", "num_envs=1, horizon=0.5, num_vehicles=0")
    small = small.replace("[11, 12, 13, 14]", "[11]")
    small = re.sub(r'"pure-pursuit".*?"reckless"', '"idm"', small.replace('"cloned", ', ""))
    assert small.count("0.5") == 1 and "[11]" in small
    exec(compile(small, "train_a_policy.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("'metres'") == 3 and "lane-keeper" in printed
