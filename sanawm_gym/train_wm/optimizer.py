"""AdamW over the trained parameters, and the course of its learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from sanawm_gym.train_wm.trainer import Objective, TrainerConfig


def make_optimizer(objective: Objective, config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW with a group for every decay and every factor of the learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.trained().named_parameters():
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((decay, objective.learning_rate_factor(name)), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, lr=config.learning_rate, betas=config.betas)


def learning_rate(step: int, config: TrainerConfig) -> float:
    """Learning rate in force at ``step``, for parameters of factor 1."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "linear":
        shape = 1.0 - done
    else:
        shape = 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * done))))
    return config.learning_rate * (0.02 + 0.98 * shape)
