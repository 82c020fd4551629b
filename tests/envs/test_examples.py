"""The examples run as scripts, in the tiny world and for a few decisions."""

import math
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sanawm_gym.video import read_video

EXAMPLES = Path(__file__).parents[2] / "examples"


Run = Callable[..., str]


@pytest.fixture
def run(world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example in the tiny world and returns what it printed."""

    def script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--world", world, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_01_drive_writes_every_raw_frame(run: Run, tmp_path: Path) -> None:
    printed = run("01_drive.py", "--seconds", "1.5", "--out", str(tmp_path))
    assert "1.5 s," in printed and "ended by horizon" in printed
    assert len(read_video(tmp_path / "rl-video-episode-0.mp4")) == 1 + 16 * 1.5


def test_02_vector_finishes_episodes_in_every_row(run: Run) -> None:
    printed = run("02_vector.py", "--num-envs", "3", "--decisions", "9", "--horizon", "1")
    assert printed.count("episode ") == 6


def test_03_fork_draws_a_line_of_pictures_for_each_branch(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "fork.png"
    printed = run("03_fork.py", "--branches", "3", "--decisions", "4", "--out", str(out))
    assert printed.count("steer ") == 3
    with Image.open(out) as picture:
        assert picture.size[0] >= 4 * 64 and picture.size[1] >= 3 * 40


def test_06_own_reward_pays_the_product_of_its_terms(run: Run) -> None:
    lines = run("06_own_reward.py", "--seconds", "0.5").splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["left", "straight", "right"]
    for line in lines:
        total, *terms = (float(x) for x in re.findall(r"\d+\.\d\d", line))
        assert total == pytest.approx(math.prod(terms), abs=0.02)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80
