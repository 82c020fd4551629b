"""Recordings of any size and clock come fitted, and damaged drives are named and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sanawm_gym.camera import Intrinsics, fit_image
from sanawm_gym.episodes import episode_path, shard_path
from sanawm_gym.train_wm.autoencoder_stage import (
    AutoencoderObjective,
    AutoencoderStageConfig,
    run_autoencoder_stage,
)
from sanawm_gym.train_wm.frames import FrameClips
from sanawm_gym.train_wm.latent_clips import clip_place, load_latent_clips
from sanawm_gym.train_wm.latents_stage import LatentsStageConfig, run_latents_stage
from sanawm_gym.train_wm.processes import Rows
from sanawm_gym.train_wm.recording import ReadingConfig, Recording
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.video import write_video
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.folder import save_module
from tests.train_wm.conftest import TINY_AUTOENCODER
from tests.train_wm.drives import LENS, cut_off, drive_poses, picture, write_drives


def read(path: Path, **changes: object) -> Recording:
    return Recording(path, ReadingConfig(**changes))  # type: ignore[arg-type]


def vae(data: Path, out: Path, **changes: object) -> AutoencoderStageConfig:
    settings: dict[str, object] = {"model": TINY_AUTOENCODER, "clip_frames": 5, **changes}
    run = TrainerConfig(out=out, steps=1, warmup=1, sample_every=0)
    return AutoencoderStageConfig(data=data, trainer=run, **settings)  # type: ignore[arg-type]


def truncate(root: Path) -> str:
    cut_off(episode_path(root, 0, 1))
    return r"episode-000001\.mp4: .*bytes too early"


def shorten(root: Path) -> str:
    write_video(episode_path(root, 0, 1), [picture(72, 128, frame) for frame in range(8)], 16)
    return r"episode-000001\.mp4: got 8 frames .*expected 9"


def remove(root: Path) -> str:
    episode_path(root, 0, 1).unlink()
    return r"episode-000001\.mp4: .*No such file"


def spoil_coding(root: Path) -> str:
    path = episode_path(root, 0, 1)
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 4
    content[start : content.find(b"moov") - 4] = bytes(content.find(b"moov") - 4 - start)
    path.write_bytes(content)
    return r"episode-000001\.mp4: video: .*complete"


@pytest.mark.parametrize("damage", [truncate, shorten, remove, spoil_coding])
def test_a_damaged_video_is_named_once_and_left_out(
    tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    said = damage(write_drives(tmp_path, [9, 9]))
    recording = read(tmp_path, max_damaged=0.5)
    whole, damaged = recording.episodes
    assert recording.cameras(whole) is not None and recording.frames(whole) is not None
    with pytest.warns(UserWarning, match=said) as warned:
        for _ in range(2):
            assert recording.cameras(damaged) is None or recording.frames(damaged) is None
    # A failing decoder may leave warnings about its pipes behind.
    assert [each.category for each in warned].count(UserWarning) == 1
    assert recording.report()["num_left_out"] == 1
    assert list(recording.left_out) == ["shard-00000/episode-000001.mp4"]


@pytest.mark.parametrize(
    ("poses", "said"),
    [
        (np.full((9, 4, 4), np.nan), "non-finite"),
        (2.0 * drive_poses(9, 16.0), "not rigid"),
    ],
)
def test_cameras_that_cannot_be_true_are_damage(
    tmp_path: Path, poses: np.ndarray, said: str
) -> None:
    recording = read(write_drives(tmp_path, [9, 9], poses={1: poses}), max_damaged=0.5)
    assert recording.cameras(recording.episodes[0]) is not None
    with pytest.warns(UserWarning, match=rf"episode-000001\.mp4: .*{said}"):
        assert recording.cameras(recording.episodes[1]) is None


def test_a_table_that_cannot_be_read_costs_all_its_episodes(tmp_path: Path) -> None:
    cut_off(shard_path(write_drives(tmp_path, [9] * 5), 1))
    with pytest.warns(UserWarning, match=r"left out shard-00001\.parquet") as warned:
        recording = read(tmp_path, max_damaged=0.4)
    assert len(warned) == 1
    assert [info.index for info in recording.episodes] == [0, 1, 4]
    assert recording.report()["num_episodes"] == 5
    assert recording.report()["num_left_out"] == 2


def test_a_recording_with_too_much_damage_is_refused(tmp_path: Path) -> None:
    truncate(write_drives(tmp_path, [9, 9, 9]))
    recording = read(tmp_path, max_damaged=0.3)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"1 of 3 episodes .*at most a share of 0.3.*000001\.mp4"),
    ):
        [recording.cameras(info) for info in recording.episodes]


def test_pictures_and_lens_are_fitted_together(tmp_path: Path) -> None:
    recording = read(write_drives(tmp_path, [5], size=(120, 160)), picture=(40, 64))
    info = recording.episodes[0]
    cameras, frames = recording.cameras(info), recording.frames(info)
    assert cameras is not None and frames is not None
    source = Intrinsics(*(np.array(LENS) * [160, 160, 160, 120]), 160, 120)
    truth = np.stack([picture(120, 160, frame) for frame in range(5)])
    expected, lens = fit_image(truth, source, 64, 40)
    np.testing.assert_allclose(frames.astype(int), expected, atol=3)
    np.testing.assert_array_equal(cameras.intrinsics, lens.as_array())
    np.testing.assert_array_equal(cameras.poses, drive_poses(5, 16.0))


def test_every_nth_frame_is_read_with_its_pose(tmp_path: Path) -> None:
    recording = read(write_drives(tmp_path, [10], fps=48.0))
    info = recording.episodes[0]
    cameras, frames = recording.cameras(info), recording.frames(info)
    assert cameras is not None and frames is not None
    assert recording.num_frames(info) == len(frames) == 4
    np.testing.assert_array_equal(cameras.poses, drive_poses(10, 48.0)[::3])
    expected = np.stack([picture(72, 128, frame) for frame in (0, 3, 6, 9)])
    np.testing.assert_allclose(frames.astype(int), expected, atol=3)


@pytest.mark.parametrize("fps", [10.0, 24.0, 8.0])
def test_a_clock_between_whose_ticks_the_worlds_fall_is_refused(tmp_path: Path, fps: float) -> None:
    write_drives(tmp_path, [5], fps=fps)
    with pytest.raises(ValueError, match=rf"has {fps:g} frames/s, expected a whole multiple .*16"):
        read(tmp_path)
    assert len(read(tmp_path, fps=fps / 2).episodes) == 1


@pytest.mark.parametrize(
    "changes", [{"picture": (0, 128)}, {"fps": float("nan")}, {"max_damaged": 1.5}]
)
def test_impossible_readings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(must|in 0) .*got"):
        ReadingConfig(**changes)  # type: ignore[arg-type]


def test_a_lens_the_world_model_does_not_know_is_damage(tmp_path: Path) -> None:
    # Cut to a narrow strip, the lens sees less than 25 degrees.
    recording = read(write_drives(tmp_path, [5], size=(96, 160)), picture=(64, 16), max_damaged=1.0)
    with pytest.warns(UserWarning, match="field of view: got"):
        assert recording.cameras(recording.episodes[0]) is None


def test_a_video_found_damaged_late_is_drawn_again_alike(tmp_path: Path) -> None:
    spoil_coding(write_drives(tmp_path, [9, 21, 9, 9]))
    reading = ReadingConfig(max_damaged=0.5)

    def draw(numbers: list[int]) -> dict[int, torch.Tensor]:
        clips = FrameClips(tmp_path, reading, longest=5)
        with pytest.warns(UserWarning, match=r"episode-000001\.mp4"):
            return {
                number: clips.draw(5, Rows(range(number, number + 1), 0).generators[0])
                for number in numbers
            }

    some, others = draw(list(range(20))), draw(list(range(19, -1, -1)))
    for number, clip in some.items():
        assert torch.equal(clip, others[number])


def test_clips_do_not_depend_on_the_room_for_pictures(tmp_path: Path) -> None:
    write_drives(tmp_path, [9, 13, 21, 9])
    roomy, tight = (
        FrameClips(tmp_path, ReadingConfig(), longest=5, memory_gb=gb) for gb in (1.0, 1e-6)
    )
    for seed in range(12):
        one, other = (
            clips.draw(5, torch.Generator().manual_seed(seed)) for clips in (roomy, tight)
        )
        assert torch.equal(one, other)
    assert len(roomy._decoded) > 1
    assert len(tight._decoded) == 1


def test_processes_share_the_autoencoders_batch(tmp_path: Path) -> None:
    config = vae(
        write_drives(tmp_path, [9, 13, 21]), tmp_path, batch_size=4, clip_frames=9, shortest_clip=5
    )
    objective = AutoencoderObjective(config, torch.device("cpu"))
    lengths = set()
    for step in range(4):
        alone = objective.batch(step, 0, 1)
        lengths.add(alone.frames.shape[2])
        shared = [objective.batch(step, rank, 2) for rank in (0, 1)]
        for name in ("frames", "noise"):
            halves = [getattr(batch, name) for batch in shared]
            assert torch.equal(getattr(alone, name), torch.stack(halves, dim=1).flatten(0, 1))
    assert lengths == {5, 9}


def test_the_vae_stage_says_in_its_run_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_drives(tmp_path / "data", [9, 9, 9, 9], size=(48, 96)), tmp_path / "vae"
    truncate(data)
    config = vae(data, out, reading=ReadingConfig(picture=(40, 64), max_damaged=0.25))
    with pytest.warns(UserWarning, match=r"episode-000001\.mp4"):
        run_autoencoder_stage(config)
    run = json.loads((out / "run.json").read_text())
    assert run["recording"]["num_left_out"] == 1
    assert list(run["recording"]["left_out"]) == ["shard-00000/episode-000001.mp4"]
    assert run["config"]["reading"]["picture"] == [40, 64]
    said = capsys.readouterr().out
    assert "fitted from 48x96 to 40x64, which keeps 80%" in said
    assert "read 3 of 4 episodes" in said
    with pytest.raises(ValueError, match="40x60, expected multiples of the autoencoder's 8"):
        vae(data, out, reading=ReadingConfig(picture=(40, 60)))


def test_latents_of_several_recordings_stand_in_one_folder(
    autoencoder: Path, tmp_path: Path
) -> None:
    drives = [("a", {}), ("b", {0: 1, 1: 0, 2: 0})]
    data = [
        write_drives(tmp_path / name, [9, 13, 9], size=(40, 64), aside=aside)
        for name, aside in drives
    ]
    reading = ReadingConfig(picture=(40, 64))
    config = LatentsStageConfig(
        data=(data[0],), autoencoder=autoencoder, out=tmp_path / "out", reading=reading,
        later_starts=0,
    )  # fmt: skip
    run_latents_stage(config)
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("clip-*")}
    run_latents_stage(replace(config, data=tuple(data)))
    files = sorted(path.name for path in (tmp_path / "out").glob("clip-*"))
    assert len(files) == 6 and all(
        (tmp_path / "out" / name).read_bytes() == whole for name, whole in first.items()
    )
    assert [clip_place(name) for name in files] == [(k, i, 0) for k in range(2) for i in range(3)]
    train, held_out = load_latent_clips(tmp_path / "out")
    assert [len(train), len(held_out)] == [4, 2]  # the last drive of either recording
    assert [clip.strays for clip in (*train, *held_out)] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    report = json.loads((tmp_path / "out" / "run.json").read_text())["recording"]
    assert [part["num_episodes"] for part in report] == [3, 3]
    with pytest.raises(ValueError, match="no data"):
        replace(config, data=())


def test_the_latents_stage_leaves_damage_out_and_takes_it_in_when_mended(
    autoencoder: Path, tmp_path: Path
) -> None:
    data, out = write_drives(tmp_path / "data", [9, 9, 9, 13], size=(48, 96)), tmp_path / "out"
    video = episode_path(data, 0, 1)
    whole = video.read_bytes()
    cut_off(video)
    reading = ReadingConfig(picture=(40, 64), max_damaged=0.25)
    config = LatentsStageConfig(
        data=(data,), autoencoder=autoencoder, out=out, reading=reading, later_starts=0
    )
    with pytest.warns(UserWarning, match=r"left out shard-00000/episode-000001\.mp4"):
        run_latents_stage(config)
    train, held_out = load_latent_clips(out, picture=(40, 64))
    assert [clip.caption for clip in (*train, *held_out)] == ["road 0", "road 2", "road 3"]
    assert train[0].latents.shape == (3, 4, 5, 8)
    scale = 40 / 48
    expected = np.array([76.8, 76.8, 48.0, 19.2]) - [0, 0, (96 - 64 / scale) / 2, 0]
    np.testing.assert_allclose(train[0].intrinsics, scale * expected)
    assert json.loads((out / "run.json").read_text())["recording"]["num_left_out"] == 1
    video.write_bytes(whole)
    run_latents_stage(config)
    assert [clip.caption for clip in load_latent_clips(out)[0]] == ["road 0", "road 1", "road 2"]
    assert json.loads((out / "run.json").read_text())["recording"]["num_left_out"] == 0
    with pytest.raises(ValueError, match="pictures of 40x64, got picture 72x128"):
        load_latent_clips(out, picture=(72, 128))
    with pytest.raises(ValueError, match=r"made with picture and fps \[\[40, 64\], 16.0\]"):
        run_latents_stage(replace(config, reading=ReadingConfig()))
    other = tmp_path / "other"
    torch.manual_seed(1)
    save_module(other, "autoencoder", VideoAutoencoder(TINY_AUTOENCODER), TINY_AUTOENCODER)
    with pytest.raises(ValueError, match="and another autoencoder"):
        run_latents_stage(replace(config, autoencoder=other))
