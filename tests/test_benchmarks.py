"""The benchmarks run as scripts, in the tiny world and for a few decisions: no command may rot."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def test_ppo_throughput(run: Run, world: str) -> None:
    figures = run(
        "ppo_throughput.py", "--world", world, "--num-envs", "2", "--n-steps", "8", "--rollouts",
        "1", "--settings", "reward=kinematic",
    )  # fmt: skip
    assert figures["2"]["decisions_a_turn"] == 16
    assert figures["2"]["ppo"]["cpu"] < 1.2 * figures["2"]["env_alone"]["cpu"]


def test_steering(run: Run, world: str, tmp_path: Path) -> None:
    plot = tmp_path / "scatter.png"
    figures = run(
        "steering.py", "--world", world, "--drives", "2", "--seconds", "0.5", "--seeds", "0",
        "--reference-drives", "2", "--plot", str(plot),
    )  # fmt: skip
    assert figures["estimator"]["decisions"] == 4 and len(figures["pairs"]["0"]) == 4
    assert len(figures["generated"]["0"]["totals"]) == 2
    for name in ("scatter.png", "scatter-drives.png", "scatter-growth.png"):
        assert (tmp_path / name).is_file(), name


def test_autoencoder_and_drift_read_a_recording(run: Run, world: str, tmp_path: Path) -> None:
    from sanawm_gym.envs.reference.record import RecordConfig, record

    data = record(RecordConfig(out=tmp_path / "data", episodes=4, seconds=1.0, seed=90009))
    common = ("--world", world, "--data", str(data))
    assert len(run("autoencoder.py", *common, "--last", "0.5")["episodes"]) == 2
    pictures = tmp_path / "sheet.png", tmp_path / "plot.png"
    drift = (
        "drift.py", *common, "--policy", "constant", "--episodes", "4", "--drives", "3", "--batch",
        "2", "--seconds", "2", "--window", "1", "--windows", "2", "--seeds", "0",
        "--keep", str(tmp_path / "kept"), "--sheet", str(pictures[0]), "--plot", str(pictures[1]),
    )  # fmt: skip
    figures = run(*drift)
    seed = figures["seeds"]["0"]
    assert len(seed["metres"]) == 3 and len(seed["distance"]) == 2 and figures["floor"] > 0
    assert all(picture.is_file() for picture in pictures)
    # What is kept is what was measured; drives of another length do not pass for it.
    assert run(*drift) == figures
    with pytest.raises(ValueError, match="other options"):
        run(*drift, "--seconds", "3")


def test_drawn_speed(run: Run, world: str) -> None:
    figures = run(
        "drawn_speed.py", "--world", world, "--drives", "2", "--reference-drives", "2",
        "--seconds", "8", "--seeds", "0",
    )  # fmt: skip
    # The estimator reads the simulator's own speed, from soft video too; untrained pictures only
    # have to be measured.
    for video in ("reference video", "the same, softened by 1 px"):
        assert figures[video][0]["median_error"] < 0.1
    assert figures["generated world"][0]["drives"] >= 1


@pytest.mark.filterwarnings("ignore:this world never learnt")
def test_foresight(run: Run, world: str) -> None:
    figures = run(
        "foresight.py", "--episodes", "2", "--seconds", "4", "--starts", "2", "--seeds", "0",
        "--compare", world,
    )  # fmt: skip
    ways, gains = figures["ways"], figures["gains"]
    moved, still = ways["last frame over the ground"], ways["last frame"]
    assert ways.keys() == {"drive", world, "last frame over the ground", "last frame"}
    # Moved along the true path, the ground is nearer to what came than left where it was.
    for key, sign in (("psnr_seen_1s", 1), ("distance_1s", -1)):
        assert sign * (np.sum(moved[key]) - np.sum(still[key])) > 0, key
    # And a trained world is better than random weights, whichever way a figure is read.
    assert all(gains[world][f"{key}_1s"][0] > 0 for key in ("psnr", "distance", "dissimilarity"))


def test_flat_cost(run: Run, world: str, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    figures = run(
        "flat_cost.py", "--world", world, "--lengths", "2", "4", "--repeats", "3", "--plot",
        str(plot),
    )  # fmt: skip
    assert len(set(figures["recurrent"]["bytes"])) == 1
    assert figures["softmax, whole past"]["bytes"][1] > figures["softmax, whole past"]["bytes"][0]
    assert plot.is_file()


def test_prompt(run: Run, world: str, tmp_path: Path) -> None:
    # Of this seed, three of six drives are by night and three by day.
    figures = run(
        "prompt.py", "--world", world, "--policy", "constant", "--attributes", "night",
        "--drives", "1", "--seeds", "0", "--seconds", "3", "--window", "2", "--episodes", "6",
        "--record-seconds", "1", "--record-seed", "40018", "--sheet", str(tmp_path / "sheet.png"),
    )  # fmt: skip
    assert figures["judge"]["night"]["drives"] == [3, 3]
    assert [one["prompt"] for one in figures["drives"]] == [
        "a dry road at night", "a dry road at night", "a dry road at noon",
    ]  # fmt: skip
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.filterwarnings("ignore:this world never learnt")
def test_ablations_train_and_judge_every_variant(run: Run, world: str, tmp_path: Path) -> None:
    from sanawm_gym.envs.reference.record import RecordConfig, record
    from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
    from sanawm_gym.train_wm.recording import ReadingConfig

    data = record(RecordConfig(out=tmp_path / "data", episodes=2, seconds=3.0, seed=90009))
    run_latents_stage(
        LatentsStageConfig(
            data=(data,), autoencoder=Path(world), out=tmp_path / "latents", later_starts=0,
            reading=ReadingConfig(picture=(40, 64)),
        )
    )  # fmt: skip
    figures = run(
        "ablations.py", "--world", world, "--latents", str(tmp_path / "latents"), "--autoencoder",
        world, "--runs", str(tmp_path / "runs"), "--init", world, "--variants", "no-ucpe",
        "all-gdn", "--no-warp", "--with-self-forcing", world, "--steps", "2", "--data", str(data),
        "--episodes", "1", "--starts", "1", "--drives", "2", "--seconds", "0.5", "--seeds", "0",
    )  # fmt: skip
    worlds = ("no-ucpe", "all-gdn", "with self forcing")
    assert len({str(figures[name]["foresight"]["psnr_1s"]) for name in worlds}) == 3
    assert all(figures[name]["yaw"][0]["decisions"] == 2 for name in worlds)


def test_student_teacher(run: Run, world: str, tmp_path: Path) -> None:
    from sanawm_gym.worldmodel import WorldModel

    WorldModel.from_pretrained(world).save_pretrained(tmp_path / "network")
    sheet = tmp_path / "sheet.png"
    figures = run(
        "student_teacher.py", "--world", world, "--episodes", "2", "--starts", "1", "--seconds",
        "2", "--seeds", "0", "1", "--teacher.network", str(tmp_path / "network"), "--teacher.form",
        "bidirectional", "--teacher.steps", "2", "--teacher.guidance", "2", "--sheet", str(sheet),
    )  # fmt: skip
    assert len(figures["student"]["psnr_2s"]) == len(figures["teacher"]["psnr_1s"]) == 2
    assert figures["student"]["distance"] != figures["teacher"]["distance"]
    assert sheet.is_file()


def test_driver_reference(run: Run) -> None:
    figures = run(
        "driver_reference.py", "--policies", "constant", "random", "--drives", "1",
        "--seconds", "0.5",
    )  # fmt: skip
    assert figures["constant"]["drives"][0]["seconds"] == 0.5


def test_refiner(run: Run, world: str, tmp_path: Path) -> None:
    from sanawm_gym.envs.reference.record import RecordConfig, record
    from sanawm_gym.worldmodel import WorldModel
    from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig
    from sanawm_gym.worldmodel.refiner.folder import save_refiner

    data = record(RecordConfig(out=tmp_path / "data", episodes=2, seconds=1.0, seed=90010))
    channels = WorldModel.from_pretrained(world).text_encoder.config.channels
    config = RefinerConfig(
        in_channels=4, num_layers=1, num_attention_heads=1, head_dim=12, window_frames=2,
        caption_channels=channels, strides=(4, 8, 8), block_frames=1, sigmas=(0.5,),
    )  # fmt: skip
    shutil.copytree(world, tmp_path / "world")
    save_refiner(tmp_path / "world", Refiner(config))
    figures = run(
        "refiner.py", "--world", str(tmp_path / "world"), "--data", str(data), "--episodes", "2",
        "--policy", "constant", "--drives", "2", "--seconds", "1", "--windows", "0", "1",
        "--starts", "0", "--timed", "1", "--sheet", str(tmp_path / "sheet.png"),
    )  # fmt: skip
    sharpness = figures["windows"]["sharpness, 0-1 s"]
    assert sharpness["off"] > 0 and sharpness["on"] != sharpness["off"]
    assert (tmp_path / "sheet.png").is_file()


def test_every_benchmark_stands_in_the_table() -> None:
    page = (BENCHMARKS / "README.md").read_text()
    assert {path.name for path in BENCHMARKS.glob("*.py") if path.name not in page} == set()


def test_full_size(run: Run) -> None:
    tiny = ("full_size.py", "--size", "tiny")
    figures = run(
        *tiny, "--device", "cpu", "--repeats", "2", "--warm-up", "1", "--clip", "3", "--ways",
        "recorded", "--parts", "chunks", "bidirectional", "diffusers", "refiner", "decoder",
    )  # fmt: skip
    for part in ("chunk, recorded", "bidirectional pass of 3, diffusers", "chunk refined"):
        assert figures[part]["rate"] > 0 and len(figures[part]["seconds"]) == 2
    assert figures["chunk decoded"]["peak"] is None
    counted = run(*tiny, "--estimate", "--clip", "3")
    chunk = counted["chunk (2 + 1 passes)"]
    assert chunk["flops"] == figures["chunk, recorded"]["flops"]
    assert counted["stream_peak_bytes"] > counted["weights_bytes"] + counted["memory_bytes"]
    with pytest.raises(ValueError, match=r"weights of 10\.6 GB .* hours a clip"):
        run("full_size.py", "--device", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU"):
            run("full_size.py")
