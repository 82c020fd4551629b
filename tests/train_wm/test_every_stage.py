"""What every stage that trains owes its user, asked of each of them."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sanawm_gym.train_wm.checkpoint import load_checkpoint
from sanawm_gym.train_wm.fine_tune_stage import FineTuneStageConfig
from sanawm_gym.train_wm.stages import STAGES
from sanawm_gym.train_wm.trainer import Objective
from sanawm_gym.worldmodel import gdn_attention
from sanawm_gym.worldmodel.attention import SelfAttention
from sanawm_gym.worldmodel.ops.frame_gdn import frame_gdn
from tests.train_wm.several_processes import STAGES as TRAINED
from tests.train_wm.several_processes import objective_of, run, trainer

EXPORTED = (".safetensors", "scores.json")
"""Ends of the names of what a stage leaves to the next one."""

RUNNERS = dict(STAGES.values())

pytestmark = pytest.mark.filterwarnings("ignore:this world never learnt the words:UserWarning")


@dataclass(frozen=True)
class Runs:
    """A stage in two steps in bfloat16, in one go and stopped within the first."""

    whole: Path
    parts: Path
    exit_code: object
    losses: list[float]
    """Of the run until it was stopped."""
    step: int
    """At which it was stopped."""
    exported: dict[str, bytes]
    """What there was then."""


Finish = Callable[[str], Runs]


def exported(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name.endswith(EXPORTED)}


def both_ways(stage: str, data: Path, root: Path) -> Runs:
    """Run a stage as its command does, and again with an interruption."""
    settings = {"steps": 2, "stop_at": None, "accumulation": 1, "precision": "bf16"}
    (root / "parts").mkdir()
    whole = trainer(stage, root / "whole", **settings, sample_every=2)
    _, config = objective_of(stage, data, whole)
    RUNNERS[type(config)](config)
    parts = trainer(stage, root / "parts", **settings)
    losses: list[float] = []
    code: object = None
    try:
        run(stage, data, parts, last_before_signal=1, losses=losses)
    except SystemExit as stop:
        code = stop.code
    half = load_checkpoint(parts.out)
    assert half is not None
    ended_early = exported(parts.out)
    RUNNERS[type(config)](dataclasses.replace(config, trainer=parts))
    return Runs(whole.out, parts.out, code, losses, half["step"], ended_early)


@pytest.fixture(scope="module")
def finished(stage_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finish]:
    """Runs a stage in both ways when it is first asked for."""
    known: dict[str, Runs] = {}
    AcceleratorState._reset_state(reset_partial_state=True)

    def finish(stage: str) -> Runs:
        if stage not in known:
            known[stage] = both_ways(stage, stage_data, tmp_path_factory.mktemp(stage))
        return known[stage]

    yield finish
    # Its precision cannot be changed, and the next tests want another one.
    AcceleratorState._reset_state(reset_partial_state=True)


def make(stage: str, data: Path, out: Path, **changes: Any) -> Objective:
    """The objective with which a run begins."""
    config = trainer(stage, out)
    kind, stage_config = objective_of(stage, data, config)
    torch.manual_seed(config.seed)
    made: Objective = kind(dataclasses.replace(stage_config, **changes), torch.device("cpu"))  # type: ignore[call-arg]
    return made


def test_no_stage_that_trains_is_left_out() -> None:
    trained = {kind for kind in RUNNERS if "trainer" in {f.name for f in dataclasses.fields(kind)}}
    configs = [objective_of(stage, Path(), trainer(stage, Path("out")))[1] for stage in TRAINED]
    # Begins from a release's folder: tests/worldmodel/official/test_fine_tune.py stops that one.
    assert {type(config) for config in configs} | {FineTuneStageConfig} == trained


@pytest.mark.parametrize("stage", TRAINED)
def test_a_stage_that_is_stopped_within_a_step_ends_with_the_same_bytes(
    stage: str, finished: Finish
) -> None:
    runs = finished(stage)
    assert (runs.exit_code, runs.step) == (128 + signal.SIGTERM, 1)
    assert not runs.exported  # nobody takes half a run for a whole one
    whole, parts = exported(runs.whole), exported(runs.parts)
    assert whole and whole == parts


@pytest.mark.parametrize("stage", TRAINED)
def test_a_stage_tells_what_it_did(stage: str, finished: Finish) -> None:
    out = finished(stage).whole
    log = EventAccumulator(str(out / "tensorboard")).Reload()
    scalars = set(log.Tags()["scalars"])
    assert {"gradient_norm", "learning_rate"} <= scalars
    assert [event.step for event in log.Scalars("learning_rate")] == [2]
    assert len(scalars) > 3  # losses, and scores of the samples
    described = json.loads((out / "run.json").read_text())
    assert described.keys() >= {"config", "data", "source", "hardware", "command"}
    assert described["config"]["trainer"]["precision"] == "bf16"
    assert described["data"]
    (sheet,) = (out / "samples").glob("*.png")
    assert sheet.stat().st_size > 0
    # What heads read is a number; there is nothing to watch.
    assert stage == "heads" or sheet.with_suffix(".mp4").stat().st_size > 0


@pytest.mark.parametrize("stage", TRAINED)
def test_bfloat16_changes_a_loss_by_rounding_alone(
    stage: str, stage_data: Path, finished: Finish
) -> None:
    runs = finished(stage)
    made = make(stage, stage_data, runs.whole)
    exact = float(made(made.batch(0, 0, 1))[0].detach())
    assert runs.losses[0] == pytest.approx(exact, rel=0.05)
    assert runs.losses[0] != exact
    kept = load_checkpoint(runs.whole)
    assert kept is not None
    assert {x.dtype for x in kept["model"].values()} == {torch.float32}


@pytest.mark.parametrize("stage", ["bidirectional", "streaming"])
def test_the_recurrence_is_computed_in_float32_whatever_the_precision(
    stage: str, stage_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[torch.dtype, bool]] = []

    def noting(*inputs: torch.Tensor, **named: Any) -> Any:
        found.extend((x.dtype, torch.is_autocast_enabled("cpu")) for x in inputs)
        return frame_gdn(*inputs, **named)

    monkeypatch.setattr(gdn_attention, "frame_gdn", noting)
    made = make(stage, stage_data, tmp_path)
    products = set()
    for module in made.modules():
        if isinstance(module, SelfAttention):
            module.qkv.register_forward_hook(lambda _, __, out: products.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        made(made.batch(0, 0, 1))
    assert set(found) == {(torch.float32, False)}
    assert products == {torch.bfloat16}


@pytest.mark.parametrize(
    "stage", ["bidirectional", "chunk-causal", "streaming", "ode", "distill", "refiner"]
)
def test_the_caption_is_dropped_of_the_share_of_rows_that_was_asked_for(
    stage: str, stage_data: Path, tmp_path: Path
) -> None:
    for share in (0.0, 1.0):
        made = make(stage, stage_data, tmp_path, caption_dropout=share)
        captions = made.batch(0, 0, 1).captions
        assert len(captions) >= 2
        assert all(bool(caption) == (share == 0.0) for caption in captions)


CHECKPOINTED = [
    stage
    for stage in TRAINED
    if hasattr(
        objective_of(stage, Path(), trainer(stage, Path("out")))[1], "gradient_checkpointing"
    )
]


@pytest.mark.parametrize("stage", CHECKPOINTED)
def test_checkpointing_gives_the_same_gradients_from_fewer_kept_bytes(
    stage: str, stage_data: Path, tmp_path: Path
) -> None:
    found = []
    for again in (False, True):
        made = make(stage, stage_data, tmp_path, gradient_checkpointing=again)
        kept: dict[int, int] = {}

        def pack(x: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss, _ = made(made.batch(0, 0, 1))
        loss.backward()
        gradients = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients, sum(kept.values())))
    (loss, gradients, much), (again_loss, again_gradients, little) = found
    assert torch.equal(loss, again_loss)
    assert gradients.keys() == again_gradients.keys() and gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(again_gradients[name], gradient, rtol=1e-5, atol=1e-8, msg=name)
    assert little < 0.7 * much


def test_nothing_is_computed_again_without_gradients(stage_data: Path, tmp_path: Path) -> None:
    made = make("bidirectional", stage_data, tmp_path, gradient_checkpointing=True)
    calls = []
    network = made.get_submodule("weights.network")
    network.get_submodule("blocks.0").register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        made(made.batch(0, 0, 1))
    assert len(calls) == 1
    loss, _ = made(made.batch(0, 0, 1))
    loss.backward()
    assert len(calls) == 3
