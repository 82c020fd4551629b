"""Stage ``distill``: self-forcing with distribution matching.

The student draws clips out of its own past, exactly as it is driven. Whether they look like its
teacher's is not asked frame by frame, for the future is open, but of the distribution: the frozen
bidirectional teacher and a critic, which follows the student's drawings by flow matching, both say
where a noised drawing comes from, and the student moves from what the critic says towards what the
teacher says (`distribution_matching`). Every step teaches the critic; every fifth the student.

At which of its levels the student stops is drawn once a step and holds for all chunks. Only that
level has a gradient (`student_stream`), so memory does not grow with the number of levels.

A student with ``warp_condition`` is shown its own last picture, carried over the ground. Teacher
and critic need not be: shown nothing, they judge the clip as a whole, drift included. Shown the
same pictures as the student, they would judge each frame given the one before it, and take what has
gone wrong for granted.

[sources: self forcing, Huang et al. 2025, arXiv 2506.08009; DMD, Yin et al. 2024, arXiv 2311.18828
and 2405.14867; settings of the released SANA-WM recipe]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sanawm_gym.train_wm.clip_path import ClipPath, Origin
from sanawm_gym.train_wm.clip_stage import check_shown
from sanawm_gym.train_wm.distribution_matching import (
    matching_direction,
    matching_loss,
    score_sigma,
)
from sanawm_gym.train_wm.judge import Question, drawn_frames
from sanawm_gym.train_wm.network_stage import NetworkObjective, NetworkStageConfig
from sanawm_gym.train_wm.processes import Rows, rows_of_rank
from sanawm_gym.train_wm.student_sample import sample_student
from sanawm_gym.train_wm.student_stream import (
    RELEASED_SIGMAS,
    Drawing,
    StudentStream,
    check_sigmas,
)
from sanawm_gym.train_wm.trainer import Objective, TrainerConfig, train
from sanawm_gym.train_wm.weights import WorldWeights, load_world_weights
from sanawm_gym.worldmodel.noise import mix_seed

_EXIT = 0xD157
"""Tells the draw of the last level from other draws of a step."""


@dataclass(frozen=True, kw_only=True)
class DistillTrainerConfig(TrainerConfig):
    """As the trainer of the other stages, with the defaults of the released recipe."""

    steps: int = 3000
    """Steps, each of which teaches the critic; 700 on short and 3000 on long clips as released."""
    learning_rate: float = 1e-5
    """Peak learning rate of AdamW for the student; the critic's is ``critic_rate`` times it."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Decay of the learning rate after warm-up, down to 2 % of the peak."""
    warmup: int = 0
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.0, 0.999)
    """AdamW moments."""
    clip: float = 10.0
    """Largest gradient norm, of student and critic together where both learn."""
    ema: float = 0.98
    """Decay of the moving average of the weights each step; the average is what gets exported."""


