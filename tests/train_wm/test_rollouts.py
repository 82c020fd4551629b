"""Clips that a network drew itself, and their place in the past it is trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.rollouts_stage import RolloutsStageConfig, run_rollouts_stage
from sanawm_gym.train_wm.stream_stage import StreamObjective, StreamStageConfig
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.train_wm.weights import make_weights
from tests.train_wm.conftest import TINY_NETWORK

CONTEXT = 3


@pytest.fixture(scope="module")
def network(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained network that knows the words of the clips."""
    out = tmp_path_factory.mktemp("network")
    captions = [clip.caption for part in load_latent_clips(latents) for clip in part]
    torch.manual_seed(0)
    make_weights(TINY_NETWORK, captions, None).save(out)
    return out


def config(latents: Path, autoencoder: Path, network: Path, out: Path) -> RolloutsStageConfig:
    return RolloutsStageConfig(
        latents=latents,
        autoencoder=autoencoder,
        network=network,
        out=out,
        context=CONTEXT,
        shortest=12,
        batch_size=2,
    )


@pytest.fixture(scope="module")
def rollouts(
    latents: Path, autoencoder: Path, network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The longer clips, drawn by the network."""
    out = tmp_path_factory.mktemp("rollouts")
    run_rollouts_stage(config(latents, autoencoder, network, out))
    return out


def test_a_drawn_clip_begins_with_the_truth_and_leaves_it(latents: Path, rollouts: Path) -> None:
    clips = [clip for part in load_latent_clips(latents, [rollouts]) for clip in part]
    long = [clip for clip in clips if clip.latents.shape[0] >= 12]
    assert long
    assert len(long) < len(clips)
    assert all(clip.drawn is None for clip in clips if clip.latents.shape[0] < 12)
    for clip in long:
        assert clip.drawn is not None and clip.drawn_warped is not None
        assert torch.equal(clip.drawn[:CONTEXT], clip.latents[:CONTEXT])
        gaps = (clip.drawn - clip.latents)[CONTEXT:].float().abs().mean(dim=(1, 2, 3))
        assert gaps.min() > 0
        close = (clip.drawn_warped - clip.warped).float().abs().mean(dim=(1, 2, 3))
        assert close[:CONTEXT].max() == 0
        assert close[CONTEXT:].min() > 0


def test_a_second_run_draws_what_is_missing_and_the_same(
    latents: Path, autoencoder: Path, network: Path, rollouts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    out.mkdir()
    files = sorted(rollouts.glob("clip-*.safetensors"))
    for file in files[1:]:
        (out / file.name).write_bytes(file.read_bytes())
    (out / files[0].name).with_suffix(".partial").write_bytes(b"killed while it was written")
    run_rollouts_stage(config(latents, autoencoder, network, out))
    with pytest.raises(ValueError, match="seed is 1, expected 0"):
        run_rollouts_stage(replace(config(latents, autoencoder, network, out), seed=1))
    assert [file.read_bytes() for file in sorted(out.glob("clip-*.safetensors"))] == [
        file.read_bytes() for file in files
    ]


def test_rollouts_of_other_clips_are_refused(latents: Path, rollouts: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    for file in rollouts.iterdir():
        (strange / file.name).write_bytes(file.read_bytes())
    victim = next(iter(sorted(strange.glob("clip-*"))))
    short = torch.zeros(2, 4, 9, 16)
    save_file({"latents": short, "warped": short.clone()}, victim)
    with pytest.raises(ValueError, match="draw the rollouts again"):
        load_latent_clips(latents, [strange])


def test_no_clip_long_enough_is_an_error(
    latents: Path, autoencoder: Path, network: Path, tmp_path: Path
) -> None:
    asked = replace(config(latents, autoencoder, network, tmp_path / "none"), shortest=999)
    with pytest.raises(ValueError, match="999 latent frames or more"):
        run_rollouts_stage(asked)
    with pytest.raises(ValueError, match="shortest must exceed"):
        replace(asked, shortest=CONTEXT)


def test_the_drawn_past_is_mixed_into_the_context_and_not_into_the_target(
    latents: Path, autoencoder: Path, rollouts: Path, tmp_path: Path
) -> None:
    def batch(**changes: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        settings = StreamStageConfig(
            latents=latents,
            autoencoder=autoencoder,
            trainer=TrainerConfig(out=tmp_path),
            model=TINY_NETWORK,
            piece=4,
            lanes_per_step=4,
            lanes=4,
            context_noise=0.0,
        )
        objective = StreamObjective(replace(settings, **changes), torch.device("cpu"))  # type: ignore[arg-type]
        objective.batch(0, 0, 1)
        found = objective.batch(1, 0, 1)
        assert found.piece.camera.warped is not None
        return found.piece.latents, found.context, found.piece.camera.warped

    plain = batch()
    mixed = batch(rollouts=(rollouts,), mixed_pieces=1.0, largest_mix=1.0)
    unmixed = batch(rollouts=(rollouts,), mixed_pieces=0.0)
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[0], plain[1])
    for a, b in zip(plain, unmixed, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(plain[1], mixed[1])
    assert not torch.equal(plain[2], mixed[2])
