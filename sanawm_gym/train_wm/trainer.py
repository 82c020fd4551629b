"""The training loop every stage shares.

A stage supplies an :class:`Objective`: a module whose forward pass returns the loss, and a
``batch`` that follows from the seed, the step, the rank and the objective's own progress, which
checkpoints keep. All randomness of a step is drawn in ``batch``, so a run that is interrupted and
resumed from its last checkpoint ends with the same weights, byte for byte on a CPU, as one that
never stopped.

Several processes share every batch (`processes`) and make of it what one would, up to rounding;
each may hold all the weights or a share of them (`sharding`).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from sanawm_gym.train_wm.checkpoint import load_checkpoint, save_checkpoint
from sanawm_gym.train_wm.moving_average import MovingAverage
from sanawm_gym.train_wm.objective import Objective
from sanawm_gym.train_wm.optimizer import learning_rate, make_optimizer
from sanawm_gym.train_wm.processes import gather_objects, join_progress, make_team
from sanawm_gym.train_wm.run_record import RunRecord
from sanawm_gym.train_wm.sharding import (
    Sharding,
    gather,
    load_optimizer,
    load_weights,
    make_accelerator,
    prepare,
)
from sanawm_gym.train_wm.stop_signal import StopSignal
from sanawm_gym.worldmodel.folder import write_json

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Objective", "TrainerConfig", "train"]

_LOG_EVERY = 20
"""Steps whose mean makes one point of a curve."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and how fast a stage trains, and what it leaves behind."""

    out: Path
    """Folder for the checkpoint, TensorBoard logs, samples and the exported weights."""
    steps: int = 10_000
    """Optimiser steps, over which the learning rate decays."""
    stop_at: int | None = None
    """Step to finish at before the last one, >= 1; None runs to the end. Adversarial training can
    be past its best before its schedule is."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """Decay of the learning rate after warm-up, down to 2 % of the peak."""
    warmup: int = 100
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW moments."""
    weight_decay: float = 0.0
    """AdamW decay of matrices; vectors (gains, biases, gates) are never decayed."""
    clip: float = 1.0
    """Largest gradient norm; larger gradients are scaled down."""
    ema: float = 0.995
    """Decay of the moving average of the weights; the average is what gets exported."""
    accumulation: int = 1
    """Forward passes a step."""
    precision: Literal["no", "bf16"] = "no"
    """Autocast of matrix products and convolutions; recurrences stay in float32."""
    sharding: Sharding = "none"
    """What each of several processes keeps of weights, moments and average: ``none`` shares
    nothing out (DDP), ``fsdp2`` leaves each its part. ``accelerate launch --use_fsdp`` implies
    ``fsdp2``."""
    context_parallel: int = 1
    """Processes that share the time of every clip, >= 1, of which the number of processes is a
    multiple: each holds a slice of its latent frames, so that minute clips need not fit into one.
    For the stages that train on whole clips, ``bidirectional`` and ``chunk-causal``."""
    threads: int = 1
    """CPU threads of this process."""
    save_every: int = 500
    """Steps between checkpoints."""
    sample_every: int = 1000
    """Steps between sample videos; 0 for none."""
    seed: int = 0
    """Seed of initial weights, data order and noise."""
    resume: bool = True
    """Continue from ``out`` when it holds a checkpoint. It has to be of the same configuration and
    data; only steps, stop_at, threads, sharding, context_parallel, save_every and sample_every may
    change, and the number of processes."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if self.stop_at is not None and not 1 <= self.stop_at <= self.steps:
            raise ValueError(f"stop_at must lie in 1 ... steps ({self.steps}), got {self.stop_at}")
        for name in ("steps", "accumulation", "context_parallel", "threads", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")


def train(make_objective: Callable[[torch.device], Objective], config: TrainerConfig) -> None:
    """Run a stage to its end, or continue it.

    Args:
        make_objective: Builds the objective on a device, after the seed is set.
        config: See :class:`TrainerConfig`.

    Raises:
        ValueError: If ``out`` holds a checkpoint of a run with another configuration or other data,
            or the processes cannot share the time of clips as asked.
    """
    accelerator = make_accelerator(config.sharding, config.precision, config.accumulation)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    team = make_team(config.context_parallel) if config.context_parallel > 1 else None
    config.out.mkdir(parents=True, exist_ok=True)
    objective = make_objective(accelerator.device)
    if team is not None:
        objective.share_time(team)
    _Run(config, accelerator, objective).run()


class _Run:
    """One process's share of a training run."""

    def __init__(self, config: TrainerConfig, accelerator: Accelerator, objective: Objective):
        self.config, self.accelerator, self.objective = config, accelerator, objective
        self.is_main, self.step = accelerator.is_main_process, 0
        self.record = RunRecord.of(objective.stage_config())
        self.described = {
            "objective": type(objective).__name__,
            "num_parameters": sum(p.numel() for p in objective.trained().parameters()),
        }
        # Whole and of plain tensors, for the average to be seen and exported in.
        self.blank = copy.deepcopy(objective.trained()).cpu() if self.is_main else None
        optimizer = make_optimizer(objective, config)
        self.model, self.optimizer = prepare(accelerator, objective, optimizer)
        self.average = MovingAverage(objective.trained(), config.ema)
        self.stop, self.stopped_by = StopSignal(), 0
        self.writer: Any = None

    def run(self) -> None:
        self._resume()
        self.writer = self._make_writer()
        try:
            with self.stop:
                self._steps(self.config.stop_at or self.config.steps)
        finally:
            if self.writer is not None:
                self.writer.close()
        if self.stopped_by:
            self._say(f"signal {self.stopped_by}: stopped at step {self.step}; run again to go on")
            raise SystemExit(128 + self.stopped_by)
        weights = self._averaged()
        if weights is not None:
            self.objective.export(weights, self.config.out)
            self._say(f"finished {self.step} steps; weights are in {self.config.out}")

    def _steps(self, last: int) -> None:
        """Go on to step ``last`` or to a signal, and leave a checkpoint."""
        shown = {"disable": not self.is_main, "unit": "step", "mininterval": 5.0}
        bar = tqdm(total=last, initial=self.step, **shown)
        recent: defaultdict[str, list[float]] = defaultdict(list)
        while self.step < last and not self._is_stopped():
            for name, value in self._optimizer_step():
                recent[name].append(float(value))
            self.step += 1
            bar.update()
            if self.step % _LOG_EVERY == 0 or self.step == last:
                means = self._means(recent)
                recent.clear()
                bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()})
                self._write(means)
            if self.step % self.config.save_every == 0 or self.step == last:
                self._save()
            if self.config.sample_every and self.step % self.config.sample_every == 0:
                self._sample()
        bar.close()
        if self.stopped_by:
            self._write(self._means(recent))
            self._save()

    def _is_stopped(self) -> bool:
        """Whether any process has been told to stop; all of them then do, at the same step."""
        number = torch.tensor([self.stop.number or 0], device=self.accelerator.device)
        self.stopped_by = int(self.accelerator.gather(number).max())
        return self.stopped_by > 0

    def _optimizer_step(self) -> list[tuple[str, Tensor]]:
        """Take a step; returns the scalars of its forward passes and of the step itself."""
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        told: list[tuple[str, Tensor]] = []
        for part in range(self.config.accumulation):
            batch = self.objective.batch(
                self.step * self.config.accumulation + part,
                self.accelerator.process_index // self.config.context_parallel,
                self.accelerator.num_processes // self.config.context_parallel,
            )
            with self.accelerator.accumulate(self.model):
                with self.accelerator.autocast():
                    loss, metrics = self.model(batch)
                told += metrics.items()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    told += [("gradient_norm", self._clip()), ("learning_rate", torch.tensor(rate))]
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.objective.trained())
        return told

    def _clip(self) -> Tensor:
        """Clip the gradient; returns its norm, which is that of all processes."""
        parameters = self.objective.trained().parameters()
        norm = self.accelerator.clip_grad_norm_(parameters, self.config.clip)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"gradient norm is {float(norm)} at step {self.step}: lower the learning rate or "
                "resume from the last checkpoint"
            )
        return norm

    def _means(self, recent: dict[str, list[float]]) -> dict[str, float]:
        """Means of scalars over the last steps and all processes."""
        parts = gather_objects(dict(recent))
        names = dict.fromkeys(name for part in parts for name in part)
        found = {name: [x for part in parts for x in part.get(name, [])] for name in names}
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _resume(self) -> None:
        if not self.config.resume:
            return
        found = load_checkpoint(self.config.out)
        if found is None:
            return
        self.record.check(found.get("record"), self.config.out)
        load_weights(self.objective.trained(), found["model"])
        self.average.load_state(found["average"])
        load_optimizer(self.optimizer, found["optimizer"])
        self.objective.load_progress(found["progress"])
        self.step = found["step"]
        self._say(f"resumed {self.config.out} at step {self.step}")

    def _save(self) -> None:
        content = {
            "step": self.step,
            "model": gather(self.objective.trained().state_dict(), self.is_main),
            "average": self.average.state(self.is_main),
            "optimizer": gather(self.optimizer.state_dict(), self.is_main),
            "progress": join_progress(gather_objects(gather(self.objective.progress(), True))),
            "record": asdict(self.record),
        }
        if self.is_main:
            save_checkpoint(self.config.out, content)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _averaged(self) -> nn.Module | None:
        """The averaged weights in a module of their own, on the main process."""
        values = self.average.gathered(self.is_main)
        if self.blank is None:
            return None
        weights = copy.deepcopy(self.blank).requires_grad_(False)
        for name, parameter in weights.named_parameters():
            parameter.copy_(values[name])
        for name, buffer in weights.named_buffers():
            buffer.copy_(self.objective.trained().get_buffer(name))
        return weights.to(self.accelerator.device)

    def _sample(self) -> None:
        weights = self._averaged()
        if weights is None:
            return
        folder = self.config.out / "samples"
        folder.mkdir(exist_ok=True)
        with torch.no_grad():
            scores = self.objective.sample(weights, folder / f"{self.step:07d}.png")
        self._write(scores)
        self._say(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))

    def _write(self, scalars: dict[str, float]) -> None:
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, self.step)

    def _make_writer(self) -> Any:
        if not self.is_main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        described = {
            **self.described,
            "first_step": self.step,
            **self.record.describe(self.accelerator.device, self.accelerator.num_processes),
        }
        write_json(self.config.out / "run.json", described)
        return SummaryWriter(str(self.config.out / "tensorboard"))

    def _say(self, text: str) -> None:
        if self.is_main:
            tqdm.write(text)
