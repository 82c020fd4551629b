"""Hyperparameters by algorithm and environment, in the manner of rl-zoo: one file to look into.

The names are those of SB3's constructors. Whatever a command line leaves out comes from here; what
was in force stands in the run's `run.json`. `default` serves every other environment.

Where the values come from: they are chosen for the clock of these environments and for short
trainings, not searched for. A decision lasts 0.25 s, so a discount of 0.97 looks about 8 s ahead; a
rollout of 64 decisions is one episode of 16 s a car; few passes over it keep the learner cheaper
than the world that it waits for.

PPO from a driver was tried a little, from the shipped clone, with 8 cars, one seed each and 4,000
to 12,000 steps; so little tells a collapse from none, not a good value from a better one:

* What the clone loses is speed: of the full reward of a decision, 88 % are left by the speed limit,
  94 % by comfort and 98 % by the middle of the lane, and it covers 11 m/s where 13.9 are paid.
  Deviations of 0.067 in steering and of 0.18 to 0.27 on the pedals keep it in its lane.
* A step size of 1e-4 moves the actor by a divergence of 0.02 a rollout, about as far as the clip
  range of 0.2 lets it; none of the trainings collapsed with it or with half of it. In the generated
  world the clone's 15.0 an episode of 16 s were 15.7 after 12,288 steps with 0.2 on the pedals.
  With 0.27 there, what a decision earns rose as much within four rollouts of the actor.
* A critic that read the actor's own features came to explain 12 to 23 % of what a new rollout
  brought while the actor was held, and less than nothing when it moved. Yet only a critic can tell
  that 17 m/s is too fast, where nothing is paid for seconds to come. Hence the few numbers that it
  reads now, and a larger step size as they are so few; what they are worth is not measured yet.
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
    "learning_rate": 1e-4,
    "critic_learning_rate": 3e-3,
    "critic_only_rollouts": 4,
    # Steering by 0.067 turns the car by 2 degrees a decision at 12 m/s.
    "log_std_init": (-2.7, -1.3),
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
