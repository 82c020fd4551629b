"""Clips without a camera teach the network what guidance compares with."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanawm_gym.train_wm.clip_stage import (
    BidirectionalStageConfig,
    ChunkCausalStageConfig,
    ClipObjective,
    ClipStageConfig,
)
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.worldmodel import SanaWM
from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera
from tests.conftest import random_weights
from tests.train_wm.conftest import TINY_NETWORK

GRID = (3, 4)


def objective(
    config_class: type[ClipStageConfig], latents: Path, autoencoder: Path, **changes: object
) -> ClipObjective:
    settings: dict[str, object] = {"clip": 5, "model": TINY_NETWORK, **changes}
    config = config_class(
        latents=latents,
        autoencoder=autoencoder,
        trainer=TrainerConfig(out=latents),
        **settings,  # type: ignore[arg-type]
    )
    made = ClipObjective(config, torch.device("cpu"))
    random_weights(made.weights)
    return made


def moving(num_rows: int) -> CameraCondition:
    poses = torch.eye(4).repeat(num_rows, 9, 1, 1)
    poses[:, :, 2, 3] = torch.arange(9.0)
    return clip_camera(
        poses,
        torch.tensor([[60.0, 60.0, 64.0, 36.0]]).repeat(num_rows, 1),
        image_size=(72, 128),
        grid=GRID,
        config=TINY_NETWORK,
    )


@torch.no_grad()
@pytest.mark.parametrize("mode", ["bidirectional", "chunk_causal"])
def test_a_row_that_is_not_told_its_camera_is_one_without(mode: str) -> None:
    network = SanaWM(replace(TINY_NETWORK, warp_condition=False))
    random_weights(network)
    x, text = torch.randn(3, 4, 3, *GRID), torch.randn(3, 5, 16)
    prompt = network.encode_text(text, torch.ones(3, 5, dtype=torch.bool))
    level = torch.full((3, 3), 500.0)

    def velocity(camera: CameraCondition | None) -> torch.Tensor:
        return network(x, level, prompt, camera, mode=mode)

    camera = moving(3)
    mixed = velocity(replace(camera, known=torch.tensor([True, False, True])))
    told, untold = velocity(camera), velocity(None)
    assert torch.equal(mixed[[0, 2]], told[[0, 2]])
    assert torch.equal(mixed[1], untold[1])
    assert float((told[1] - untold[1]).abs().max()) > 1e-3


def test_known_rows_follow_their_rows() -> None:
    camera = replace(moving(2), known=torch.tensor([True, False]))
    known = camera.select([1, 0, 1]).known
    assert known is not None and known.tolist() == [False, True, False]
    joined, rows = CameraCondition.concat([camera, camera]).known, camera.frames_as_rows().known
    assert joined is not None and joined.tolist() == [True, False, True, False]
    assert rows is not None and rows.tolist() == [True] * 3 + [False] * 3
    assert camera.frames(1, 2).known is camera.known


def test_a_clip_without_its_camera_does_not_hear_of_it(latents: Path, autoencoder: Path) -> None:
    made = objective(BidirectionalStageConfig, latents, autoencoder, camera_dropout=1.0)
    batch = made.batch(0, 0, 1)
    assert batch.camera.known is not None and not batch.camera.known.any()
    camera = batch.camera
    assert camera.plucker is not None
    elsewhere = replace(camera, intrinsics=2 * camera.intrinsics, plucker=3 * camera.plucker)
    loss, _ = made(batch)
    assert torch.equal(made(replace(batch, camera=elsewhere))[0], loss)
    loss.backward()
    for name, parameter in made.weights.network.named_parameters():
        if "_cam" in name or "plucker" in name:
            assert parameter.grad is None or not parameter.grad.any(), name
    told = replace(batch, camera=replace(camera, known=None))
    assert not torch.equal(made(told)[0], loss)


@pytest.mark.parametrize("config_class", [BidirectionalStageConfig, ChunkCausalStageConfig])
def test_processes_share_a_batch_of_clips(
    config_class: type[ClipStageConfig], latents: Path, autoencoder: Path
) -> None:
    made = objective(
        config_class, latents, autoencoder, batch_size=4, shortest_clip=3, camera_dropout=0.5
    )
    lengths, known = set(), []
    for step in range(6):
        alone = made.batch(step, 0, 1)
        halves = [made.batch(step, rank, 2) for rank in (0, 1)]
        lengths.add(alone.x_0.shape[2])
        for rank, half in enumerate(halves):
            for name in ("x_0", "sigma", "eps"):
                assert torch.equal(getattr(half, name), getattr(alone, name)[rank::2]), name
            assert half.captions == alone.captions[rank::2]
            assert half.camera.known is not None and alone.camera.known is not None
            assert half.camera.known.tolist() == alone.camera.known[rank::2].tolist()
            assert torch.equal(
                half.camera.world_from_camera, alone.camera.world_from_camera[rank::2]
            )
            known += half.camera.known.tolist()
    assert len(lengths) > 1 and lengths <= {3, 4, 5}
    assert 4 < sum(known) < 20
    assert float(made(made.batch(0, 0, 1))[0].detach()) > 0


@pytest.mark.parametrize(
    "changes", [{"shortest_clip": 14}, {"clip": 1}, {"camera_dropout": 1.5}, {"beginnings": -0.1}]
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        BidirectionalStageConfig(
            latents=Path(),
            autoencoder=Path(),
            trainer=TrainerConfig(out=Path()),
            **changes,  # type: ignore[arg-type]
        )
