"""What a run says about itself, and what it refuses to go on with."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sanawm_gym
from sanawm_gym.train_wm.checkpoint import load_checkpoint, save_checkpoint
from sanawm_gym.train_wm.run_record import describe_source, hash_input
from sanawm_gym.train_wm.stop_signal import StopSignal
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train


@dataclass(frozen=True, kw_only=True)
class LineConfig:
    """A stage that fits a line."""

    data: Path
    trainer: TrainerConfig
    slope: float = 2.0
    sizes: tuple[int, ...] = (1, 2)
    init: Path | None = None
    others: tuple[Path, ...] = ()


class LineObjective(Objective):
    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config = config
        self.line = nn.Linear(1, 1)

    def batch(self, step: int, rank: int, num_ranks: int) -> Tensor:
        return torch.randn(8, 1, generator=torch.Generator().manual_seed(step))

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.line(batch) - self.config.slope * batch).square().mean()
        return loss, {"loss": loss.detach()}

    def trained(self) -> nn.Module:
        return self.line

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        return {}

    def export(self, weights: nn.Module, out: Path) -> None:
        torch.save(weights.state_dict(), out / "line.pt")


def run(config: LineConfig) -> None:
    train(lambda device: LineObjective(config), config.trainer)


def described(config: LineConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((config.trainer.out / "run.json").read_text())
    return found


def last_step(config: LineConfig) -> int:
    found = load_checkpoint(config.trainer.out)
    assert found is not None
    return int(found["step"])


@pytest.fixture
def config(tmp_path: Path) -> LineConfig:
    data = tmp_path / "data"
    data.mkdir()
    (data / "index.json").write_text('{"clips": ["a"]}')
    (data / "a.safetensors").write_bytes(b"12345678")
    trainer = TrainerConfig(
        out=tmp_path / "out", steps=2, warmup=1, sample_every=0, schedule="constant"
    )
    return LineConfig(data=data, trainer=trainer)


class PairedObjective(LineObjective):
    """Two batches of `LineObjective` in one."""

    def batch(self, step: int, rank: int, num_ranks: int) -> Tensor:
        parts = [super(PairedObjective, self).batch(2 * step + i, rank, num_ranks) for i in (0, 1)]
        return torch.cat(parts)


def exported(config: LineConfig) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(config.trainer.out / "line.pt", weights_only=True)
    return found


def longer(config: LineConfig, **changes: Any) -> LineConfig:
    return replace(config, trainer=replace(config.trainer, steps=4, **changes))


def test_a_run_describes_its_whole_origin(config: LineConfig) -> None:
    run(config)
    found = described(config)
    assert found["config"]["slope"] == 2.0
    assert found["config"]["sizes"] == [1, 2]
    assert found["config"]["trainer"]["learning_rate"] == config.trainer.learning_rate
    assert found["data"] == {"data": hash_input(config.data)}
    assert found["source"]["version"] == sanawm_gym.__version__
    assert found["hardware"]["threads"] == 1
    assert found["hardware"]["processor"]
    assert sys.argv[0] in found["command"]
    assert found["num_parameters"] == 2
    assert not list(config.trainer.out.glob("*.partial"))


def test_accumulated_passes_make_one_batch(config: LineConfig, tmp_path: Path) -> None:
    both = replace(config.trainer, out=tmp_path / "both")
    halves = replace(config.trainer, accumulation=2)
    train(lambda device: PairedObjective(replace(config, trainer=both)), both)
    run(replace(config, trainer=halves))
    for name, value in exported(replace(config, trainer=both)).items():
        torch.testing.assert_close(exported(config)[name], value)


def test_what_is_exported_is_the_moving_average(config: LineConfig) -> None:
    settings = replace(config.trainer, ema=0.5, steps=3, save_every=1)
    for step in range(1, 4):
        one = replace(config, trainer=replace(settings, stop_at=step))
        run(one)
        kept = load_checkpoint(config.trainer.out)
        assert kept is not None
        weights = kept["model"]["weight"]
        # The first weights are taken as they are.
        expected = weights if step == 1 else 0.5 * (expected + weights)
        torch.testing.assert_close(exported(one)["weight"], expected)
    assert not torch.equal(weights, expected)


def test_a_run_shows_how_far_it_is_and_how_long_it_will_take(
    config: LineConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    run(config)
    shown = capfd.readouterr().err
    assert re.search(r"2/2 \[\d\d:\d\d<\d\d:\d\d, .*loss=", shown)


def test_a_run_goes_on_when_only_its_length_and_pace_change(config: LineConfig) -> None:
    run(config)
    run(longer(config, stop_at=3, threads=1, save_every=1, sample_every=7))
    assert last_step(config) == 3
    run(longer(config))
    assert last_step(config) == 4
    assert described(config)["first_step"] == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slope": 3.0}, r"slope is 3\.0, expected 2\.0"),
        ({"sizes": (1, 3)}, r"sizes is \[1, 3\], expected \[1, 2\]"),
        ({"init": Path("elsewhere")}, "init is '.*elsewhere', expected None"),
    ],
)
def test_another_stage_setting_is_refused(
    config: LineConfig, changes: dict[str, Any], said: str
) -> None:
    run(config)
    with pytest.raises(ValueError, match=said):
        run(replace(longer(config), **changes))


def test_a_refused_run_names_the_setting_and_touches_nothing(config: LineConfig) -> None:
    run(config)
    before = {path: path.read_bytes() for path in config.trainer.out.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"trainer\.learning_rate is 0\.5, expected 0\.001.*anew"):
        run(longer(config, learning_rate=0.5))
    for path, content in before.items():
        assert path.read_bytes() == content


def test_other_data_are_refused(config: LineConfig) -> None:
    run(config)
    (config.data / "b.safetensors").write_bytes(b"more")
    with pytest.raises(ValueError, match="the files of data have changed"):
        run(longer(config))


def test_several_folders_are_hashed_each(config: LineConfig, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    config = replace(config, others=(tmp_path / "other", config.data))
    run(config)
    assert set(described(config)["data"]) == {"data", "others[0]", "others[1]"}
    (tmp_path / "other" / "new.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"the files of others\[0\] have changed"):
        run(longer(config))


def test_a_run_may_begin_anew_in_the_same_folder(config: LineConfig) -> None:
    run(config)
    other = replace(config, slope=3.0, trainer=replace(config.trainer, resume=False))
    run(other)
    assert described(config)["config"]["slope"] == 3.0
    run(longer(other, resume=True))
    assert last_step(config) == 4


def test_a_checkpoint_without_a_record_is_taken_on_trust(config: LineConfig) -> None:
    run(config)
    old = load_checkpoint(config.trainer.out)
    assert old is not None
    del old["record"]
    save_checkpoint(config.trainer.out, old)
    run(replace(longer(config), slope=3.0))
    assert last_step(config) == 4


def test_the_hash_follows_index_names_and_sizes_only(tmp_path: Path) -> None:
    (tmp_path / "shard").mkdir()
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "shard" / "a.mp4").write_bytes(b"1234")
    first = hash_input(tmp_path)
    (tmp_path / "run.json").write_text("a log")
    (tmp_path / "notes.txt").write_text("remarks")
    (tmp_path / "shard" / "a.mp4").write_bytes(b"4321")
    assert hash_input(tmp_path) == first
    (tmp_path / "index.json").write_text("[]")
    assert hash_input(tmp_path) != first
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "shard" / "a.mp4").rename(tmp_path / "shard" / "b.mp4")
    assert hash_input(tmp_path) != first
    assert hash_input(tmp_path / "shard" / "b.mp4") != hash_input(tmp_path / "index.json")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_gives_its_commit_and_a_copy_its_version(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *names, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    version = {"version": sanawm_gym.__version__}
    assert describe_source(package) == version
    (package / "code.py").write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert describe_source(package) == {**version, "commit": commit, "has_changes": False}
    (package / "code.py").write_text("1")
    assert describe_source(package)["has_changes"]
    # Installed into an environment that lies in somebody's repository.
    nested = package / "site-packages"
    nested.mkdir()
    assert describe_source(nested) == version


def test_signals_are_noted_while_training_and_given_back_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.number is None
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
