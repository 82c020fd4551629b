"""Pictures for people: render modes, the window, and videos with every raw frame."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from sanawm_gym.envs import RecordVideo
from sanawm_gym.envs.screen import tile
from sanawm_gym.video import read_video

Make = Callable[..., Any]
Actions = NDArray[np.float32]


def test_without_a_render_mode_nothing_is_rendered(make: Make) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    assert env.render() is None and env.metadata["render_fps"] == 16


def test_rgb_array_is_the_observed_picture_at_the_rate_of_decisions(
    make: Make, actions: Actions
) -> None:
    env = make(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert (env.render() == observation["camera"]).all()
    observation = env.step(actions[0])[0]
    assert (env.render() == observation["camera"]).all()
    assert env.metadata["render_fps"] == 4


def test_rgb_array_list_is_every_raw_frame_since_the_last_call(
    make: Make, actions: Actions
) -> None:
    env = make(render_mode="rgb_array_list", frames_in_info=True)
    env.reset(seed=0)
    assert env.metadata["render_fps"] == 16
    assert len(env.render()) == 1
    infos = [env.step(action)[4] for action in actions[:3]]
    frames = env.render()
    assert (np.stack(frames) == np.concatenate([info["frames"] for info in infos])).all()
    assert env.render() == []
    env.step(actions[3])
    env.reset()
    assert len(env.render()) == 1


def test_a_vector_environment_renders_each_row(make_vec: Make, actions: Actions) -> None:
    envs = make_vec(3, render_mode="rgb_array_list")
    envs.reset(seed=0)
    observations = envs.step(actions[:3])[0]
    rendered = envs.render()
    assert [len(frames) for frames in rendered] == [5, 5, 5]
    assert (np.stack([frames[-1] for frames in rendered]) == observations["camera"]).all()
    envs.reset(options={"render_mode": "rgb_array"})
    assert np.shape(envs.render()) == (3, 40, 64, 3)


def test_the_window_shows_the_drive(make_vec: Make, actions: Actions) -> None:
    import pygame

    envs = make_vec(2, render_mode="human")
    envs.reset(seed=0)
    observations = envs.step(actions[:2])[0]
    surface = pygame.display.get_surface()
    shown = pygame.surfarray.array3d(surface).swapaxes(0, 1)
    factor = shown.shape[0] // 40
    assert (shown[::factor, ::factor] == tile(observations["camera"])).all()
    assert envs.render() is None
    envs.close()
    assert not pygame.display.get_init()


def test_without_pygame_the_window_names_the_extra(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = make(render_mode="human")
    with pytest.raises(ImportError, match=r"pip install 'sanawm-gym\[viz\]'"):
        env.reset(seed=0)


def test_pictures_are_tiled_to_a_near_square() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((2, 3, 3), np.uint8)
    grid = tile(pictures)
    assert grid.shape == (4, 9, 3)
    assert grid[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 0]]


def test_a_recorded_video_holds_the_first_picture_and_every_raw_frame(
    make: Make, actions: Actions, tmp_path: Path
) -> None:
    env = RecordVideo(
        make(render_mode="rgb_array_list", horizon=1.0), tmp_path, lambda episode: episode != 1
    )
    drawn = []
    for _ in range(3):
        observation, _ = env.reset()
        drawn.append(observation["camera"])
        for action in actions[:4]:
            observation = env.step(action)[0]
    env.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["rl-video-episode-0.mp4", "rl-video-episode-2.mp4"]
    video = read_video(tmp_path / names[1])
    assert len(video) == 1 + 4 * 4
    assert np.abs(video[0].astype(int) - drawn[2]).mean() < 12  # noise is hard on a codec
    assert np.abs(video[-1].astype(int) - observation["camera"]).mean() < 12


def test_an_unfinished_episode_is_written_when_the_environment_closes(
    make: Make, actions: Actions, tmp_path: Path
) -> None:
    env = RecordVideo(make(render_mode="rgb_array"), tmp_path / "new", name_prefix="mine")
    env.reset(seed=0)
    for action in actions[:3]:
        env.step(action)
        assert env.render().shape == (40, 64, 3)
    env.close()
    assert len(read_video(tmp_path / "new" / "mine-episode-0.mp4")) == 4


def test_recording_leaves_the_frames_of_the_last_step_to_render(
    make: Make, actions: Actions, tmp_path: Path
) -> None:
    env = RecordVideo(make(render_mode="rgb_array_list"), tmp_path)
    env.reset(seed=0)
    env.step(actions[0])
    assert len(env.render()) == 4 and env.render() == []
    env.close()


def test_recording_needs_pictures(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 'rgb_array_list'"):
        RecordVideo(make(), tmp_path)


def test_gymnasiums_human_wrapper_is_not_needed(make: Make) -> None:
    env: gym.Env[Any, Any] = make(render_mode="human")
    assert env.render_mode == "human" and "HumanRendering" not in str(env)
    env.close()
