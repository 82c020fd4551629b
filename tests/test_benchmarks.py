"""The benchmarks run as scripts, in the tiny world and for a few decisions: no command may rot."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a benchmark, checks that it prints its table and returns the figures it wrote."""

    def script(name: str, *arguments: str) -> dict[str, Any]:
        out = tmp_path / "figures.json"
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        monkeypatch.setattr(sys, "argv", [name, *arguments, "--out", str(out)])
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
        printed = capsys.readouterr().out
        assert "|---|" in printed and f"wrote {out}" in printed
        written = json.loads(out.read_text())
        assert {"device", "threads", "commit", "date"} <= written["environment"].keys()
        figures: dict[str, Any] = written["figures"]
        return figures

    return script


def test_drive_speed(run: Run, world: str) -> None:
    figures = run(
        "drive_speed.py", "--world", world, "--policy", "constant", "--seconds", "0.5",
        "--repeats", "1",
    )  # fmt: skip
    assert figures["real_time_factor"] > 0


def test_constant_size(run: Run, world: str) -> None:
    figures = run(
        "constant_size.py", "--world", world, "--policy", "constant", "--early", "2", "--late", "6",
        "--window", "2",
    )  # fmt: skip
    assert figures["state, KiB"]["ratio"] == 1.0


def test_batch_throughput(run: Run, world: str) -> None:
    figures = run(
        "batch_throughput.py", "--world", world, "--num-envs", "2", "--decisions", "2",
        "--warm-up", "1",
    )  # fmt: skip
    assert len(figures["batch_ms"]) == 2


def test_steering(run: Run, world: str, tmp_path: Path) -> None:
    plot = tmp_path / "scatter.png"
    figures = run(
        "steering.py", "--world", world, "--drives", "2", "--seconds", "0.5", "--seeds", "0",
        "--reference-drives", "2", "--plot", str(plot),
    )  # fmt: skip
    assert figures["estimator"]["decisions"] == 4 and len(figures["pairs"]["0"]) == 4
    assert plot.is_file()


def test_autoencoder_and_drift_read_a_recording(run: Run, world: str, tmp_path: Path) -> None:
    from sanawm_gym.envs.reference.record import RecordConfig, record

    data = record(RecordConfig(out=tmp_path / "data", episodes=4, seconds=1.0, seed=90009))
    common = ("--world", world, "--data", str(data))
    assert len(run("autoencoder.py", *common, "--last", "0.5")["episodes"]) == 2
    sheet = tmp_path / "sheet.png"
    figures = run(
        "drift.py", *common, "--policy", "constant", "--episodes", "4", "--drives", "3", "--batch",
        "2", "--seconds", "2", "--window", "1", "--sheet", str(sheet),
    )  # fmt: skip
    assert len(figures["metres"]) == 3 and figures["distance"]["floor"] > 0
    assert sheet.is_file()


def test_drawn_speed(run: Run, world: str) -> None:
    figures = run(
        "drawn_speed.py", "--world", world, "--drives", "2", "--reference-drives", "2",
        "--seconds", "8", "--seeds", "0",
    )  # fmt: skip
    # The estimator reads the simulator's own speed; untrained pictures only have to be measured.
    assert figures["reference video"][0]["median_error"] < 0.1
    assert figures["generated world"][0]["drives"] >= 1


def test_foresight(run: Run) -> None:
    figures = run("foresight.py", "--episodes", "2", "--seconds", "4", "--starts", "2")
    assert figures.keys() == {"drive", "last frame", "last frame over the ground"}
    ways = figures["last frame over the ground"], figures["last frame"]
    # Moved along the true path, the ground is nearer to what came than left where it was.
    assert sum(ways[0]["psnr_seen_1s"]) > sum(ways[1]["psnr_seen_1s"])


def test_driver_reference(run: Run) -> None:
    figures = run(
        "driver_reference.py", "--policies", "constant", "random", "--drives", "1",
        "--seconds", "0.5",
    )  # fmt: skip
    assert figures["constant"]["drives"][0]["seconds"] == 0.5


def test_every_benchmark_stands_in_the_table() -> None:
    page = (BENCHMARKS / "README.md").read_text()
    assert {path.name for path in BENCHMARKS.glob("*.py") if path.name not in page} == set()
