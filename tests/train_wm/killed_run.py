"""Training runs that are killed while they write; `test_kill` starts this in a process of its own.

A run is a fork, so that torch is imported once. It is killed as soon as a half-written checkpoint
is seen, and the checkpoint before has to be whole then.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sanawm_gym.train_wm.checkpoint import CHECKPOINT_NAME, load_checkpoint
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train

STEPS = 4


class WideObjective(Objective):
    """Weights enough for a checkpoint that takes a while to write."""

    def __init__(self, config: TrainerConfig) -> None:
        super().__init__()
        self.config = config
        self.wide = nn.Linear(1, 500_000)

    def batch(self, step: int, rank: int, num_ranks: int) -> Tensor:
        return torch.randn(1, 1, generator=torch.Generator().manual_seed(step))

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.wide(batch).square().mean()
        return loss, {"loss": loss.detach()}

    def trained(self) -> nn.Module:
        return self.wide

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        return {}

    def export(self, weights: nn.Module, out: Path) -> None:
        torch.save(weights.state_dict(), out / "wide.pt")


def run(out: Path) -> None:
    """Train to the end."""
    config = TrainerConfig(out=out, steps=STEPS, warmup=1, save_every=1, sample_every=0)
    train(lambda device: WideObjective(config), config)


def fork(out: Path, until: Callable[[], bool] | None = None) -> None:
    """Run in a fork; kill it at the moment at which something is true."""
    child = os.fork()
    if child == 0:
        run(out)
        os._exit(0)
    while until is not None and not until():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "ended before it could be killed"
        time.sleep(1e-3)
    if until is not None:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(root: Path) -> None:
    """Kill a run in its first and in its second checkpoint, then let it end; and one alone."""
    killed, alone = root / "killed", root / "alone"
    partial = (killed / CHECKPOINT_NAME).with_suffix(".partial")
    for later in (False, True):

        def is_writing(later: bool = later) -> bool:
            try:
                is_due = (killed / CHECKPOINT_NAME).exists() or not later
                return is_due and partial.stat().st_size > 0
            except FileNotFoundError:
                return False

        fork(killed, is_writing)
        found = load_checkpoint(killed)
        print("none" if found is None else f"step {found['step']}")
    fork(killed)
    fork(alone)
    print("same" if (killed / "wide.pt").read_bytes() == (alone / "wide.pt").read_bytes() else "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
