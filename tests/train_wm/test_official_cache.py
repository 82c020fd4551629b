"""The published zip/npz layout of latents: written, read again, and read from others."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanawm_gym.geometry import planar_pose
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
from sanawm_gym.train_wm.official_cache import (
    CAPTION_SUFFIX,
    OfficialCache,
    OfficialCacheConfig,
    OfficialClip,
    write_shard,
)
from sanawm_gym.train_wm.official_clips import load_official_clips, to_latent_clip
from sanawm_gym.train_wm.stream_stage import StreamObjective, StreamStageConfig
from sanawm_gym.train_wm.trainer import TrainerConfig
from tests.train_wm.conftest import TINY_NETWORK

NUM_RAW = 17


def official_clip(key: str, num_latents: int = 3, **changes: Any) -> OfficialClip:
    """A clip with a stride of 8 raw frames, seen from a car that turns."""
    rng = np.random.default_rng(sum(key.encode()))
    steps = np.arange(NUM_RAW)
    values: dict[str, Any] = {
        "key": key,
        "z": rng.standard_normal((4, num_latents, 2, 3)).astype(np.float16),
        "poses": planar_pose(400.0 + 0.5 * steps, rng.standard_normal(), 0.01 * steps),
        "intrinsics": np.array([[1000.0, 900.0, 640.0, 352.0]]).repeat(NUM_RAW, axis=0),
        "width": 1280,
        "height": 704,
        "prompt": f"a road called {key}",
        **changes,
    }
    return OfficialClip(**values)


@pytest.fixture
def config(tmp_path: Path) -> OfficialCacheConfig:
    return OfficialCacheConfig(raw=tmp_path / "raw", cache=tmp_path / "latents", smallest_entry=0)


def write(config: OfficialCacheConfig, shard: str, *clips: OfficialClip) -> None:
    assert write_shard(config.raw, config.cache, shard, clips) == len(clips)


def sidecar(config: OfficialCacheConfig, name: str, content: Any) -> None:
    (config.raw / name).write_text(json.dumps(content))


def assert_same(got: OfficialClip, expected: OfficialClip) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(got, name), value, err_msg=name)
    assert got.z.dtype == expected.z.dtype


def test_clips_come_back_as_they_were_written(config: OfficialCacheConfig) -> None:
    noise = np.random.default_rng(0).standard_normal((4, 3, 2, 3)).astype(np.float16)
    clips = [
        official_clip("a"),
        official_clip("b", warped=noise, held_out=True),
        official_clip("c", poses=None, intrinsics=None),
        official_clip("d", num_latents=1),
    ]
    write(config, "first", *clips[:3])
    write(config, "second", *clips[3:])
    cache = OfficialCache(config)
    assert cache.keys == ["a", "b", "c", "d"]
    assert not cache.refused
    for clip in clips:
        assert_same(cache.clip(clip.key), clip)


def test_the_files_have_the_published_names_and_arrays(config: OfficialCacheConfig) -> None:
    write(config, "s", official_clip("a"), official_clip("b"))
    with zipfile.ZipFile(config.cache / "s.zip") as pack:
        assert pack.namelist() == ["a.npz", "b.npz"]
        with np.load(io.BytesIO(pack.read("b.npz")), allow_pickle=False) as arrays:
            assert arrays["z"].shape == (4, 3, 2, 3)
    with zipfile.ZipFile(config.raw / "s.zip") as pack:
        assert json.loads(pack.read("a.json"))["prompt"] == "a road called a"
    with np.load(config.raw / "s_camera.npz", allow_pickle=False) as table:
        assert table["ids"].tolist() == ["a", "b"]
        assert table["ranges"].tolist() == [[0, NUM_RAW], [NUM_RAW, NUM_RAW]]
        assert table["pose"].shape == (2 * NUM_RAW, 4, 4)
        assert table["intrinsics"].shape == (2 * NUM_RAW, 4)
    assert json.loads((config.raw / "s_metric_scale_stats.json").read_text()) == {"a": 1, "b": 1}
    assert not list(config.raw.glob("*.partial")) + list(config.cache.glob("*.partial"))


@pytest.mark.parametrize("scale", [2.5, {"median": 2.5, "count": 7}])
def test_the_metric_scale_multiplies_translations(config: OfficialCacheConfig, scale: Any) -> None:
    clip = official_clip("a")
    assert clip.poses is not None
    write(config, "s", clip)
    sidecar(config, "s_metric_scale_stats.json", {"a": scale})
    poses = OfficialCache(config).clip("a").poses
    assert poses is not None
    np.testing.assert_array_equal(poses[:, :3, 3], 2.5 * clip.poses[:, :3, 3])
    np.testing.assert_array_equal(poses[:, :3, :3], clip.poses[:, :3, :3])


def test_captions_come_from_a_sidecar_where_it_has_one(config: OfficialCacheConfig) -> None:
    write(config, "s", *(official_clip(key) for key in "abc"))
    sidecar(config, f"s{CAPTION_SUFFIX}.json", {"a": "said so", "b": {"prompt": "told so"}})
    cache = OfficialCache(replace(config, caption_suffix=CAPTION_SUFFIX))
    assert [cache.clip(key).prompt for key in "abc"] == ["said so", "told so", "a road called c"]


def test_a_low_and_a_missing_score_reject_a_clip(config: OfficialCacheConfig) -> None:
    write(config, "s", *(official_clip(key) for key in "abcd"))
    scores = [{"key": "a", "vmafmotion_score": 3.0}, {"key": "b", "vmafmotion_score": 0.1}]
    scores.append({"key": "c", "vmafmotion_score": [1.0, 3.0]})
    lines = "\n".join(json.dumps(score) for score in scores)
    (config.raw / "s_vmafmotion.jsonl").write_text(lines + "\n")
    cache = OfficialCache(replace(config, filters={"_vmafmotion": (1.0, 50.0)}))
    assert cache.keys == ["a", "c"]
    assert "0.1" in cache.refused["b"]
    assert "None" in cache.refused["d"]


def test_small_missing_and_damaged_entries_are_named(config: OfficialCacheConfig) -> None:
    write(config, "s", official_clip("a"), official_clip("b"))
    write(config, "t", official_clip("c"))
    (config.cache / "t.zip").unlink()
    (config.raw / "u.zip").write_bytes(b"not a zip")
    (config.cache / "u.zip").write_bytes(b"not a zip")
    assert set(OfficialCache(config).refused) == {"t", "u"}
    with pytest.raises(ValueError, match=r"no usable clip.*'a': \d+ bytes, fewer than 10485760"):
        OfficialCache(replace(config, smallest_entry=10 * 2**20))
    content = bytearray((config.cache / "s.zip").read_bytes())
    content[200:220] = bytes(20)
    (config.cache / "s.zip").write_bytes(content)
    with pytest.raises(ValueError, match="cannot read clip 'a' of shard s"):
        OfficialCache(config).clip("a")


def test_intrinsics_follow_the_size_of_the_picture() -> None:
    clip = to_latent_clip(official_clip("a"), (176, 640), 8)
    assert clip.intrinsics.tolist() == [500.0, 225.0, 320.0, 88.0]
    assert clip.poses.shape == (17, 4, 4)
    assert clip.latents.shape == (3, 4, 2, 3)


def test_a_clip_without_a_camera_stands_still() -> None:
    clip = to_latent_clip(official_clip("a", poses=None, intrinsics=None), (704, 1280), 8)
    assert torch.equal(clip.poses, torch.eye(4).double().expand(17, 4, 4))
    assert clip.intrinsics.tolist() == [1280.0, 704.0, 640.0, 352.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_latents": 4}, "got 17 poses for 4 latent frames, expected 25"),
        ({"poses": np.full((NUM_RAW, 4, 4), np.nan)}, "non-finite"),
        ({"intrinsics": 500.0 + 9.0 * np.arange(4.0 * NUM_RAW).reshape(-1, 4)}, "one lens"),
    ],
)
def test_cameras_that_cannot_be_right_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_latent_clip(official_clip("a", **changes), (704, 1280), 8)


def test_a_foreign_cache_holds_its_last_clips_out(config: OfficialCacheConfig) -> None:
    write(config, "s", *(official_clip(key) for key in "abc"), official_clip("d", num_latents=9))
    with pytest.warns(UserWarning, match="left out 1 clips.*d: got 17 poses for 9"):
        train, held_out = load_official_clips(
            config.raw.parent, picture=(704, 1280), temporal_stride=8
        )
    assert [clip.caption[-1] for clip in train] == ["a", "b"]
    assert [clip.caption[-1] for clip in held_out] == ["c"]


def test_latents_are_mapped_not_read(config: OfficialCacheConfig) -> None:
    write(config, "s", official_clip("a"), official_clip("b"))
    train, held_out = load_official_clips(config.raw.parent, picture=(704, 1280), temporal_stride=8)
    mapped = Path("/proc/self/maps")
    if mapped.is_file():  # Linux tells
        assert str(config.cache / "s.zip") in mapped.read_text()
    for clip, key in ((train[0], "a"), (held_out[0], "b")):
        truth = torch.from_numpy(official_clip(key).z)
        assert torch.equal(clip.latents.transpose(0, 1), truth)
        assert not clip.latents.untyped_storage().resizable()  # of the file, not of torch
    train[0].latents[:] = 0.0
    again, _ = load_official_clips(config.raw.parent, picture=(704, 1280), temporal_stride=8)
    assert torch.equal(again[0].latents.transpose(0, 1), torch.from_numpy(official_clip("a").z))


@pytest.mark.parametrize(("outer", "inner"), [(0, 8), (8, 0), (8, 8)])
def test_compressed_caches_hold_the_same(
    config: OfficialCacheConfig, outer: int, inner: int
) -> None:
    clip = official_clip("a", warped=np.asfortranarray(np.arange(72.0).reshape(4, 3, 2, 3)))
    write(config, "s", clip)
    content = io.BytesIO()
    assert clip.warped is not None
    (np.savez_compressed if inner else np.savez)(content, z=clip.z, warped=clip.warped)
    with zipfile.ZipFile(config.cache / "s.zip", "w", compression=outer) as pack:
        pack.writestr("a.npz", content.getvalue())
    assert_same(OfficialCache(config).clip("a"), clip)


def test_the_latents_stage_writes_both_layouts_alike(
    recording: Path, autoencoder: Path, tmp_path: Path
) -> None:
    own, official = tmp_path / "own", tmp_path / "official"
    run_latents_stage(
        LatentsStageConfig(
            data=(recording,), autoencoder=autoencoder, out=own, official=official, later_starts=0
        )
    )
    stage = StreamStageConfig(
        latents=official,
        autoencoder=autoencoder,
        trainer=TrainerConfig(out=tmp_path),
        model=TINY_NETWORK,
        piece=2,
        lanes=4,
    )
    made = StreamObjective(stage, torch.device("cpu"))
    for got, expected in zip(
        (made.train_clips, made.held_out_clips), load_latent_clips(own), strict=True
    ):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert one.caption == other.caption
            for name in ("latents", "warped", "poses", "intrinsics"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
                assert getattr(one, name).dtype == getattr(other, name).dtype
    loss, _ = made(made.batch(0, 0, 1))
    assert torch.isfinite(loss)


def test_a_network_that_wants_warped_pictures_refuses_a_cache_without(
    config: OfficialCacheConfig, autoencoder: Path
) -> None:
    write(config, "s", official_clip("a"), official_clip("b"))
    stage = StreamStageConfig(
        latents=config.raw.parent,
        autoencoder=autoencoder,
        trainer=TrainerConfig(out=config.raw),
        model=TINY_NETWORK,
    )
    with pytest.raises(ValueError, match="warp_condition"):
        StreamObjective(stage, torch.device("cpu"))
    plain = replace(stage, model=replace(TINY_NETWORK, warp_condition=False))
    assert len(StreamObjective(plain, torch.device("cpu")).train_clips) == 1
