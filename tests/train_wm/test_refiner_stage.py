"""Drafts and the stage that learns to refine them, on the tiny recording."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym.train_wm.drafts_stage import DraftsStageConfig, run_drafts_stage
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.refiner_levels import refiner_shift, sample_levels
from sanawm_gym.train_wm.refiner_pairs import load_pairs
from sanawm_gym.train_wm.refiner_stage import (
    RefinerObjective,
    RefinerStageConfig,
    run_refiner_stage,
)
from sanawm_gym.train_wm.rollouts_stage import RolloutsStageConfig, run_rollouts_stage
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.train_wm.weights import make_weights
from sanawm_gym.worldmodel.folder import load_weights
from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig
from sanawm_gym.worldmodel.refiner.lora import LoraConfig, load_adapter
from tests.train_wm.conftest import TINY_NETWORK

TINY_REFINER = RefinerConfig(
    in_channels=4,
    num_layers=2,
    num_attention_heads=2,
    head_dim=12,
    caption_channels=16,
    strides=(4, 8, 8),
    max_position=(2.0, 72.0, 128.0),
    rope_theta=100.0,
    positions="window",
    block_frames=1,
    window_frames=3,
)


@pytest.fixture(scope="module")
def network(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained network that knows the words of the clips."""
    out = tmp_path_factory.mktemp("network")
    captions = [clip.caption for part in load_latent_clips(latents) for clip in part]
    torch.manual_seed(0)
    make_weights(TINY_NETWORK, captions, None).save(out)
    return out