@dataclass(frozen=True, kw_only=True)
class DistillStageConfig(NetworkStageConfig):
    """Distil a many-step teacher into a few-step student on the student's own drives."""

    trainer: DistillTrainerConfig
    """Length, speed and output folder."""
    teacher: Path
    """Folder written by the ``bidirectional`` stage: the real score. ``init`` names the student."""
    critic: Path | None = None
    """Folder from which the critic starts; None starts it as the teacher. It is thrown away."""
    clip: int = 16
    """Latent frames that the student draws each step, the given first one included, >= 2; 43 and
    then 121 of 8 raw frames each as released."""
    batch_size: int = 2
    """Clips a forward pass, of all processes together, >= 1."""
    sigmas: tuple[float, ...] = RELEASED_SIGMAS
    """Noise levels the student draws at, falling from 1: those of the world to be."""
    origin: Origin = "moving"
    """Where the student's cameras are measured from: the last picture before each chunk, as worlds
    are driven here, or the clip's first picture as in the released model."""
    generator_every: int = 5
    """Steps of the critic for one of the student, >= 1."""
    critic_rate: float = 0.2
    """Learning rate of the critic over that of the student, > 0; 2e-6 over 1e-5 as released."""
    guidance: float = 1.0
    """Weight w of the caption in the real score v + w (v - v_negative), >= 0; 0 is none and saves a
    pass of the teacher. 3 as released. (As a scale, s = 1 + w.)"""
    negative_prompt: str = ""
    """Caption the real score keeps away from; the released recipe has a long list of flaws, which
    only a teacher that has read of flaws understands."""
    shift: float = 10.0
    """Shift of the levels at which drawings are judged and the critic learns, > 0; as released."""
    score_limits: tuple[float, float] = (0.02, 0.98)
    """Least and largest of these levels, in 0 ... 1; timesteps 20 and 980 as released."""
    show: Literal["nothing", "drawn"] = "nothing"
    """What teacher and critic with ``warp_condition`` are shown: nothing, or what the student was
    shown. The teacher has to have been trained so (``shown`` of the ``bidirectional`` stage)."""
    caption_dropout: float = 0.0
    """Share of clips drawn and judged under an empty caption, 0 to 1; none as released."""

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        check_sigmas(self.sigmas)
        for name, least in (("clip", 2), ("batch_size", 1), ("generator_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        low, high = self.score_limits
        if not 0 < low < high < 1:
            raise ValueError(f"score_limits must rise within 0 ... 1, got {self.score_limits}")
        if self.guidance < 0 or self.critic_rate <= 0:
            raise ValueError(
                f"got guidance={self.guidance} and critic_rate={self.critic_rate}, expected at "
                "least 0 and more than 0"
            )
        if self.init is None:
            raise ValueError("init is missing: give the folder of the ode stage, or of another one")


@dataclass(frozen=True)
class DistillBatch:
    """First pictures, cameras, and all the noise of a step."""

    first: Float[Tensor, "b c 1 y x"]
    path: ClipPath
    captions: list[str]
    noises: Float[Tensor, "k b c t y x"]
    """One a level down to the one at which the student stops."""
    to_critic: tuple[Float[Tensor, " b"], Float[Tensor, "b c t y x"]]
    """Level and noise at which the critic learns."""
    to_student: tuple[Float[Tensor, " b"], Float[Tensor, "b c t y x"]] | None
    """Those at which the drawing is judged; None in steps that teach the critic alone."""


class DistillWeights(WorldWeights):
    """The student, and the critic that is thrown away afterwards."""

    def __init__(self, student: WorldWeights, critic: WorldWeights) -> None:
        super().__init__(student.network, student.text_encoder)
        self.critic = critic


class DistillObjective(NetworkObjective):
    """Distribution-matching loss of the student, flow-matching loss of the critic."""

    def __init__(self, config: DistillStageConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.config = config
        teacher = load_world_weights(config.teacher).eval().requires_grad_(False).to(device)
        critic = load_world_weights(config.critic or config.teacher).to(device)
        self._check_alike(teacher, critic)
        if teacher.network.config.warp_condition:
            check_shown(config.teacher, is_shown=config.show == "drawn")
        critic.network.gradient_checkpointing = config.gradient_checkpointing
        self.teacher = [teacher]  # a list hides it from training
        self.student = DistillWeights(self.weights, critic)
        self.weights = self.student
        self.clips = [c for c in self.train_clips if c.latents.shape[0] >= config.clip]
        if not self.clips:
            raise ValueError(f"no clip of {config.latents} has {config.clip} latent frames or more")
        see = self.autoencoder[0].to(device)
        self.stream = StudentStream(self.student.network, see, config.origin)

    def _check_alike(self, *judges: WorldWeights) -> None:
        mine = self.config.model
        for judge in judges:
            other = judge.network.config
            for name in ("in_channels", "temporal_stride"):
                if getattr(mine, name) != getattr(other, name):
                    raise ValueError(
                        f"{name} is {getattr(other, name)} in the teacher or critic and "
                        f"{getattr(mine, name)} in the student: both must draw the same latents"
                    )
            if self.config.show == "drawn" and not (mine.warp_condition and other.warp_condition):
                raise ValueError(
                    "got show='drawn', which needs warp_condition in student, teacher and critic"
                )

    def learning_rate_factor(self, name: str) -> float:
        """The critic learns more slowly and more often."""
        return self.config.critic_rate if name.startswith("critic.") else 1.0

    def trains_student(self, step: int) -> bool:
        """Whether forward pass number ``step`` belongs to a step of the student."""
        return step // self.config.trainer.accumulation % self.config.generator_every == 0

    def batch(self, step: int, rank: int, num_ranks: int) -> DistillBatch:
        """Beginnings of random clips and all noise; all ranks stop at the same level."""
        config = self.config
        seed = mix_seed(config.trainer.seed, step)
        num_levels = 1 + mix_seed(seed, _EXIT) % len(config.sigmas)
        numbers = rows_of_rank("batch_size", config.batch_size, rank, num_ranks)
        rows = Rows(numbers, seed)
        clips = rows.pick(self.clips)
        first = torch.stack([clip.latents[:1].float() for clip in clips]).transpose(1, 2)
        shape = (first.shape[1], config.clip, *first.shape[3:])
        dropped = (rows.rand() < config.caption_dropout).tolist()

        def noise() -> tuple[Tensor, Tensor]:
            return score_sigma(rows.rand(), config.shift, config.score_limits), rows.randn(*shape)

        return DistillBatch(
            first=first,
            path=ClipPath.of(clips, config.clip, config.model.temporal_stride, config.picture),
            captions=[
                "" if drop else clip.caption for drop, clip in zip(dropped, clips, strict=True)
            ],
            noises=rows.randn(num_levels, *shape).transpose(0, 1),
            to_critic=noise(),
            to_student=noise() if self.trains_student(step) else None,
        )

    def forward(self, batch: DistillBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's error, and in its turn the student's loss; neither reaches the other."""
        learns = torch.is_grad_enabled() and batch.to_student is not None
        with torch.set_grad_enabled(learns):
            drawing = self.stream.draw(
                batch.first.to(self.device),
                batch.noises.to(self.device),
                self.config.sigmas[: len(batch.noises)],
                self.student.text(batch.captions),
                batch.path,
            )
        loss = self.critic_loss(drawing, batch)
        metrics = {"critic": loss.detach(), "drawn_std": drawing.latents.detach().std()}
        if batch.to_student is not None:
            student_loss, gap = self.student_loss(drawing, batch)
            loss = loss + student_loss
            metrics |= {"student": student_loss.detach(), "fake_from_real": gap}
        return loss, metrics

    def critic_loss(self, drawing: Drawing, batch: DistillBatch) -> Float[Tensor, ""]:
        """Velocity error of the critic on the student's drawings, which are taken as they are."""
        question, eps = self._ask(drawing, batch.path, batch.to_critic)
        v = question.velocity(self.student.critic, batch.captions)
        error = self.velocity_error(v, drawing.latents.detach(), eps)
        is_target = drawn_frames(drawing.latents)
        return (error * is_target).sum() / is_target.sum()

    def student_loss(
        self, drawing: Drawing, batch: DistillBatch
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Matching loss, and how far critic and teacher disagree (0 at the optimum)."""
        assert batch.to_student is not None
        teacher, w = self.teacher[0], self.config.guidance
        is_target = drawn_frames(drawing.latents)
        with torch.no_grad():
            question, _ = self._ask(drawing, batch.path, batch.to_student)
            fake = question.velocity(self.student.critic, batch.captions)
            real = question.velocity(teacher, batch.captions)
            if w > 0:
                negative = [self.config.negative_prompt] * len(batch.captions)
                real = real + w * (real - question.velocity(teacher, negative))
            direction = matching_direction(
                drawing.latents,
                question.clean(real),
                question.clean(fake),
                is_target,
                self.channel_weights,
            )
        loss = matching_loss(drawing.latents, direction, is_target)
        return loss, direction[:, :, 1:].abs().mean()

    def _ask(
        self, drawing: Drawing, path: ClipPath, noise: tuple[Tensor, Tensor]
    ) -> tuple[Question, Float[Tensor, "b c t y x"]]:
        """The drawing with noise on it, and the noise."""
        sigma, eps = (x.to(self.device) for x in noise)
        shown = drawing.shown if self.config.show == "drawn" else None
        return Question.of(drawing.latents.detach(), sigma, eps, path, shown), eps

    def sample(self, weights: nn.Module, path: Path) -> dict[str, float]:
        """Held-out clips drawn by the student alone, below the truth."""
        assert isinstance(weights, WorldWeights)
        see = self.autoencoder[0]
        return sample_student(
            weights,
            StudentStream(weights.network, see, self.config.origin),
            see,
            self.held_out_clips,
            num_latents=self.config.clip,
            sigmas=self.config.sigmas,
            picture=self.config.picture,
            path=path,
        )

    def export(self, weights: nn.Module, out: Path) -> None:
        """Write network and text encoder of the student; the critic stays behind."""
        assert isinstance(weights, DistillWeights)
        weights.save(out)


def run_distill_stage(config: DistillStageConfig) -> None:
    """Train, or go on training, a few-step student against its teacher's distribution."""

    def make(device: torch.device) -> Objective:
        return DistillObjective(config, device)

    train(make, config.trainer)
