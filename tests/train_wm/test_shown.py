"""Clips with and without the pictures before their frames, for networks that look at them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanawm_gym.train_wm.clip_stage import (
    BidirectionalStageConfig,
    ChunkCausalStageConfig,
    ClipBatch,
    ClipObjective,
    ClipStageConfig,
    check_shown,
)
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.train_wm.trajectories_stage import (
    TrajectoriesStageConfig,
    run_trajectories_stage,
)
from sanawm_gym.worldmodel.folder import write_json
from tests.conftest import random_weights
from tests.train_wm.conftest import TINY_NETWORK, TINY_RELEASED

KINDS = [BidirectionalStageConfig, ChunkCausalStageConfig]
CPU = torch.device("cpu")


def objective(
    kind: type[ClipStageConfig], latents: Path, autoencoder: Path, **changes: Any
) -> ClipObjective:
    settings: dict[str, Any] = {"clip": 4, "batch_size": 4, "model": TINY_NETWORK, **changes}
    run = TrainerConfig(out=latents)
    config = kind(latents=latents, autoencoder=autoencoder, trainer=run, **settings)
    torch.manual_seed(0)
    made = ClipObjective(config, CPU)
    random_weights(made.weights)
    return made


def warped(batch: ClipBatch) -> torch.Tensor:
    assert batch.camera.warped is not None
    return batch.camera.warped


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_before_each_frame_is_the_recorded_one(
    kind: type[ClipStageConfig], latents: Path, autoencoder: Path
) -> None:
    made = objective(kind, latents, autoencoder, shown=1.0)
    pairs = {
        (clip.latents[place].float(), clip.warped[place].float())
        for clip in made.train_clips
        for place in range(len(clip.latents))
    }
    batch = made.batch(0, 0, 1)
    for row in range(4):
        assert not warped(batch)[row, :, 0].any()  # nothing was seen before the piece
        for frame in range(1, 4):
            beside = [w for z, w in pairs if torch.equal(z, batch.x_0[row, :, frame])]
            assert any(torch.equal(warped(batch)[row, :, frame], w) and w.any() for w in beside)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_learns_from_pictures_where_it_is_shown_any(
    kind: type[ClipStageConfig], latents: Path, autoencoder: Path
) -> None:
    found = {}
    for shown in (0.0, 1.0):
        made = objective(kind, latents, autoencoder, shown=shown)
        batch = made.batch(0, 0, 1)
        loss, _ = made(batch)
        loss.backward()
        gradient = made.weights.network.warp_embedder.proj.weight.grad
        assert gradient is not None
        found[shown] = batch, float(gradient.abs().max())
    assert found[0.0][1] == 0.0 < found[1.0][1]
    assert not warped(found[0.0][0]).any()


def test_some_clips_come_with_their_pictures_whoever_draws_them(
    latents: Path, autoencoder: Path
) -> None:
    made = objective(BidirectionalStageConfig, latents, autoencoder)
    told = []
    for step in range(6):
        alone, halves = made.batch(step, 0, 1), [made.batch(step, rank, 2) for rank in (0, 1)]
        for rank, half in enumerate(halves):
            assert torch.equal(warped(half), warped(alone)[rank::2])
            assert torch.equal(half.eps, alone.eps[rank::2])
        told += warped(alone).flatten(1).any(dim=1).tolist()
    assert 4 < sum(told) < 20  # of 24, half on average


def test_a_network_without_the_switch_is_shown_nothing(latents: Path, autoencoder: Path) -> None:
    made = objective(
        ChunkCausalStageConfig, latents, autoencoder, model=TINY_RELEASED, shown=1.0, clip=7
    )
    batch = made.batch(0, 0, 1)
    assert batch.camera.warped is None
    assert bool(torch.isfinite(made(batch)[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_drawn_in_the_mode_that_is_trained(
    kind: type[ClipStageConfig], latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    made = objective(kind, latents, autoencoder, shown=1.0, clip=3)
    seen = []

    def note(_: object, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((named["mode"], bool(inputs[3].warped.any())))

    made.weights.network.register_forward_pre_hook(note, with_kwargs=True)
    made.sample(made.weights, tmp_path / "sample.png")
    assert set(seen) == {(made.config.mode, True)}


def test_chunks_without_a_picture_before_each_frame_are_refused() -> None:
    model = replace(TINY_RELEASED, warp_condition=True)
    settings: dict[str, Any] = {
        "latents": Path(),
        "autoencoder": Path(),
        "trainer": TrainerConfig(out=Path()),
        "model": model,
    }
    with pytest.raises(ValueError, match=r"chunks of 3, after a first one of 4.*expected shown=0"):
        ChunkCausalStageConfig(**settings)
    ChunkCausalStageConfig(**settings, shown=0.0)
    BidirectionalStageConfig(**settings)  # which looks both ways anyway
    with pytest.raises(ValueError, match=r"shown must lie in 0 \.\.\. 1, got 1.5"):
        BidirectionalStageConfig(**settings, shown=1.5)


@pytest.mark.parametrize(("shown", "is_shown"), [(0.0, True), (1.0, False), (None, True)])
def test_a_teacher_is_not_shown_what_it_never_saw(
    shown: float | None, is_shown: bool, tmp_path: Path
) -> None:
    check_shown(tmp_path, is_shown=is_shown)  # it does not say
    config = {"clean_first": 0.9} | ({} if shown is None else {"shown": shown})
    write_json(tmp_path / "run.json", {"config": config})
    check_shown(tmp_path, is_shown=not is_shown)
    with pytest.raises(ValueError, match="expected"):
        check_shown(tmp_path, is_shown=is_shown)
    write_json(tmp_path / "run.json", {"config": {**config, "shown": 0.5}})
    check_shown(tmp_path, is_shown=is_shown)


def test_trajectories_ask_their_teacher_what_it_learnt_from(
    latents: Path, teacher: Path, tmp_path: Path
) -> None:
    for file in teacher.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "run.json", {"config": {"clean_first": 0.9, "shown": 1.0}})
    config = TrajectoriesStageConfig(latents=latents, teacher=tmp_path, out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"trained with shown=1\.0.*expected pictures"):
        run_trajectories_stage(config)
