"""The stage ``heads``: truth beside features, likelihood, calibration, resuming, and a world."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.train_wm.bundle_stage import BundleStageConfig, run_bundle_stage
from sanawm_gym.train_wm.heads_features import (
    CleanPass,
    FeatureClip,
    PassConfig,
    clip_ground,
    load_features,
    read_truth,
    shorten,
)
from sanawm_gym.train_wm.heads_scores import calibrate, calibrate_and_judge
from sanawm_gym.train_wm.heads_stage import (
    HeadsStageConfig,
    near_road,
    negative_log_likelihood,
    run_heads_stage,
)
from sanawm_gym.train_wm.latent_clips import LatentClip, load_clip
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.train_wm.weights import make_weights
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.contexts import load_context
from sanawm_gym.worldmodel.heads import NUM_NUMBERS, QUANTITIES, Heads, HeadsConfig, HeadsOutput
from tests.train_wm.conftest import TINY_NETWORK

EPISODE, START = 1, 28
CLIP = f"clip-{EPISODE:06d}-{START:05d}.safetensors"
NAMES = list(QUANTITIES)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained tiny network."""
    out = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    make_weights(TINY_NETWORK, ["a road"], None).save(out)
    return out


@pytest.fixture
def clip(latents: Path) -> LatentClip:
    return load_clip(latents / CLIP, "a road")


def stage(data: Path, latents: Path, network: Path, out: Path, steps: int) -> HeadsStageConfig:
    return HeadsStageConfig(
        latents=latents,
        data=(data,),
        network=network,
        trainer=TrainerConfig(
            out=out, steps=steps, warmup=2, save_every=2, sample_every=0, schedule="constant"
        ),
        clean_pass=PassConfig(longest=6),
        batch_size=8,
        width=4,
        hidden=8,
    )


def test_the_truth_is_that_of_the_frame_at_which_a_latent_ends(
    recording: Path, clip: LatentClip
) -> None:
    dataset = EpisodeDataset(recording)
    truth = read_truth([dataset], CLIP, clip, lead_range=50.0).double().numpy()
    columns = dataset.columns(EPISODE)
    rows = START + 4 * np.arange(len(clip.latents))
    assert truth.shape == (len(clip.latents), len(QUANTITIES))
    for name in ("lane_offset", "curvature_ahead", "right_edge", "on_road"):
        expected = np.asarray(columns[name], dtype=np.float64)[rows]
        np.testing.assert_allclose(truth[:, NAMES.index(name)], expected, rtol=1e-6)


