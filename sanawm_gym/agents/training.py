"""Training an agent with SB3 as a run: judged on the way, filmed, interrupted and gone on with.

    out/run.json              what the run was made with, and what came of it
    out/evaluations.json      every evaluation
    out/policy.safetensors    the driver of the last evaluation, for `sanawm-gym drive --policy`
    out/best.safetensors      the driver of the best one
    out/videos/000020480/     what the driver of an evaluation saw
    out/tensorboard/          curves
    out/checkpoints/          where the same command goes on

**Going on exactly.** SB3 keeps networks and optimiser but neither random numbers nor environments.
So at every checkpoint all episodes are cut, and all random numbers are drawn anew from the seed and
the number of steps, by the run that goes on as by the one that was interrupted: from a checkpoint
on, both take the same steps and come to the same weights, as far as the environment is
deterministic. A run stopped by a signal gets a checkpoint of where its last rollout began: what has
been learnt is kept, but it has one cut more than a run that was left alone.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor

from sanawm_gym.agents.checkpoints import load_rest, model_file, newest_checkpoint
from sanawm_gym.agents.evaluation import EvaluationConfig
from sanawm_gym.agents.features import FeaturesConfig, entries_of
from sanawm_gym.agents.hyperparameters import hyperparameters
from sanawm_gym.agents.learner import Learner
from sanawm_gym.agents.run import Run
from sanawm_gym.agents.tasks import TaskConfig, make_envs
from sanawm_gym.agents.vec_env import SB3VecEnv
from sanawm_gym.train_wm.run_record import RunRecord, describe_config, hash_input
from sanawm_gym.train_wm.stop_signal import StopSignal
from sanawm_gym.worldmodel.folder import read_json, write_json

FREE_SETTINGS = frozenset(
    {"out", "resume", "steps", "stop_at", "threads", "device", "save_every", "task.workers"}
    | {f"evaluation.{name}" for name in ("every", "at_start", "episodes", "videos", "seed")}
)
"""Settings in which a resumed run may differ: how far, how fast and what is shown on the way."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What every training of an agent is told."""

    out: Path
    """Folder of the run; with part of this run in it, the run goes on."""
    steps: int = 200_000
    """Decisions of all cars together, >= 1; rounded up to whole rollouts. A run that has ended goes
    on with more of them; whatever changes over a training then does so over the longer one."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """What is learnt, and where."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How the driver is judged on the way."""
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    """The part of the networks that reads observations."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the layers after the features, of actor and critic alike."""
    save_every: int = 20_000
    """Steps between two checkpoints, >= 1; a run that ends or is interrupted makes one too."""
    stop_at: int | None = None
    """Steps after which to stop and save although the run is longer; None goes to the end."""
    resume: bool = True
    """Go on from the checkpoint in `out`; else begin anew there."""
    seed: int = 0
    """Seed of weights, exploration and environments, >= 0."""
    threads: int = 1
    """CPU threads of torch, world model included, >= 1; more help only on idle cores."""
    device: str = "cpu"
    """Torch device of the learner."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        counts = {"steps": self.steps, "save_every": self.save_every, "threads": self.threads}
        counts |= {"stop_at": 1 if self.stop_at is None else self.stop_at}
        wrong = {name: count for name, count in counts.items() if count < 1}
        if wrong or min(self.hidden, default=1) < 1 or self.seed < 0:
            raise ValueError(
                f"train-agent: got {wrong or ''} hidden={self.hidden}, seed={self.seed}, expected "
                "counts and widths >= 1 and a seed >= 0"
            )

    def inputs(self) -> dict[str, str]:
        """Hash of everything that the training reads, by the option that names it."""
        world = self.task.world
        return {"task.world": hash_input(Path(world))} if world and os.path.isdir(world) else {}


def resolved(config: Any, algorithm: str) -> Any:
    """A config whose fields left at None have the tuned values.

    Args:
        config: A dataclass with fields of the names in `HYPERPARAMETERS`.
        algorithm: Which ones.
    """
    tuned = hyperparameters(algorithm, config.task.env)
    missing = {name: value for name, value in tuned.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **missing)


def train(config: AgentConfig, learner: Learner) -> dict[str, Any]:
    """Train to the end, or as far as a signal or `stop_at` allows.

    Args:
        config: With every hyperparameter resolved.
        learner: The algorithm.

    Returns:
        The last evaluation, as it stands in `evaluations.json`; empty if there was none.

    Raises:
        ValueError: If the folder holds a run of other settings, or a setting is impossible; nothing
            has been written then.
    """
    torch.set_num_threads(config.threads)
    record = RunRecord(describe_config(config), config.inputs())
    checkpoint = newest_checkpoint(config.out) if config.resume else None
    if checkpoint is not None:
        _check_same(record, config.out)
    bare = SB3VecEnv(make_envs(config.task, config.task.num_envs))
    try:
        # What drives sees the environment as it is; a learner may want to see more of it.
        entries = entries_of(bare.observation_space)
        envs = VecMonitor(learner.wrapped(bare))
        model = (
            learner.build(envs)
            if checkpoint is None
            else learner.load(model_file(checkpoint), envs)
        )
        state = {} if checkpoint is None else load_rest(checkpoint, model)
        config.out.mkdir(parents=True, exist_ok=True)
        description = record.describe(torch.device(config.device), 1)
        write_json(config.out / "run.json", {"algorithm": learner.name, **description})
        model.set_logger(configure(str(config.out / "tensorboard"), ["tensorboard"]))
        with StopSignal() as stop:
            run = Run(config, model, lambda: learner.actor(model, entries), state, stop)
            remaining = config.steps - model.num_timesteps
            if remaining > 0:
                model.learn(remaining, callback=run, reset_num_timesteps=False)
            last = run.finish()
        model.logger.close()
    finally:
        bare.close()
    return last


def _check_same(record: RunRecord, out: Path) -> None:
    problems = record.differences(read_json(out / "run.json"), free=FREE_SETTINGS)
    if problems:
        raise ValueError(
            f"{out} holds a run made otherwise: {'; '.join(problems)}. Go on with what it was made "
            "with, choose another out, or begin anew in the same folder with --no-resume"
        )
