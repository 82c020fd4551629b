"""Stage ``average``: one network whose weights are the mean of several along a training run.

An adversarial run circles around what it looks for: each stop has habits of its own, a liking for
trees or for strong colours, which the next one gives up again. Their mean has fewer of them.
[source: averaging for games, Yazici et al. 2019, arXiv 1806.04498]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sanawm_gym.train_wm.weights import load_world_weights


@dataclass(frozen=True, kw_only=True)
class AverageStageConfig:
    """Average the weights of networks, e.g. of one run stopped at several steps."""

    networks: tuple[Path, ...]
    """Output folders of a stage that trains the network; at least 2, of one architecture and
    vocabulary."""
    out: Path
    """Folder to write."""

    def __post_init__(self) -> None:
        """Refuse a mean of nothing, and overwriting a part of it."""
        if len(self.networks) < 2:
            raise ValueError(f"networks: got {len(self.networks)}, expected at least 2")
        if self.out.resolve() in {folder.resolve() for folder in self.networks}:
            raise ValueError(f"out: got {self.out}, one of the networks; expected another folder")


def run_average_stage(config: AverageStageConfig) -> None:
    """Write the mean.

    Raises:
        ValueError: If the networks differ in more than their weights.
    """
    mean = load_world_weights(config.networks[0])
    share, total = 1 / len(config.networks), mean.state_dict()
    for value in total.values():
        value.mul_(share)
    for folder in config.networks[1:]:
        other = load_world_weights(folder)
        if (other.network.config, other.text_encoder.config) != (
            mean.network.config,
            mean.text_encoder.config,
        ):
            raise ValueError(
                f"{folder} and {config.networks[0]} differ in architecture or vocabulary; expected "
                "networks that differ in their weights alone"
            )
        weights = other.state_dict()
        for name, value in total.items():
            torch.add(value, weights[name], alpha=share, out=value)
    mean.save(config.out)
    print(f"wrote {config.out}: the mean of {len(config.networks)} networks")
