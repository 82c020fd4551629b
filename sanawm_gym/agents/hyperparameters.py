"""Hyperparameters by algorithm and environment, in the manner of rl-zoo: one file to look into.

The names are those of SB3's constructors. Whatever a command line leaves out comes from here; what
was in force stands in the run's `run.json`. `default` serves every other environment.

Where the values come from: they are chosen for the clock of these environments and for short
trainings, not searched for. A decision lasts 0.25 s, so a discount of 0.97 looks about 8 s ahead; a
rollout of 64 decisions is one episode of 16 s a car; few passes over it keep the learner cheaper
than the world that it waits for.
"""

from __future__ import annotations

from typing import Any

_PPO: dict[str, Any] = {
    "n_steps": 64,
    "batch_size": 128,
    "n_epochs": 5,
    "learning_rate": 3e-4,
    "gamma": 0.97,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    # A wheel and pedals held for 0.25 s: noise of 0.5 crosses a lane within seconds as it is.
    "log_std_init": -0.7,
}
_SAC: dict[str, Any] = {
    "learning_rate": 3e-4,
    "batch_size": 64,
    "gamma": 0.97,
    "tau": 0.01,
    "train_freq": 1,
    "gradient_steps": 2,
    "learning_starts": 1_000,
}

HYPERPARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "default": _PPO,
        "SanaWM-Drive-v0": _PPO,
        # The simulator draws its cars one after the other: longer rollouts cost it nothing, and
        # its many kinds of road want larger batches.
        "SanaWM-DriveReference-v0": {**_PPO, "n_steps": 128, "batch_size": 256},
    },
    # The passes over what is remembered cost several times those of plain PPO.
    "recurrent-ppo": {
        "default": {**_PPO, "n_epochs": 3},
        "SanaWM-Drive-v0": {**_PPO, "n_epochs": 3},
        "SanaWM-DriveReference-v0": {**_PPO, "n_steps": 128, "n_epochs": 3},
    },
    "sac": {
        "default": _SAC,
        "SanaWM-Drive-v0": _SAC,
        "SanaWM-DriveReference-v0": _SAC,
    },
}


def hyperparameters(algorithm: str, env: str) -> dict[str, Any]:
    """A fresh copy of the values for an algorithm in an environment."""
    known = HYPERPARAMETERS[algorithm]
    return dict(known.get(env, known["default"]))
