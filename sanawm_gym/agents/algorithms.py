"""What `sanawm-gym train-agent` can train, by name: configuration class and function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sanawm_gym.agents.cloning import CloningConfig, clone
from sanawm_gym.agents.ppo import PPOConfig, train_ppo
from sanawm_gym.agents.recurrent import RecurrentPPOConfig, train_recurrent_ppo
from sanawm_gym.agents.sac import SACConfig, train_sac

ALGORITHMS: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
    "ppo": (PPOConfig, train_ppo),
    "recurrent-ppo": (RecurrentPPOConfig, train_recurrent_ppo),
    "sac": (SACConfig, train_sac),
    "bc": (CloningConfig, clone),
}
"""All of them write a driver that `load_policy` takes."""
