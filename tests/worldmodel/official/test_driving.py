"""`SanaWM-Drive-v0` on a released streaming folder: tiny random parts, none of them a stand-in."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.envs.actions import Chunk, Waypoints
from sanawm_gym.envs.vector import SanaWMDriveVectorEnv
from sanawm_gym.vehicle import VehicleConfig
from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld

from .components import SIZE, TEXT_WIDTH, autoencoder, gemma2, tokenizer
from .conftest import RELEASED, YAML, reference_network, write_original, write_streaming

NETWORK = dataclasses.replace(RELEASED, in_channels=8, caption_channels=TEXT_WIDTH)
SCREEN = OfficialConfig(height=SIZE[0], width=SIZE[1])
WALKER = VehicleConfig(max_speed=0.7)
AHEAD = np.array([0.0, 0.4], dtype=np.float32)
Make = Callable[..., Any]


def picture() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (80, 96, 3), dtype=np.uint8)


def write_whole_release(root: Path) -> Path:
    """`SANA-WM_streaming` with its own text encoder beside, at tiny size."""
    write_streaming(root, reference_network(NETWORK))
    autoencoder().save_pretrained(root / "ltx2_causal_vae")
    gemma2().save_pretrained(root / "text_encoder")
    tokenizer().save_pretrained(root / "tokenizer")
    scheduler = {"denoising_step_list": [1000, 0], "inference_flow_shift": 8.0}
    (root / "config.yaml").write_text(yaml.safe_dump({**YAML, "scheduler": scheduler}))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_release(tmp_path_factory.mktemp("release") / "streaming")


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    return {
        "world": folder, "release": SCREEN, "dtype": "float32", "start": picture(),
        "reward": "kinematic", "drift": None, "prompt": "a dry road",
    }  # fmt: skip


@pytest.fixture
def make(settings: dict[str, Any]) -> Make:
    return lambda **changes: gym.make("SanaWM-Drive-v0", **{**settings, **changes}).unwrapped


def test_a_decision_is_one_chunk_and_infos_tell_the_clock(make: Make, folder: Path) -> None:
    env = make(latency_in_info=True, frames_in_info=True, horizon=4.0, speed=0.5)
    observation, info = env.reset(seed=3)
    # What is seen first is the given picture, cut to the world's size, not its decoded latent.
    assert np.array_equal(observation["camera"], picture()[8:72])
    assert (info["time"], info["raw_frame"], info["decision_seconds"]) == (0.0, 0, 1.5)
    assert "latency_ms" not in info and info["departures"] == ""
    ends = []
    for step in (1, 2, 3):
        observation, _, _, truncated, info = env.step(AHEAD)
        assert (info["time"], info["raw_frame"]) == (1.5 * step, 24 * step)
        assert info["frames"].shape == (24, *SIZE, 3) and info["latency_ms"] > 0
        assert np.array_equal(info["frames"][-1], observation["camera"])
        ends.append(truncated)
    assert ends == [False, False, True]  # 4 s are three decisions of 1.5 s


def test_what_is_drawn_is_what_the_world_draws_along_the_cars_path(
    make: Make, folder: Path
) -> None:
    env = make(frames_in_info=True, speed=0.5)
    _, info = env.reset(seed=3)
    steps = [env.step(AHEAD)[4] for _ in range(2)]
    config = dataclasses.replace(SCREEN, dtype="float32")
    world = OfficialWorld.from_pretrained(folder, config)
    state = world.start(
        picture()[None, 8:72],
        prompts=["a dry road"],
        intrinsics=info["intrinsics"][None],
        seeds=[info["world_seed"]],
        poses=info["world_from_camera"][None, None],
    )
    for step in steps:
        frames, state = world.step(state, step["frame_poses"][None])
        assert np.array_equal(frames[0], step["frames"])
    assert np.abs(frames[0, -1].astype(int) - frames[0, 0]).max() > 8


def test_gymnasiums_checker_is_content(make: Make) -> None:
    check_env(make(speed=0.5).unwrapped, skip_render_check=True)


def test_equal_seeds_and_actions_give_equal_bytes_and_infos(make: Make) -> None:
    def run(seed: int) -> tuple[bytes, dict[str, Any]]:
        env = make(speed=0.5)
        env.reset(seed=seed)
        observation, *_, info = env.step(AHEAD)
        return observation["camera"].tobytes(), info

    (first, info), (again, same), (other, _) = run(1), run(1), run(2)
    assert first == again and first != other
    assert info["raw_frame"] == same["raw_frame"] and info["reward_terms"] == same["reward_terms"]


def test_six_controls_or_waypoints_share_one_chunk(make: Make) -> None:
    held = make(speed=0.5, frames_in_info=True)
    chunk = make(speed=0.5, frames_in_info=True, action=Chunk(length=6, decisions=1))
    for env in (held, chunk):
        env.reset(seed=0)
    same = held.step(AHEAD)[4]
    as_one = chunk.step(np.tile(AHEAD, (6, 1)))[4]
    np.testing.assert_allclose(as_one["frame_poses"], same["frame_poses"], atol=1e-9)
    assert as_one["raw_frame"] == 24
    chunk.reset(seed=0)
    turned = chunk.step(np.array([[1.0, 0.4]] * 3 + [[-1.0, 0.4]] * 3, np.float32))[4]
    yaws = np.arctan2(turned["frame_poses"][:, 1, 2], turned["frame_poses"][:, 0, 2])
    assert yaws[11] > yaws[0] and yaws[23] < yaws[12]  # to the left, and back within the chunk
    ways = make(speed=0.5, action=Waypoints(length=6, interval=0.25, driven=1), vehicle=WALKER)
    assert ways.action_space.high[:, 0] == pytest.approx(0.7 * 0.25 * np.arange(1, 7))
    ways.reset(seed=0)
    plan = np.stack([0.125 * np.arange(1, 7), np.zeros(6), np.zeros(6)], axis=1)
    info = ways.step(plan.astype(np.float32))[4]
    assert info["distance"] == pytest.approx(0.75, abs=0.05) and info["raw_frame"] == 24
    with pytest.raises(ValueError, match="got 7 controls for the 24 raw frames"):
        env = make(action=Chunk(length=7, decisions=1))
        env.reset(seed=0)
        env.step(np.zeros((7, 2), np.float32))


def test_rows_that_begin_and_rows_under_way_share_an_environment(
    settings: dict[str, Any],
) -> None:
    env = SanaWMDriveVectorEnv(2, autoreset_mode="Disabled", speed=0.5, **settings)
    env.reset(seed=5)
    actions = np.tile(AHEAD, (2, 1))
    env.step(actions)
    env.reset(seed=[None, 9], options={"reset_mask": np.array([False, True])})
    seen, *_, infos = env.step(actions)
    assert infos["raw_frame"].tolist() == [48, 24]
    alone = SanaWMDriveVectorEnv(1, autoreset_mode="Disabled", speed=0.5, **settings)
    for seed, steps, row in ((5, 2, 0), (9, 1, 1)):
        alone.reset(seed=seed)
        for _ in range(steps):
            own, *_ = alone.step(actions[:1])
        difference = own["camera"][0].astype(int) - seen["camera"][row]
        assert np.abs(difference).max() <= 2


def test_a_snapshot_goes_on_to_the_same_bytes_and_forks_share_their_past(make: Make) -> None:
    env = make(speed=0.5)
    env.reset(seed=1)
    env.step(AHEAD)
    kept = env.snapshot()
    after = env.step(AHEAD)[0]["camera"]
    env.restore(kept)
    assert np.array_equal(env.step(AHEAD)[0]["camera"], after)
    env.restore(kept)
    fork = env.fork(2)
    seen = fork.step(np.array([[0.0, 0.4], [1.0, 0.4]], np.float32))[0]["camera"]
    assert np.abs(seen[0].astype(int) - after).max() <= 2
    assert np.abs(seen[1].astype(int) - after).max() > 4


def test_motion_beyond_walking_pace_is_told_once_and_in_every_info(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanawm_gym.envs.known_motion._TOLD", set())
    with caplog.at_level(logging.WARNING, "sanawm_gym.envs.known_motion"):
        env = make(speed=13.0)
        env.reset(seed=0)
        infos = [env.step(np.zeros(2, np.float32))[4] for _ in range(2)]
    assert all(info["departures"].startswith("forward motion reaches 13.") for info in infos)
    assert "beyond 0.80 of a walking camera" in infos[0]["departures"]
    assert [record.name for record in caplog.records].count("sanawm_gym.envs.known_motion") == 1
    slow = make(speed=0.5, vehicle=WALKER)
    slow.reset(seed=0)
    assert slow.step(AHEAD)[4]["departures"] == ""
    for envelope, said in (("car", {"departures": ""}), (None, {})):
        fast = make(speed=13.0, envelope=envelope)
        fast.reset(seed=0)
        info = fast.step(AHEAD)[4]
        assert {name: info[name] for name in info if name == "departures"} == said


def test_what_cannot_be_driven_is_refused_with_its_reason(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass start=<image"):
        make(start=None).reset(seed=0)
    with pytest.raises(ValueError, match="distilled to its own steps"):
        make(sampler_steps=2)
    with pytest.raises(ValueError, match="environment's own device, dtype, refine"):
        make(release=dataclasses.replace(SCREEN, dtype="bfloat16"))
    with pytest.raises(ValueError, match="which is no released network"):
        make(world="drive")
    with pytest.raises(ValueError, match="expected an OfficialConfig"):
        make(release="704x1280")
    with pytest.raises(ValueError, match="whole clips, expected a streaming one"):
        write_original(tmp_path / "clips", reference_network(NETWORK))
        autoencoder().save_pretrained(tmp_path / "clips" / "vae")
        gemma2().save_pretrained(tmp_path / "clips" / "text_encoder")
        tokenizer().save_pretrained(tmp_path / "clips" / "tokenizer")
        make(world=tmp_path / "clips")
