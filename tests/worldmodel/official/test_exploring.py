"""`SanaWM-Explore-v0` on a released streaming folder: tiny random parts, as for driving."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.paths.key_words import key_path
from sanawm_gym.paths.keys import find_mapping
from sanawm_gym.worldmodel.official import OfficialWorld

from .components import SIZE, autoencoder, gemma2, tokenizer
from .conftest import reference_network, write_original
from .test_driving import NETWORK, SCREEN, picture, write_whole_release

ENV_ID = "SanaWM-Explore-v0"
STROLL = np.array([0.5, 0.1, 0.0, -0.4, 0.1, 0.0], dtype=np.float32)
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_whole_release(tmp_path_factory.mktemp("release") / "streaming")
    return {
        "world": folder, "release": SCREEN, "dtype": "float32", "start": picture(),
        "prompt": "a dry road", "max_speed": 0.8, "max_turn_deg": 19.0,
    }  # fmt: skip


@pytest.fixture
def make(settings: dict[str, Any]) -> Make:
    return lambda **changes: gym.make(ENV_ID, **{**settings, **changes}).unwrapped


def test_an_action_is_held_for_a_chunk_and_infos_tell_the_clock(make: Make) -> None:
    env = make(latency_in_info=True, frames_in_info=True, horizon=4.0)
    observation, info = env.reset(seed=3)
    assert np.array_equal(observation["camera"], picture()[8:72])
    assert (info["time"], info["raw_frame"], info["decision_seconds"]) == (0.0, 0, 1.5)
    assert "latency_ms" not in info and info["departures"] == ""
    before, ends = info["world_from_camera"], []
    for step in (1, 2, 3):
        observation, _, _, truncated, info = env.step(STROLL)
        assert (info["time"], info["raw_frame"]) == (1.5 * step, 24 * step)
        assert info["frames"].shape == (24, *SIZE, 3) and info["latency_ms"] > 0
        assert np.array_equal(info["frames"][-1], observation["camera"])
        assert info["departures"] == ""
        # The same motion from each of the 24 raw frames to the next.
        path = np.concatenate([before[None], info["frame_poses"]])
        moves = np.linalg.inv(path[:-1]) @ path[1:]
        np.testing.assert_allclose(moves, moves[:1].repeat(24, axis=0), atol=1e-9)
        np.testing.assert_allclose(moves[0, :3, 3] * 16, [-0.08, 0.0, 0.4], atol=1e-9)
        before = info["frame_poses"][-1]
        ends.append(truncated)
    assert ends == [False, False, True]  # 4 s are three decisions of 1.5 s


def test_what_is_drawn_is_what_the_world_draws_along_the_held_keys(
    make: Make, settings: dict[str, Any]
) -> None:
    env = make(action="keys", mapping="release-1", frames_in_info=True)
    _, info = env.reset(seed=3)
    first = info["world_from_camera"]
    world = OfficialWorld.from_pretrained(
        settings["world"], dataclasses.replace(SCREEN, dtype="float32")
    )
    state = world.start(
        picture()[None, 8:72],
        prompts=["a dry road"],
        intrinsics=info["intrinsics"][None],
        seeds=[info["world_seed"]],
        poses=first[None, None],
    )
    mapping = find_mapping("release-1").at_speed(0.8, 19.0)
    path = key_path("w24 wj24", mapping).beginning_at(first).poses
    for number, held in enumerate(([1, 0, 0, 0], [1, 0, 0, 1])):
        info = env.step(np.array(held))[4]
        poses = path[1 + 24 * number :][:24]
        np.testing.assert_allclose(info["frame_poses"], poses, atol=1e-9)
        frames, state = world.step(state, info["frame_poses"][None])
        assert np.array_equal(frames[0], info["frames"])
    assert np.abs(frames[0, -1].astype(int) - frames[0, 0]).max() > 8


def test_gymnasiums_checker_is_content_and_equal_seeds_give_equal_bytes(make: Make) -> None:
    check_env(make(observation="latent"), skip_render_check=True)

    def run(seed: int) -> bytes:
        env = make()
        env.reset(seed=seed)
        seen: bytes = env.step(STROLL)[0]["camera"].tobytes()
        return seen

    first = run(1)
    assert first == run(1) and first != run(2)


def test_rows_of_different_ages_share_an_environment(settings: dict[str, Any]) -> None:
    def rows(count: int) -> Any:
        return gym.make_vec(ENV_ID, count, autoreset_mode="Disabled", **settings).unwrapped

    env, actions = rows(2), np.stack([STROLL, -STROLL])
    env.reset(seed=5)
    env.step(actions)
    env.reset(seed=[None, 9], options={"reset_mask": np.array([False, True])})
    seen, *_, infos = env.step(actions)
    assert infos["raw_frame"].tolist() == [48, 24]
    alone = rows(1)
    for seed, steps, row in ((5, 2, 0), (9, 1, 1)):
        alone.reset(seed=seed)
        for _ in range(steps):
            own, *_ = alone.step(actions[row : row + 1])
        assert np.abs(own["camera"][0].astype(int) - seen["camera"][row]).max() <= 2


def test_a_snapshot_goes_on_to_the_same_bytes_and_forks_share_their_past(make: Make) -> None:
    env = make()
    env.reset(seed=1)
    env.step(STROLL)
    kept = env.snapshot()
    after = env.step(STROLL)[0]["camera"]
    env.restore(kept)
    assert np.array_equal(env.step(STROLL)[0]["camera"], after)
    env.restore(kept)
    seen = env.fork(2).step(np.stack([STROLL, -STROLL]))[0]["camera"]
    assert np.abs(seen[0].astype(int) - after).max() <= 2
    assert np.abs(seen[1].astype(int) - after).max() > 4


def test_motion_beyond_walking_pace_is_told_with_what_to_change(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanawm_gym.envs.known_motion._TOLD", set())
    with caplog.at_level(logging.WARNING, "sanawm_gym.envs.known_motion"):
        env = make(max_speed=8.0)
        env.reset(seed=0)
        infos = [env.step(np.eye(6, dtype=np.float32)[0])[4] for _ in range(2)]
    assert all(info["departures"].startswith("forward motion reaches 8.") for info in infos)
    (record,) = [one for one in caplog.records if one.name == "sanawm_gym.envs.known_motion"]
    assert "Go slower (a lower max_speed and max_turn_deg)" in record.getMessage()
    anyhow = make(max_speed=8.0, envelope=None)
    assert "departures" not in anyhow.reset(seed=0)[1]
    assert "departures" not in anyhow.step(np.eye(6, dtype=np.float32)[0])[4]


def test_what_cannot_be_explored_is_refused_with_its_reason(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass start=<image"):
        make(start=None).reset(seed=0)
    with pytest.raises(ValueError, match=r"start: got 'no\.jpg', expected an image file"):
        make(start="no.jpg").reset(seed=0)
    with pytest.raises(ValueError, match="no such folder, nor is it the id of a published one"):
        make(world=tmp_path / "not-there")
    with pytest.raises(ValueError, match="distilled to its own steps"):
        make(sampler_steps=2)
    with pytest.raises(ValueError, match="which is no released network"):
        make(world="drive")
    with pytest.raises(ValueError, match="envelope: got 'run', expected one of"):
        make(envelope="run")
    write_original(tmp_path / "clips", reference_network(NETWORK))
    autoencoder().save_pretrained(tmp_path / "clips" / "vae")
    gemma2().save_pretrained(tmp_path / "clips" / "text_encoder")
    tokenizer().save_pretrained(tmp_path / "clips" / "tokenizer")
    with pytest.raises(ValueError, match="whole clips, expected a streaming one"):
        make(world=tmp_path / "clips")


def test_the_example_of_the_page_runs(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    page = Path(__file__).resolve().parents[3] / "docs" / "official.md"
    section = page.read_text(encoding="utf-8").split("## Exploring")[1]
    code = section.split("```python\n")[1].split("```")[0]
    folder = settings["world"]
    for there, here in (
        ("OfficialConfig(", f"OfficialConfig(height={SIZE[0]}, width={SIZE[1]}, "),
        ('"gemma-2-2b-it"', repr(str(folder))),
        ('"SANA-WM_streaming/ltx2_causal_vae"', repr(str(folder / "ltx2_causal_vae"))),
        ('"sana-wm-streaming"', repr(str(folder))),
        ('"cuda"', '"cpu"'),
    ):
        assert code.count(there) == 1
        code = code.replace(there, here)
    Image.fromarray(picture()).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    # Chunks of 1.5 s at 0.4 m/s: inside what the network knows, so that nothing is told.
    assert (float(first[0]), float(second[0])) == (1.5, 3.0)
    assert float(first[1]) == pytest.approx(0.6) and float(second[1]) == pytest.approx(1.2)
    assert len(first) == len(second) == 3 and float(second[2]) > 0
