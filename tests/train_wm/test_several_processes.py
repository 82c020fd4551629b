"""Two processes make of a stage what one does, with whole weights each and with a share each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from sanawm_gym.train_wm.checkpoint import load_checkpoint
from sanawm_gym.train_wm.processes import Rows, join_progress, relative_to_mean, rows_of_rank
from sanawm_gym.train_wm.sharding import make_accelerator
from tests.train_wm.several_processes import (
    SHARDINGS,
    SPLIT_IN_TIME,
    STAGES,
    objective_of,
    run,
    trainer,
)

LEARNING_RATE = 1e-3


def checkpoint(folder: Path) -> dict[str, Any]:
    found = load_checkpoint(folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def runs(stage_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process in ``one``, and of two of them in ``none`` and ``fsdp2``.

    Sharded, the stages with lanes go on from a first step of one process.
    """
    data, out = stage_data, tmp_path_factory.mktemp("runs")
    for stage in STAGES:
        folder = out / "one" / stage
        if stage in ("streaming", "self-forcing"):
            losses = run(stage, data, trainer(stage, folder, stop_at=1))
            shutil.copytree(folder, out / "fsdp2" / stage)
            losses += run(stage, data, trainer(stage, folder))
        else:
            losses = run(stage, data, trainer(stage, folder))
        (folder / "losses.json").write_text(json.dumps(losses))
    root = Path(__file__).parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    started = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
            *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
            *("--module", "tests.train_wm.several_processes", str(data), str(out)),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr[-4000:]
    return out


WAYS = [(stage, sharding) for sharding, stages in SHARDINGS.items() for stage in stages]
WAYS += [(stage, f"{sharding}-in-time") for stage in SPLIT_IN_TIME for sharding in SHARDINGS]


@pytest.mark.parametrize(("stage", "way"), WAYS)
def test_two_processes_end_where_one_does(runs: Path, stage: str, way: str) -> None:
    folder = runs / way / stage
    alone = json.loads((runs / "one" / stage / "losses.json").read_text())
    parts = [json.loads((folder / f"losses-{rank}.json").read_text()) for rank in range(2)]
    together = [sum(losses) / 2 for losses in zip(*parts, strict=True)]
    assert parts[0] != parts[1]  # each has rows of its own, or frames
    assert together == pytest.approx(alone[-len(together) :], rel=1e-5)
    one, two = checkpoint(runs / "one" / stage), checkpoint(folder)
    assert two["step"] == one["step"]
    for kind in ("model", "average"):
        ours, theirs = (x["values"] if kind == "average" else x for x in (one[kind], two[kind]))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=0.05 * LEARNING_RATE)
    ours, theirs = (x["optimizer"]["state"] for x in (one, two))
    assert ours.keys() == theirs.keys()
    for index, state in ours.items():
        moment = state["exp_avg"]
        error = (theirs[index]["exp_avg"] - moment).norm()
        assert error <= 2e-3 * moment.norm() + 1e-7


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_what_lanes_carry_is_kept_of_all_processes(runs: Path, sharding: str) -> None:
    one = checkpoint(runs / "one" / "self-forcing")["progress"]
    two = checkpoint(runs / sharding / "self-forcing")["progress"]
    assert two["lanes"] == one["lanes"]
    assert two["own_lanes"] == one["own_lanes"]
    # One of the two own drives has begun anew while the other went on.
    assert len({lane["visits"] for lane in one["own_lanes"].values()}) == 2
    assert sorted(two["states"]) == [0, 1, 2, 3]
    for lane, drive in one["drives"].items():
        torch.testing.assert_close(
            two["drives"][lane]["picture"], drive["picture"], rtol=0, atol=1e-3
        )


def test_interrupted_processes_stop_together_and_end_with_the_same_bytes(runs: Path) -> None:
    assert [(runs / f"stopped-{rank}").read_text() for rank in range(2)] == ["143", "143"]
    name = "network.safetensors"
    whole, parts = runs / "none" / "streaming" / name, runs / "parts" / name
    assert whole.read_bytes() == parts.read_bytes()


def test_one_process_goes_on_where_two_sharded_ones_stopped(runs: Path, stage_data: Path) -> None:
    for name in ("one", "fsdp2"):
        run("streaming", stage_data, trainer("streaming", runs / name / "streaming", stop_at=4))
    one, two = (checkpoint(runs / name / "streaming") for name in ("one", "fsdp2"))
    assert one["progress"]["lanes"] == two["progress"]["lanes"]
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-4, atol=0.05 * LEARNING_RATE)


def test_rows_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size is 3, which 2 processes.*multiple of 2"):
        rows_of_rank("batch_size", 3, 0, 2)


def test_a_row_has_the_same_noise_in_whatever_process() -> None:
    all_rows = Rows(rows_of_rank("n", 4, 0, 1), 7).randn(3)
    for rank in range(2):
        assert torch.equal(Rows(rows_of_rank("n", 4, rank, 2), 7).randn(3), all_rows[rank::2])


def test_processes_that_make_no_whole_team_are_refused(stage_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="context_parallel is 2, which 1 processes cannot"):
        run("bidirectional", stage_data, trainer("bidirectional", tmp_path, context_parallel=2))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="context_parallel must be at least 1"):
        trainer("bidirectional", tmp_path, context_parallel=0)


def test_stages_that_cannot_split_clips_say_so(stage_data: Path, tmp_path: Path) -> None:
    kind, config = objective_of("vae", stage_data, trainer("vae", tmp_path))
    objective = kind(config, torch.device("cpu"))  # type: ignore[call-arg]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    try:
        assert dist.group.WORLD is not None
        with pytest.raises(ValueError, match="only the stages bidirectional and chunk-causal"):
            objective.share_time(dist.group.WORLD)
    finally:
        dist.destroy_process_group()


def test_progress_is_joined_lane_by_lane() -> None:
    parts = [{"lanes": {0: {"at": 3}}, "seen": {}}, {"lanes": {1: {"at": 5}}, "seen": {}}]
    assert join_progress(parts) == {"lanes": {0: {"at": 3}, 1: {"at": 5}}, "seen": {}}


def test_a_process_alone_weighs_its_rows_fully() -> None:
    assert relative_to_mean(torch.tensor([3.0, 0.0])).tolist() == [1.0, 0.0]


def test_sharding_asked_for_by_the_launcher_says_that_one_process_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.warns(UserWarning, match="nothing is sharded in a single process"):
        make_accelerator("none", "no", 1)
