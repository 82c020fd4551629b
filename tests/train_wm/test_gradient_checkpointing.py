"""Gradient checkpointing changes what is kept, not what is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sanawm_gym.geometry import planar_pose
from sanawm_gym.train_wm.clip_stage import BidirectionalStageConfig, ClipObjective
from sanawm_gym.train_wm.latents_stage import write_clip
from sanawm_gym.train_wm.network_stage import NetworkObjective, NetworkStageConfig
from sanawm_gym.train_wm.stream_stage import StreamObjective, StreamStageConfig
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.worldmodel.folder import write_json
from tests.train_wm.conftest import TINY_NETWORK

NUM_LATENTS = 6


@pytest.fixture
def noise_latents(tmp_path: Path) -> Path:
    """Two clips of noise, seen from a car that goes straight on."""
    folder = tmp_path / "latents"
    folder.mkdir()
    num_raw = 4 * (NUM_LATENTS - 1) + 1
    poses = torch.from_numpy(planar_pose(torch.arange(num_raw).numpy() * 0.4, 0.0, 0.0))
    for name in ("a", "b"):
        write_clip(
            folder / name,
            {
                "latents": torch.randn(NUM_LATENTS, 4, 5, 8).half(),
                "warped": torch.randn(NUM_LATENTS, 4, 5, 8).half(),
                "poses": poses,
                "intrinsics": torch.tensor([60.0, 60.0, 64.0, 36.0]).double(),
            },
        )
    clips = [{"file": name, "caption": "a road", "held_out": name == "b"} for name in ("a", "b")]
    write_json(folder / "latents.json", {"clips": clips})
    return folder


def objective(kind: str, latents: Path, autoencoder: Path, checkpointing: bool) -> NetworkObjective:
    common = NetworkStageConfig(
        latents=latents,
        autoencoder=autoencoder,
        trainer=TrainerConfig(out=latents / "out"),
        model=TINY_NETWORK,
        gradient_checkpointing=checkpointing,
    )
    torch.manual_seed(0)
    if kind == "clip":
        clip_config = BidirectionalStageConfig(**vars(common), clip=5)
        made: NetworkObjective = ClipObjective(clip_config, torch.device("cpu"))
    else:
        stream_config = StreamStageConfig(**vars(common), piece=3, lanes=2)
        stream_config = replace(stream_config, lanes_per_step=2)
        made = StreamObjective(stream_config, torch.device("cpu"))
    for parameter in made.trained().parameters():  # some start at zero and would hide gradients
        parameter.data += 0.02 * torch.randn_like(parameter)
    return made


def losses_and_gradients(made: NetworkObjective) -> tuple[list[Tensor], int]:
    """Losses and gradients of two steps, and the bytes that the first keeps for its way back."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    found: list[Tensor] = []
    num_bytes = 0
    for step in range(2):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss, _ = made(made.batch(step, 0, 1))
            num_bytes = num_bytes or sum(kept.values())
            loss.backward()
        found += [loss.detach()]
    found += [p.grad for p in made.trained().parameters() if p.grad is not None]
    return found, num_bytes


@pytest.mark.parametrize("kind", ["clip", "stream"])
def test_checkpointing_gives_the_same_gradients_from_fewer_kept_bytes(
    noise_latents: Path, autoencoder: Path, kind: str
) -> None:
    plain, plain_bytes = losses_and_gradients(objective(kind, noise_latents, autoencoder, False))
    again, again_bytes = losses_and_gradients(objective(kind, noise_latents, autoencoder, True))
    assert len(plain) == len(again)
    for got, expected in zip(again, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert again_bytes < 0.5 * plain_bytes


def test_nothing_is_computed_again_without_gradients(
    noise_latents: Path, autoencoder: Path
) -> None:
    made = objective("clip", noise_latents, autoencoder, True)
    calls = []
    network = made.weights.network
    network.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        made(made.batch(0, 0, 1))
    assert len(calls) == 1
    loss, _ = made(made.batch(0, 0, 1))
    loss.backward()
    assert len(calls) == 3
