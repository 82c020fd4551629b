"""Hyperparameters by algorithm and environment, in the manner of rl-zoo: one file to look into.

The names are those of SB3's constructors. Whatever a command line leaves out comes from here; what
was in force stands in the run's `run.json`. `default` serves every other environment.

Where the values come from: those of trainings from nothing are chosen for the clock of these
environments and for short trainings, not searched for. A decision lasts 0.25 s, so a discount of
0.97 looks about 8 s ahead; a rollout of 64 decisions is one episode of 16 s a car; few passes over
it keep the learner cheaper than the world that it waits for.

Those of PPO from a driver are the outcome of a small search, from the shipped clone in the
reference world without other cars: 16 cars, 12,288 decisions, episodes of 16 s on 64 training
roads, judged on 24 roads apart from them. docs/train_a_policy.md has the table. What it says:

* What the clone loses is speed: of the full reward of a decision, 88 % are left by the speed limit,
  94 % by comfort and 98 % by the middle of the lane, and it covers 11 m/s where 13.9 are paid.
* Before, with noise drawn anew at every decision, a step size of 1e-4 for all layers and a critic
  that knew no road, 12,288 decisions changed nothing that could be told from chance.
* Now they earn 2.1 ± 0.3 more than the clone's 15.6 in 16 s; with half the step size and fewer
  gauges 0.9 ± 0.3. A step size of 3e-3 moves the actor by a divergence of 0.28 in its first
  rollout, 2e-3 by 0.13 and by 0.05 and less from then on.
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
    "log_std_init": (-0.7,),
}
_WARM_PPO: dict[str, Any] = {
    **_PPO,
    "batch_size": 256,
    "learning_rate": 2e-3,
    # About 2.5 s ahead: what comes later, a rollout of a few drives cannot tell from chance.
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "learn": "head",
    "gauges": 9,
    # Steering by 0.05 turns the car by 1.5 degrees a decision at 12 m/s.
    "log_std_init": (-3.0, -1.3),
    "noise_decisions": (2.0, 4.0),
    "critic_only_rollouts": 2,
    "critic_epochs": 10,
    "critic_learning_rate": 3e-3,
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

WARM_PPO = "ppo from a driver"
"""Key of PPO with `init`."""
HYPERPARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "default": _PPO,
        "SanaWM-Drive-v0": _PPO,
        # The simulator draws its cars one after the other: longer rollouts cost it nothing, and
        # its many kinds of road want larger batches.
        "SanaWM-DriveReference-v0": {**_PPO, "n_steps": 128, "batch_size": 256},
    },
    WARM_PPO: {"default": _WARM_PPO},
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
