"""A student that learns on its own drives what its teacher would have made of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sanawm_gym.train_wm.distill_stage import (
    DistillBatch,
    DistillObjective,
    DistillStageConfig,
    DistillTrainerConfig,
)
from tests.train_wm.conftest import FORMS, Form

SIGMAS = (1.0, 0.6)
CPU = torch.device("cpu")

Make = Callable[..., DistillStageConfig]


@pytest.fixture
def distill(latents: Path, autoencoder: Path, teachers: dict[str, Path], tmp_path: Path) -> Make:
    """Makes the distill stage's configuration for a form of network."""

    def make(
        name: str, steps: int = 1, out: str = "distill", **changes: object
    ) -> DistillStageConfig:
        form: Form = FORMS[name]
        settings = DistillStageConfig(
            latents=latents,
            autoencoder=autoencoder,
            init=teachers[name],
            teacher=teachers[name],
            model=form.model,
            origin=form.origin,
            clip=form.num_latents,
            sigmas=SIGMAS,
            batch_size=1,
            generator_every=2,
            trainer=DistillTrainerConfig(
                out=tmp_path / out, steps=steps, save_every=2, sample_every=0, learning_rate=1e-3
            ),
        )
        return replace(settings, **changes)  # type: ignore[arg-type]

    return make


def gradients(objective: torch.nn.Module) -> dict[str, float]:
    """Largest gradient of every trained parameter that has one."""
    return {
        name: float(parameter.grad.abs().max())
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("name", ["drive", "released"])
def test_the_critic_learns_every_step_and_the_student_in_its_turn(distill: Make, name: str) -> None:
    objective = DistillObjective(distill(name), CPU)
    for step in range(3):
        objective.zero_grad(set_to_none=True)
        loss, metrics = objective(objective.batch(step, 0, 1))
        loss.backward()
        found = gradients(objective)
        critic = [key for key in found if ".critic." in key]
        student = [key for key in found if ".critic." not in key]
        assert critic and max(found[key] for key in critic) > 0.0
        assert bool(student) == ("student" in metrics) == (step != 1)
    assert not any(p.requires_grad for p in objective.teacher[0].parameters())


def test_accumulated_passes_of_a_step_all_belong_to_it(distill: Make) -> None:
    config = distill("drive")
    run = replace(config.trainer, accumulation=2)
    objective = DistillObjective(replace(config, trainer=run, generator_every=5), CPU)
    taught = [step for step in range(24) if objective.trains_student(step)]
    assert taught == [0, 1, 10, 11, 20, 21]


def student_gradient(objective: DistillObjective, batch: DistillBatch) -> dict[str, Tensor]:
    """Gradient of the student's loss alone."""
    objective.zero_grad(set_to_none=True)
    loss, _ = objective(batch)
    loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in objective.student.network.named_parameters()
        if parameter.grad is not None
    }


def test_a_student_that_its_teacher_cannot_tell_from_itself_stands_still(distill: Make) -> None:
    """Critic and teacher are the same network as yet: without guidance they never disagree."""
    objective = DistillObjective(distill("released", guidance=0.0), CPU)
    batch = objective.batch(0, 0, 1)
    still = student_gradient(objective, batch)
    with torch.no_grad():
        objective.student.critic.network.final_layer.linear.bias += 1.0
    moved = student_gradient(objective, batch)
    largest = [max(float(one.abs().max()) for one in found.values()) for found in (still, moved)]
    assert largest[0] < 1e-4 * largest[1]


def test_the_student_moves_from_the_critics_answer_towards_the_teachers(distill: Make) -> None:
    """A critic whose clean latents are higher everywhere says: yours are too high."""
    objective = DistillObjective(distill("released", guidance=0.0, weigh_channels=False), CPU)
    batch = objective.batch(0, 0, 1)
    with torch.no_grad():
        objective.student.critic.network.final_layer.linear.bias -= 1.0  # v lower, x_0 higher
    weights = objective.student.network.final_layer.linear.bias
    objective.zero_grad(set_to_none=True)
    loss, _ = objective(batch)
    loss.backward()
    assert weights.grad is not None
    # x_0 = x_sigma - sigma v: to lower x_0, v must rise, against its gradient.
    assert float(weights.grad.max()) < 0.0


def test_bf16_keeps_the_gradient_after_passes_without_one(distill: Make) -> None:
    objective = DistillObjective(distill("drive", guidance=0.5), CPU)
    with torch.no_grad():
        objective.student.critic.network.final_layer.linear.bias += 1.0
    batch = next(
        found
        for found in (objective.batch(2 * turn, 0, 1) for turn in range(20))
        if len(found.noises) == len(SIGMAS)
    )
    exact = student_gradient(objective, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = student_gradient(objective, batch)
    assert exact.keys() == rough.keys()
    for name in ("final_layer.linear.weight", "blocks.0.attn.qkv.weight", "x_embedder.proj.weight"):
        a, b = exact[name].flatten(), rough[name].flatten()
        assert float(torch.cosine_similarity(a, b, dim=0)) > 0.9, name


def test_the_first_frame_is_nobodys_target(distill: Make) -> None:
    objective = DistillObjective(distill("drive", show="drawn"), CPU)
    batch = objective.batch(0, 0, 1)
    loss, _ = objective(batch)
    for noise in (batch.to_critic, batch.to_student):
        assert noise is not None
        noise[1][:, :, 0] += 100.0
    assert torch.equal(objective(batch)[0], loss)


def test_two_processes_draw_what_one_would_and_stop_at_the_same_level(distill: Make) -> None:
    objective = DistillObjective(distill("drive", batch_size=4), CPU)
    stops = set()
    for step in range(12):
        one, two = objective.batch(step, 0, 1), [objective.batch(step, rank, 2) for rank in (0, 1)]
        stops.add(len(one.noises))
        for rank, part in enumerate(two):
            assert torch.equal(part.noises, one.noises[:, rank::2])
            assert torch.equal(part.first, one.first[rank::2])
            assert torch.equal(part.to_critic[1], one.to_critic[1][rank::2])
    assert stops == {1, 2}


def test_settings_that_do_not_fit_are_refused(distill: Make) -> None:
    with pytest.raises(ValueError, match="init is missing"):
        distill("drive", init=None)
    with pytest.raises(ValueError, match="score_limits"):
        distill("drive", score_limits=(0.5, 0.2))
    with pytest.raises(ValueError, match="needs warp_condition"):
        DistillObjective(distill("released", show="drawn"), CPU)
    with pytest.raises(ValueError, match="99 latent frames or more"):
        DistillObjective(distill("drive", clip=99), CPU)
