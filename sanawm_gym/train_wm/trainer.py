"""The training loop every stage shares.

A stage supplies an :class:`Objective`: a module whose forward pass returns the loss, and a
``batch`` that follows from the seed, the step, the rank and the objective's own progress, which
checkpoints keep. All randomness of a step is drawn in ``batch``, so a run that is interrupted and
resumed from its last checkpoint ends with the same weights, byte for byte on a CPU, as one that
never stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from sanawm_gym.train_wm.checkpoint import load_checkpoint, save_checkpoint
from sanawm_gym.train_wm.run_record import RunRecord
from sanawm_gym.train_wm.stop_signal import StopSignal
from sanawm_gym.worldmodel.folder import write_json

if TYPE_CHECKING:
    from accelerate import Accelerator

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
    data; only steps, stop_at, threads, save_every and sample_every may change."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if self.stop_at is not None and not 1 <= self.stop_at <= self.steps:
            raise ValueError(f"stop_at must lie in 1 ... steps ({self.steps}), got {self.stop_at}")
        for name in ("steps", "accumulation", "threads", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")


class Objective(nn.Module, ABC):
    """What a stage trains: parameters, data and loss in one module."""

    def stage_config(self) -> Any:
        """The stage's whole configuration, which every objective keeps as ``config``."""
        return vars(self)["config"]

    @abstractmethod
    def batch(self, step: int, rank: int, num_ranks: int) -> Any:
        """Draw the data and all the noise of one forward pass."""

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and the scalars worth logging."""

    @abstractmethod
    def trained(self) -> nn.Module:
        """Part of the module whose parameters are optimised, averaged and exported."""

    @abstractmethod
    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Write a picture of what the averaged ``weights`` can do; return held-out scores."""

    @abstractmethod
    def export(self, weights: nn.Module, out: Path) -> None:
        """Write the finished weights for the next stage."""

    def learning_rate_factor(self, name: str) -> float:
        """Learning rate of the trained parameter ``name`` over that of the run."""
        return 1.0

    def progress(self) -> dict[str, Any]:
        """Whatever beside the weights a resumed run needs; tensors and plain values."""
        return {}

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Take back what :meth:`progress` returned."""


def train(make_objective: Callable[[torch.device], Objective], config: TrainerConfig) -> None:
    """Run a stage to its end, or continue it.

    Args:
        make_objective: Builds the objective on a device, after the seed is set.
        config: See :class:`TrainerConfig`.

    Raises:
        ValueError: If ``out`` holds a checkpoint of a run with another configuration or other data.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    accelerator = Accelerator(
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulation,
        # The original layout holds an embedder that no forward pass uses.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    config.out.mkdir(parents=True, exist_ok=True)
    objective = make_objective(accelerator.device)
    average = AveragedModel(objective.trained(), multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    average.requires_grad_(False)
    optimizer = torch.optim.AdamW(
        _parameter_groups(objective, config.weight_decay),
        lr=config.learning_rate,
        betas=config.betas,
    )
    model, optimizer = accelerator.prepare(objective, optimizer)
    _Run(config, accelerator, objective, model, average, optimizer).run()


class _Run:
    """One process's share of a training run."""

    def __init__(
        self,
        config: TrainerConfig,
        accelerator: Accelerator,
        objective: Objective,
        model: nn.Module,
        average: AveragedModel,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.config, self.accelerator, self.objective = config, accelerator, objective
        self.model, self.average, self.optimizer = model, average, optimizer
        self.record = RunRecord.of(objective.stage_config())
        self.step = 0
        self.stop = StopSignal()
        self.writer: Any = None

    def run(self) -> None:
        self._resume()
        self.writer = self._make_writer()
        with self.stop:
            self._steps(self.config.steps if self.config.stop_at is None else self.config.stop_at)
        if self.stop.number is not None:
            self._say(
                f"stopped by signal {self.stop.number} at step {self.step}; run again to go on"
            )
            raise SystemExit(128 + self.stop.number)
        if self.accelerator.is_main_process:
            self.objective.export(self.average.module, self.config.out)
            self._say(f"finished {self.step} steps; weights are in {self.config.out}")

    def _steps(self, last: int) -> None:
        """Go on to step ``last`` or to a signal, and leave a checkpoint."""
        bar = tqdm(
            total=last,
            initial=self.step,
            disable=not self.accelerator.is_main_process,
            unit="step",
            mininterval=5.0,
        )
        recent: defaultdict[str, list[float]] = defaultdict(list)
        while self.step < last and self.stop.number is None:
            for name, value in self._optimizer_step().items():
                recent[name].append(float(value))
            self.step += 1
            bar.update()
            if self.step % _LOG_EVERY == 0:
                means = {name: sum(values) / len(values) for name, values in recent.items()}
                recent.clear()
                bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()})
                for name, mean in means.items():
                    if self.writer is not None:
                        self.writer.add_scalar(name, mean, self.step)
            if self.step % self.config.save_every == 0 or self.step == last:
                self._save()
            if self.config.sample_every and self.step % self.config.sample_every == 0:
                self._sample()
        bar.close()
        if self.stop.number is not None:
            self._save()

    def _optimizer_step(self) -> dict[str, Tensor]:
        rate = self.config.learning_rate * learning_rate_factor(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        metrics: dict[str, Tensor] = {}
        for part in range(self.config.accumulation):
            batch = self.objective.batch(
                self.step * self.config.accumulation + part,
                self.accelerator.process_index,
                self.accelerator.num_processes,
            )
            with self.accelerator.accumulate(self.model):
                loss, metrics = self.model(batch)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(
                        self.objective.trained().parameters(), self.config.clip
                    )
                    metrics = {
                        **metrics,
                        "gradient_norm": norm,
                        "learning_rate": torch.tensor(rate),
                    }
                    if not torch.isfinite(norm):
                        raise FloatingPointError(
                            f"gradient norm is {float(norm)} at step {self.step}: lower the "
                            "learning rate or resume from the last checkpoint"
                        )
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.objective.trained())
        return metrics

    def _resume(self) -> None:
        if not self.config.resume:
            return
        found = load_checkpoint(self.config.out)
        if found is None:
            return
        self.record.check(found.get("record"), self.config.out)
        self.objective.trained().load_state_dict(found["model"])
        self.average.load_state_dict(found["average"])
        self.optimizer.load_state_dict(found["optimizer"])
        rank = str(self.accelerator.process_index)
        if rank in found["progress"]:
            self.objective.load_progress(found["progress"][rank])
        self.step = found["step"]
        self._say(f"resumed {self.config.out} at step {self.step}")

    def _save(self) -> None:
        from accelerate.utils import gather_object

        mine = {str(self.accelerator.process_index): self.objective.progress()}
        progress: dict[str, Any] = {}
        for part in gather_object([mine]):
            progress.update(part)
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.config.out,
                {
                    "step": self.step,
                    "model": self.objective.trained().state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "progress": progress,
                    "record": asdict(self.record),
                },
            )
        self.accelerator.wait_for_everyone()

    def _sample(self) -> None:
        if not self.accelerator.is_main_process:
            return
        folder = self.config.out / "samples"
        folder.mkdir(exist_ok=True)
        with torch.no_grad():
            scores = self.objective.sample(self.average.module, folder / f"{self.step:07d}.png")
        for name, value in scores.items():
            if self.writer is not None:
                self.writer.add_scalar(name, value, self.step)
        self._say(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))

    def _make_writer(self) -> Any:
        if not self.accelerator.is_main_process:
            return None
        from torch.utils.tensorboard import SummaryWriter

        described = {
            "objective": type(self.objective).__name__,
            "num_parameters": sum(p.numel() for p in self.objective.trained().parameters()),
            "first_step": self.step,
            **self.record.describe(self.accelerator.device, self.accelerator.num_processes),
        }
        write_json(self.config.out / "run.json", described)
        return SummaryWriter(str(self.config.out / "tensorboard"))

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(text)


def learning_rate_factor(step: int, config: TrainerConfig) -> float:
    """Share of the peak learning rate in force at ``step``."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "linear":
        shape = 1.0 - done
    else:
        shape = 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * done))))
    return 0.02 + 0.98 * shape


def _parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters by what is asked of the optimiser; vectors are not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.trained().named_parameters():
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((decay, objective.learning_rate_factor(name)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]