@pytest.fixture(scope="module")
def rollouts(
    latents: Path, autoencoder: Path, network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The longer clips as the network draws them when left alone."""
    out = tmp_path_factory.mktemp("rollouts")
    run_rollouts_stage(
        RolloutsStageConfig(
            latents=latents, autoencoder=autoencoder, network=network, out=out, shortest=12
        )
    )
    return out


@pytest.fixture(scope="module")
def drafting(
    latents: Path,
    autoencoder: Path,
    network: Path,
    rollouts: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> DraftsStageConfig:
    """A finished run of the stage."""
    config = DraftsStageConfig(
        latents=latents,
        autoencoder=autoencoder,
        network=network,
        rollouts=(rollouts,),
        shortest=12,
        batch_size=2,
        out=tmp_path_factory.mktemp("drafts"),
    )
    run_drafts_stage(config)
    return config


@pytest.fixture
def config(drafting: DraftsStageConfig, tmp_path: Path) -> RefinerStageConfig:
    """Four steps."""
    assert drafting.network is not None
    return RefinerStageConfig(
        latents=drafting.latents,
        drafts=(drafting.out,),
        autoencoder=drafting.autoencoder,
        text=drafting.network,
        trainer=TrainerConfig(out=tmp_path / "run", steps=4, save_every=2, sample_every=0),
        model=TINY_REFINER,
        pieces_per_step=2,
        blocks=2,
        lead=2,
        history_mix=0.5,
        young_share=0.0,
    )


def test_a_draft_follows_its_own_past_alone(drafting: DraftsStageConfig, tmp_path: Path) -> None:
    first = load_pairs(drafting.latents, [drafting.out])
    clip = first[0][0]
    assert clip.drawn is not None
    assert torch.equal(clip.drawn[0], clip.latents[0])
    assert (clip.drawn[1:] - clip.latents[1:]).abs().mean() > 0.01
    # Without rollouts the past is true, and the drafts are others.
    true_past = replace(drafting, rollouts=(), out=tmp_path)
    run_drafts_stage(true_past)
    other = load_pairs(drafting.latents, [tmp_path])[0][0].drawn
    assert other is not None and other.shape == clip.drawn.shape
    assert not torch.equal(other[1:], clip.drawn[1:])


def test_a_second_run_drafts_what_is_missing_and_the_same(
    drafting: DraftsStageConfig, tmp_path: Path
) -> None:
    files = sorted(drafting.out.glob("clip-*.safetensors"))
    for file in files[1:]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / files[0].name).with_suffix(".partial").write_bytes(b"killed while it was written")
    run_drafts_stage(replace(drafting, out=tmp_path))
    with pytest.raises(ValueError, match=r"largest_mix is 0\.5, expected 0\.9"):
        run_drafts_stage(replace(drafting, out=tmp_path, largest_mix=0.5))
    assert [file.read_bytes() for file in sorted(tmp_path.glob("clip-*.safetensors"))] == [
        file.read_bytes() for file in files
    ]


def test_blurred_pictures_are_drafts_too(drafting: DraftsStageConfig, tmp_path: Path) -> None:
    run_drafts_stage(replace(drafting, network=None, rollouts=(), out=tmp_path, num_clips=1))
    (file,) = tmp_path.glob("clip-*.safetensors")
    true = load_file(drafting.latents / file.name)["latents"]
    assert load_file(file)["latents"].shape == true.shape
    assert not torch.equal(load_file(file)["latents"], true)


def test_levels_are_those_of_a_shifted_logit_normal_cut_off_at_the_top() -> None:
    top, shift = 0.6, 0.95
    generator = torch.Generator().manual_seed(0)
    drawn = sample_levels((200_000,), top=top, shift=shift, uniform_share=0.0, generator=generator)
    # What is left of ordinary draws after those above the top are thrown away.
    plain = torch.sigmoid(shift + torch.randn(2_000_000, generator=generator))
    plain = plain[plain <= top]
    share = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    torch.testing.assert_close(
        drawn.quantile(share), plain[:200_000].quantile(share), atol=5e-3, rtol=0
    )
    assert float(drawn.max()) <= top
    mixed = sample_levels((200_000,), top=top, shift=shift, uniform_share=1.0, generator=generator)
    torch.testing.assert_close(mixed.quantile(share), top * share, atol=5e-3, rtol=0)
    assert [refiner_shift(n) for n in (100, 2560, 9000)] == pytest.approx([0.95, 1.5, 2.05])


def test_the_loss_is_that_of_the_path_between_truth_and_noised_draft(
    config: RefinerStageConfig,
) -> None:
    objective = RefinerObjective(
        replace(config, model=replace(TINY_REFINER, sigmas=(0.7,)), weigh_channels=False),
        torch.device("cpu"),
    )
    batch = objective.batch(0, 0, 1)
    assert batch.sigma.max() <= 0.7
    # A fresh refiner is silent, so its error is the target: (x_1 - x_h) / sigma_s.
    loss, _ = objective(batch)
    piece = batch.piece
    x_1 = 0.3 * piece.draft + 0.7 * batch.eps
    target = ((x_1 - piece.truth) / 0.7)[:, :, config.lead :]
    torch.testing.assert_close(loss.detach(), target.square().mean(), rtol=1e-5, atol=1e-6)


def test_the_lead_is_seen_but_does_not_count(config: RefinerStageConfig) -> None:
    objective = RefinerObjective(config, torch.device("cpu"))
    torch.nn.init.normal_(objective.trained().get_submodule("proj_out").weight, std=0.1)
    batch = objective.batch(0, 0, 1)
    before, _ = objective(batch)
    batch.piece.truth[:, :, : config.lead] += 1.0
    assert torch.equal(objective(batch)[0], before)
    batch.history[:, :, : config.lead] += 1.0
    assert not torch.equal(objective(batch)[0], before)


def test_young_pieces_begin_right_behind_the_sink(config: RefinerStageConfig) -> None:
    objective = RefinerObjective(replace(config, young_share=1.0), torch.device("cpu"))
    batch = objective.batch(0, 0, 1)
    assert batch.piece.first.tolist() == [1, 1]
    assert batch.piece.truth.shape[2] == config.blocks
    assert torch.isfinite(objective(batch)[0])
    older = RefinerObjective(config, torch.device("cpu")).batch(0, 0, 1)
    assert older.piece.truth.shape[2] == config.lead + config.blocks


def test_adapters_are_trained_alone_and_end_in_the_weights(
    config: RefinerStageConfig, tmp_path: Path
) -> None:
    run_refiner_stage(config)
    lora = replace(
        config,
        init=config.trainer.out,
        lora=LoraConfig(rank=2, alpha=4.0),
        trainer=replace(config.trainer, out=tmp_path / "lora", sample_every=4),
    )
    run_refiner_stage(lora)
    base, merged = Refiner(TINY_REFINER), Refiner(TINY_REFINER)
    load_weights(config.trainer.out, "refiner", base)
    load_weights(lora.trainer.out, "refiner", merged)
    adapter = load_adapter(lora.trainer.out, base)
    changed = {
        name
        for name, tensor in merged.state_dict().items()
        if not torch.equal(tensor, base.state_dict()[name])
    }
    assert changed == {f"{name}.weight" for name in adapter.names}
    adapter.merge(base)
    for name, tensor in base.state_dict().items():
        torch.testing.assert_close(tensor, merged.state_dict()[name], msg=name)
    assert list((lora.trainer.out / "samples").glob("*.png"))
