"""A student that learns where its teacher's trajectories lead, in either form of the network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanawm_gym.train_wm.ode_stage import (
    OdeObjective,
    OdeStageConfig,
    OdeTrainerConfig,
)
from sanawm_gym.train_wm.trajectories_stage import (
    TrajectoriesStageConfig,
    run_trajectories_stage,
)
from tests.train_wm.conftest import FORMS, Form

SIGMAS = (1.0, 0.6)
CPU = torch.device("cpu")

Make = Callable[..., OdeStageConfig]


@pytest.fixture(scope="module")
def trajectories(
    latents: Path,
    autoencoder: Path,
    teachers: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Trajectories of either teacher."""
    found = {}
    for name, folder in teachers.items():
        found[name] = tmp_path_factory.mktemp(name)
        run_trajectories_stage(
            TrajectoriesStageConfig(
                latents=latents,
                autoencoder=autoencoder,
                teacher=folder,
                out=found[name],
                clip=FORMS[name].num_latents,
                num_clips=2,
                sigmas=SIGMAS,
                steps=3,
                guidance=1.0,
            )
        )
    return found


@pytest.fixture
def ode(
    latents: Path,
    autoencoder: Path,
    teachers: dict[str, Path],
    trajectories: dict[str, Path],
    tmp_path: Path,
) -> Make:
    """Makes the ode stage's configuration for a form of network."""

    def make(name: str, steps: int = 1, out: str = "ode", **changes: object) -> OdeStageConfig:
        form: Form = FORMS[name]
        settings = OdeStageConfig(
            latents=latents,
            autoencoder=autoencoder,
            trajectories=trajectories[name],
            init=teachers[name],
            model=form.model,
            origin=form.origin,
            batch_size=2,
            trainer=OdeTrainerConfig(
                out=tmp_path / out, steps=steps, warmup=0, schedule="constant",
                save_every=2, sample_every=0,
            ),
        )  # fmt: skip
        return replace(settings, **changes)  # type: ignore[arg-type]

    return make


def test_a_student_learns_where_trajectories_lead(ode: Make) -> None:
    torch.manual_seed(1)
    objective = OdeObjective(ode("released", form="chunk_causal", init=None), CPU)
    optimizer = torch.optim.AdamW(objective.trained().parameters(), 3e-3)
    losses = []
    for step in range(10):
        loss, _ = objective(objective.batch(step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@torch.no_grad()
def test_a_stream_reads_what_a_clip_with_a_clean_past_reads(ode: Make) -> None:
    objective = OdeObjective(ode("released"), CPU)
    batch = objective.batch(0, 0, 1)
    text = objective.weights.text(batch.captions)
    sigma, x_sigma = torch.full((2, 7), 0.6), batch.x_sigma.clone()
    sigma[:, :4], x_sigma[:, :, :4] = 0.0, batch.x_0[:, :, :4]
    stream, clip = (
        read(batch, x_sigma, sigma, batch.x_0, text)[:, :, 4:]
        for read in (objective._stream, objective._clip)
    )
    assert torch.allclose(stream, clip, atol=1e-4)


@torch.no_grad()
def test_a_stream_of_single_frames_is_read_in_two_passes_as_in_many(ode: Make) -> None:
    objective = OdeObjective(ode("drive"), CPU)
    batch = objective.batch(0, 0, 1)
    text = objective.weights.text(batch.captions)
    assert objective._reader() == objective._frames
    many, two = (
        read(batch, batch.x_sigma, batch.sigma, batch.x_0, text)[:, :, 1:]
        for read in (objective._stream, objective._frames)
    )
    assert torch.allclose(many, two, atol=1e-3)


def test_every_chunk_is_shown_at_one_level_of_the_trajectory(ode: Make) -> None:
    objective = OdeObjective(ode("released", form="chunk_causal", batch_size=32), CPU)
    batch = objective.batch(0, 0, 1)
    assert float(batch.sigma[:, 0].max()) == 0.0
    chunks = batch.sigma[:, 1:4], batch.sigma[:, 4:7]
    for chunk in chunks:
        assert bool((chunk == chunk[:, :1]).all())
        assert sorted(set(chunk.flatten().tolist())) == pytest.approx([0.0, 0.6, 1.0])
    assert not torch.equal(chunks[0], chunks[1])
    assert torch.equal(batch.x_sigma[:, :, 0], batch.x_0[:, :, 0])
    shown_clean = (batch.x_sigma == batch.x_0).all(dim=1).all(dim=-1).all(dim=-1)
    assert torch.equal(shown_clean, batch.sigma == 0)


def test_clean_frames_are_no_targets(ode: Make) -> None:
    objective = OdeObjective(ode("released", form="chunk_causal"), CPU)
    batch = objective.batch(0, 0, 1)
    sigma = torch.zeros_like(batch.sigma)
    sigma[:, 4:] = 0.6
    batch = replace(batch, sigma=sigma)
    loss, _ = objective(batch)
    # The truth of a frame that is shown clean may be anything: nobody is asked for it.
    other = batch.x_0.clone()
    other[:, :, :4] += 5.0
    assert torch.equal(objective(replace(batch, x_0=other))[0], loss)
    other[:, :, 4:] += 5.0
    assert not torch.equal(objective(replace(batch, x_0=other))[0], loss)


@torch.no_grad()
def test_two_processes_draw_what_one_would(ode: Make) -> None:
    objective = OdeObjective(ode("released", batch_size=4), CPU)
    one, two = objective.batch(3, 0, 1), [objective.batch(3, rank, 2) for rank in range(2)]
    for rank, part in enumerate(two):
        assert torch.equal(part.x_sigma, one.x_sigma[rank::2])
        assert part.captions == one.captions[rank::2]


def test_a_student_that_carries_pictures_needs_them(
    ode: Make, latents: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    run_trajectories_stage(
        TrajectoriesStageConfig(
            latents=latents, teacher=teachers["drive"], out=bare, clip=3, num_clips=1,
            sigmas=(1.0,), steps=1, guidance=1.0,
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match="with --autoencoder"):
        OdeObjective(ode("drive", trajectories=bare), CPU)
