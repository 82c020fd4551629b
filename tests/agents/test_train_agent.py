"""The command `train-agent` and the examples of this wing, in a tiny world."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from stable_baselines3 import PPO

from sanawm_gym.agents.algorithms import ALGORITHMS
from sanawm_gym.agents.tasks import TaskConfig
from sanawm_gym.cli import main
from sanawm_gym.video import read_video

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., str]


def test_a_driver_is_trained_and_then_driven_by_two_commands(world: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (
        f"train-agent ppo --out {out} --steps 16 --n-steps 4 --batch-size 8 --n-epochs 1 "
        f"--task.num-envs 4 --task.horizon 0.5 --task.first-horizon 0.25 --task.world {world} "
        "--task.reward kinematic --task.settings start=road-1 "
        "--evaluation.episodes 2 --features.features 8"
    )
    assert main(words.split()) == 0
    found = json.loads((out / "evaluations.json").read_text())["evaluations"]
    assert [one["steps"] for one in found] == [16]
    assert [one["end"] for one in found[0]["episodes"]] == ["horizon"] * 2
    # Two decisions of four frames each, and the picture they began from.
    assert len(read_video(out / "videos" / "000000016" / "episode-0.mp4")) == 1 + 2 * 4
    drive = f"drive --world {world} --policy {out / 'policy.safetensors'} --seconds 0.5 --out"
    assert main([*drive.split(), str(tmp_path / "drive.mp4")]) == 0
    assert (tmp_path / "drive.mp4").is_file()


def test_every_algorithm_explains_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-agent", "--help"]) == 0
    listed = capsys.readouterr().out
    for name in ALGORITHMS:
        assert f"  {name}" in listed
        with pytest.raises(SystemExit):
            main(["train-agent", name, "--help"])
        assert "--out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("train-agent dqn", "expected one of ppo"),
        ("train-agent", "no algorithm given"),
        ("train-agent ppo --out x --steps 0", "steps"),
        ("train-agent ppo --out x --task.horizon 4 --task.first-horizon 8", "first_horizon"),
        ("train-agent ppo --out x --task.settings start", "name=value"),
        ("train-agent sac --out x --memory-gb 0", "memory_gb"),
    ],
)
def test_bad_input_is_one_line(words: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and named in said


def test_the_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    assert main(["train-agent", "recurrent-ppo", "--out", str(tmp_path / "run")]) == 2
    assert 'pip install "sanawm-gym[contrib]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_episodes_grow_over_the_first_half_of_a_training() -> None:
    task = TaskConfig(horizon=16.0, first_horizon=4.0)
    assert [task.horizon_at(share) for share in (0, 0.25, 0.5, 1)] == [4.0, 10.0, 16.0, 16.0]
    assert TaskConfig().horizon_at(0.3) is None


def test_settings_are_numbers_where_they_read_as_such_and_names_otherwise() -> None:
    task = TaskConfig(settings=("start=000", "num_vehicles=0", "frames_in_info=true"), horizon=None)
    assert task.arguments() == {"start": "000", "num_vehicles": 0, "frames_in_info": True}


@pytest.fixture
def run(world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example in the tiny world and returns what it printed."""

    def script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--world", world, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_04_train_ppo_saves_a_model_that_sb3_loads(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "ppo.zip"
    words = ("--num-envs", "2", "--horizon", "0.5", "--steps", "16", "--rollout", "8")
    assert "after 16 steps" in run("04_train_ppo.py", *words, "--out", str(out))
    assert PPO.load(out).num_timesteps == 16


def test_05_plan_with_forks_beats_driving_straight_on(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "plan.png"
    words = ("--decisions", "3", "--candidates", "4", "--ahead", "2", "--out", str(out))
    line = run("05_plan_with_forks.py", *words).splitlines()[0]
    planned, straight = (float(word.rstrip(",")) for word in line.split()[3::2])
    assert planned > straight
    with Image.open(out) as picture:
        assert picture.size[0] >= 3 * 64 and picture.size[1] >= 2 * 40


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("0[45]_*.py")), ids=lambda path: path.stem)
def test_examples_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80