def test_what_is_said_of_a_vehicle_ahead_is_masked_where_there_is_none(
    recording: Path, clip: LatentClip
) -> None:
    dataset = EpisodeDataset(recording)
    distance = dataset.columns(EPISODE)["lead_distance"][START:][::4][: len(clip.latents)]
    limit = float(np.sort(np.asarray(distance))[len(distance) // 2])
    truth = read_truth([dataset], CLIP, clip, lead_range=limit).numpy()
    leads = truth[:, NAMES.index("has_lead")] == 1
    assert (leads == (distance <= limit)).all()
    for name in ("lead_distance", "lead_speed"):
        assert (np.isnan(truth[:, NAMES.index(name)]) == ~leads).all()
    assert not np.isnan(truth[:, : NAMES.index("lead_distance")]).any()


def test_features_beyond_the_stored_range_stay_numbers(clip: LatentClip) -> None:
    torch.manual_seed(0)
    weights = make_weights(TINY_NETWORK, ["a road"], None)
    with torch.no_grad():
        for parameter in weights.network.x_embedder.parameters():
            parameter.mul_(1e6)
    weights.network.to(torch.bfloat16)  # which rounds the largest float16 up
    features = CleanPass(weights, (40, 64), torch.device("cpu")).features(clip)
    assert features.dtype == torch.float16 and features.abs().max() == 65504.0


def test_numbers_of_a_road_out_of_sight_are_not_learnt(recording: Path, clip: LatentClip) -> None:
    truth = read_truth([EpisodeDataset(recording)], CLIP, clip, lead_range=50.0)
    truth[2, NAMES.index("right_edge")] = -4.5
    truth[3, NAMES.index("left_edge")] = -3.5
    nothing = torch.zeros(len(truth), 1, 3)
    seen = near_road(FeatureClip(nothing.half(), nothing, truth), farthest=4.0).truth
    assert seen[2, : NAMES.index("lead_distance")].isnan().all()
    kept = torch.ones(len(truth), dtype=torch.bool)
    kept[2] = False
    chances = slice(NUM_NUMBERS, None)
    assert torch.equal(seen[2, chances], truth[2, chances])
    assert torch.equal(seen[kept].nan_to_num(), truth[kept].nan_to_num())


def test_the_truth_of_another_recording_is_refused(recording: Path, clip: LatentClip) -> None:
    turned = clip.poses.clone()
    turned[-1, 0, 3] += 0.1
    other = dataclasses.replace(clip, poses=turned)
    with pytest.raises(ValueError, match="was not seen from the cameras of episode 1"):
        read_truth([EpisodeDataset(recording)], CLIP, other, lead_range=50.0)


def test_the_truth_is_looked_up_in_the_recording_of_the_clip(
    recording: Path, clip: LatentClip
) -> None:
    dataset = EpisodeDataset(recording)
    second = f"clip-{1_000_000 + EPISODE}-{START:05d}.safetensors"
    truth = read_truth([dataset, dataset], second, clip, lead_range=50.0)
    expected = read_truth([dataset], CLIP, clip, lead_range=50.0)
    torch.testing.assert_close(truth, expected, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match="a clip of recording 2, got 1"):
        read_truth([dataset], second, clip, lead_range=50.0)


def test_a_shortened_clip_keeps_the_cameras_of_its_latents(clip: LatentClip) -> None:
    short = shorten(clip, 3)
    assert [len(x) for x in (short.latents, short.warped, short.poses)] == [3, 3, 9]
    assert torch.equal(short.poses, clip.poses[:9])
    assert len(shorten(clip, 100).latents) == len(clip.latents)
    assert clip_ground(short, (72, 128)).shape == (3, 144, 3)


def test_the_likelihood_is_that_of_a_gaussian_and_of_a_coin() -> None:
    chances = len(QUANTITIES) - NUM_NUMBERS
    mean = torch.zeros(1, NUM_NUMBERS, requires_grad=True)
    out = HeadsOutput(mean, torch.full((1, NUM_NUMBERS), math.log(0.5)), torch.zeros(1, chances))
    truth = torch.full((1, len(QUANTITIES)), torch.nan)
    truth[0, 0], truth[0, -1] = 7.0, 1.0
    offset, scale = torch.full((NUM_NUMBERS,), 3.0), torch.full((NUM_NUMBERS,), 4.0)
    loss = negative_log_likelihood(out, truth, offset, scale)
    assert loss[0, 0].item() == pytest.approx(0.5 * (1.0 / 0.5) ** 2 + math.log(0.5))
    assert loss[0, -1].item() == pytest.approx(math.log(2))
    assert torch.equal(loss[0, 1:-1], torch.zeros(len(QUANTITIES) - 2))
    loss.sum().backward()
    assert mean.grad is not None
    assert mean.grad[0].tolist() == [-4.0] + [0.0] * (NUM_NUMBERS - 1)


def synthetic(seed: int, noise: float) -> list[FeatureClip]:
    """Clips whose first channel says the lane offset, up to a noise, and whether on the road."""
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for _ in range(16):
        offset = torch.randn(64, generator=generator)
        truth = torch.full((64, len(QUANTITIES)), torch.nan)
        truth[:, 0] = offset + noise * torch.randn(64, generator=generator)
        odds = torch.sigmoid(3 * offset)
        truth[:, NAMES.index("on_road")] = torch.bernoulli(odds, generator=generator)
        features = torch.zeros(64, 6, 2)
        features[..., 0] = 1.0
        features[..., 1] = offset[:, None].clamp(-2, 2) / 4
        clips.append(FeatureClip(features.half(), torch.zeros(64, 6, 3), truth))
    return clips


def test_heads_learn_what_is_there_and_how_sure_it_is() -> None:
    train, held_out = synthetic(1, 0.3), synthetic(2, 0.3)
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(channels=2, grid=(2, 3), width=8, hidden=16))
    heads.norm = torch.nn.Identity()  # type: ignore[assignment]  # two channels are all there is
    features = torch.cat([clip.features for clip in train])
    ground = torch.zeros(len(features), 6, 3)
    truth = torch.cat([clip.truth for clip in train])
    optimizer = torch.optim.AdamW(heads.parameters(), 1e-2)
    for _ in range(150):
        out = heads(features, ground)
        loss = negative_log_likelihood(out, truth, heads.offset, heads.scale).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = calibrate_and_judge(heads, held_out, truth.nanmean(dim=0))
    assert list(scores) == ["lane_offset", "on_road"]
    assert scores["lane_offset"]["error"] < 0.45 * scores["lane_offset"]["usual_error"]
    assert scores["lane_offset"]["within_1"] == pytest.approx(0.68, abs=0.07)
    assert scores["lane_offset"]["within_2"] == pytest.approx(0.95, abs=0.04)
    assert scores["on_road"]["log_loss"] < 0.8 * scores["on_road"]["usual_log_loss"]


@torch.no_grad()
def test_calibration_finds_what_readings_are_worth_and_how_sure_they_may_be() -> None:
    torch.manual_seed(0)
    heads = Heads(HeadsConfig(channels=4, grid=(2, 3), width=4, hidden=8))
    features, ground = torch.randn(4000, 6, 4).half(), torch.randn(4000, 6, 3)
    read = heads.read(features, ground)
    truth = torch.full((4000, len(QUANTITIES)), torch.nan)
    truth[:, 2] = read.mean[:, 2] + 3.0 * read.deviation[:, 2] * torch.randn(4000)
    truth[:, 3] = 0.01 * torch.randn(4000)
    heads.layers[-1].weight[-1] *= 2.0 / heads(features, ground).logit[:, -1].std()
    heads.layers[-1].bias[-1] -= heads(features, ground).logit[:, -1].mean()
    odds = torch.sigmoid(0.5 * heads(features, ground).logit[:, -1] + 1.0)
    truth[:, -1] = torch.bernoulli(odds)
    truth[:, -2] = 0.0
    calibrate(heads, [FeatureClip(features, ground, truth)])
    assert heads.temperature[2].item() == pytest.approx(3.0, rel=0.06)
    assert heads.slope[2].item() > 0.8
    assert heads.slope[3].item() < 0.2, "a reading of nothing is to stay near the usual answer"
    assert heads.slope[-1].item() == pytest.approx(0.5, rel=0.2)
    assert heads.bias[-1].item() == pytest.approx(1.0, abs=0.3)
    assert heads.temperature[0].item() == heads.slope[0].item() == 1.0
    never = heads.read(features, ground)["on_road"][0]
    assert 0 < never.max().item() < 0.01, "what never happened is unlikely, not impossible"


def test_a_resumed_run_ends_with_the_same_bytes(
    recording: Path, latents: Path, network: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_heads_stage(stage(recording, latents, network, whole, 6))
    for steps in (2, 6):
        run_heads_stage(stage(recording, latents, network, parts, steps))
    assert (whole / "heads.safetensors").read_bytes() == (parts / "heads.safetensors").read_bytes()
    scores = json.loads((whole / "scores.json").read_text())
    assert scores["lane_offset"]["error"] > 0
    train, held_out = load_features(whole / "features")
    assert [len(train), len(held_out)] == [4, 2]
    assert train[0].features.shape == (6, 144, 32)


def test_what_the_network_draws_is_read_against_the_truth_of_its_cameras(
    recording: Path, latents: Path, network: Path, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    index = json.loads((latents / "latents.json").read_text())
    (entry,) = [one for one in index["clips"] if one["file"] == CLIP]
    drawn.mkdir()
    (drawn / "latents.json").write_text(json.dumps({**index, "clips": [entry]}))
    tensors = load_file(latents / CLIP)
    save_file({**tensors, "latents": tensors["latents"] + 0.5}, drawn / CLIP)
    config = stage(recording, latents, network, tmp_path / "heads", 2)
    run_heads_stage(dataclasses.replace(config, rollouts=(drawn,)))
    features = tmp_path / "heads" / "features"
    own, true = (load_file(features / name) for name in (f"drawn-0-{CLIP}", CLIP))
    assert torch.equal(own["ground"], true["ground"])
    assert torch.equal(own["truth"].nan_to_num(-1.0), true["truth"].nan_to_num(-1.0))
    assert (own["features"] - true["features"]).abs().mean() > 0.05
    assert sum(map(len, load_features(features))) == len(index["clips"]) + 1
    with pytest.raises(ValueError, match="holds features made from"):
        run_heads_stage(dataclasses.replace(config, rollouts=()))
    entry["file"] = "clip-000099-00000.safetensors"
    (drawn / "latents.json").write_text(json.dumps({**index, "clips": [entry]}))
    fresh = stage(recording, latents, network, tmp_path / "others", 2)
    with pytest.raises(ValueError, match="was drawn from other clips"):
        run_heads_stage(dataclasses.replace(fresh, rollouts=(drawn,)))


def test_features_of_other_settings_are_not_taken_for_these(
    recording: Path, latents: Path, network: Path, tmp_path: Path
) -> None:
    config = stage(recording, latents, network, tmp_path / "heads", 1)
    run_heads_stage(config)
    other = dataclasses.replace(config.clean_pass, lead_range=20.0)
    with pytest.raises(ValueError, match="holds features made from"):
        run_heads_stage(dataclasses.replace(config, clean_pass=other))


def test_a_bundled_world_reads_its_own_pictures(
    recording: Path, latents: Path, autoencoder: Path, network: Path, tmp_path: Path
) -> None:
    run_heads_stage(stage(recording, latents, network, tmp_path / "heads", 2))
    run_bundle_stage(
        BundleStageConfig(
            autoencoder=autoencoder,
            network=network,
            heads=tmp_path / "heads",
            contexts=recording,
            out=tmp_path / "world",
            num_contexts=1,
            context_frames=5,
        )
    )
    world = WorldModel.from_pretrained(tmp_path / "world")
    context = load_context("000", tmp_path / "world")
    state = world.start(
        context.frames[None, -1:],
        prompts=["a road"],
        intrinsics=context.intrinsics.as_array()[None],
        seeds=[0],
    )
    seen = world.perceive(state)
    assert bool(seen.mean.isfinite().all()) and bool((seen.deviation > 0).all())
    with pytest.raises(ValueError, match="holds no heads"):
        run_bundle_stage(
            BundleStageConfig(
                autoencoder=autoencoder,
                network=network,
                heads=network,
                contexts=recording,
                out=tmp_path / "world",
            )
        )


def test_settings_that_are_no_range_are_refused() -> None:
    for changes in ({"context_noise": -1.0}, {"caption_dropout": 2.0}, {"lead_range": 100.0}):
        with pytest.raises(ValueError, match="expected"):
            PassConfig(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="longest must be at least 1"):
        PassConfig(longest=0)
