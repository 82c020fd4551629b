"""What a stage brings to the training loop: parameters, data and loss in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn


class Objective(nn.Module, ABC):
    """What a stage trains: parameters, data and loss in one module."""

    def stage_config(self) -> Any:
        """The stage's whole configuration, which every objective keeps as ``config``."""
        return vars(self)["config"]

    @abstractmethod
    def batch(self, step: int, rank: int, num_ranks: int) -> Any:
        """Draw the data and all the noise of one forward pass.

        Args:
            step: Number of the forward pass, counted over the whole run.
            rank: Number of this process, or of its team. Its rows are part of a batch that does not
                depend on how many there are; see `processes`.
            num_ranks: Number of processes, or of teams.
        """

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and the scalars worth logging; the mean loss of the processes is what is lowered."""

    @abstractmethod
    def trained(self) -> nn.Module:
        """Part of the module whose parameters are optimised, averaged and exported."""

    @abstractmethod
    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Write a picture of what the averaged ``weights`` can do; return held-out scores."""

    @abstractmethod
    def export(self, weights: nn.Module, out: Path) -> None:
        """Write the finished weights for the next stage."""

    def share_time(self, team: dist.ProcessGroup) -> None:
        """Hold only a slice of the time of every clip from now on, beside others of a team.

        Its members draw the same rows, and the mean of their losses is the rows' loss.

        Raises:
            ValueError: If this stage cannot, as most do not train on whole clips.
        """
        raise ValueError(
            f"{type(self).__name__} got context_parallel {dist.get_world_size(team)}, expected 1: "
            "only the stages bidirectional and chunk-causal split clips in time"
        )

    def learning_rate_factor(self, name: str) -> float:
        """Learning rate of the trained parameter ``name`` over that of the run."""
        return 1.0

    def progress(self) -> dict[str, Any]:
        """Whatever beside the weights a resumed run needs; tensors and plain values.

        The dicts of all processes are joined, at every depth. What belongs to a row or a lane
        therefore stands in a dict under its number.
        """
        return {}

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Take back what :meth:`progress` returned, on all processes joined."""
