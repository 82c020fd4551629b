"""Videos along camera paths: the command whole, in tiny worlds and in the bundled one."""

import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sanawm_gym.cli import main
from sanawm_gym.paths.camera_path import CameraPath, from_steps
from sanawm_gym.paths.files import write_path
from sanawm_gym.render.camera_config import CameraConfig
from sanawm_gym.render.course import CourseConfig
from sanawm_gym.render.job import RenderJob, open_store, prepare, render
from sanawm_gym.render.parts import PartStore, stamp_of
from sanawm_gym.video import read_video
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.contexts import load_context
from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig
from sanawm_gym.worldmodel.refiner.folder import save_refiner
from tests.conftest import HEIGHT, WIDTH, random_weights

PHOTOGRAPH = Path(__file__).resolve().parents[1] / "docs" / "photograph.png"
# Car-like: fast enough for any world to draw, and inside what the bundled one knows.
KEYS = CourseConfig(actions="w-13,wd-9", speed=8.0, turn_rate_deg=20.0)


def job(world: str, out: Path, **changes: Any) -> RenderJob:
    """A job of 23 frames, of which the last chunk draws more than are asked for."""
    settings = {"world": world, "course": KEYS, "image": "road-0", "dtype": "float32", "out": out}
    return RenderJob(**{**settings, **changes})


@pytest.fixture
def flown(tmp_path: Path) -> Path:
    """A file of poses that rises and falls, in a world frame of its own."""
    rng = np.random.default_rng(4)
    way = np.tile([0.05, 0.0, 0.5], (22, 1)) + rng.normal(0, 0.02, (22, 3))
    path = from_steps(way, rng.normal(0, 0.01, (22, 3)))
    elsewhere = np.array([[0, 0, 1, 9], [-1, 0, 0, 3], [0, -1, 0, 40], [0, 0, 0, 1.0]])
    write_path(CameraPath(elsewhere @ path.poses), tmp_path / "flown.npz")
    return tmp_path / "flown.npz"


@pytest.mark.filterwarnings("ignore:path")
def test_as_many_frames_are_drawn_as_there_are_poses(
    world: str, flown: Path, tmp_path: Path
) -> None:
    report = render(job(world, tmp_path / "new" / "v.mp4", course=CourseConfig(poses=flown)))
    assert report.video is not None and report.path.num_frames == 23
    assert read_video(report.video).shape == (23, HEIGHT, WIDTH, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.mp4"]


def test_the_pictures_are_those_of_the_world_along_the_path(world: str, tmp_path: Path) -> None:
    drawing = prepare(job(world, tmp_path / "v.mp4", seed=7))
    store = PartStore(tmp_path / "parts")
    store.open(drawing.run({}))
    assert list(drawing.draw(store)) == [1, 5, 9, 13, 17, 21, 23]
    drawn = np.stack(list(drawing.frames(store)))
    context = load_context("road-0", world)
    model = WorldModel.from_pretrained(world, dtype="float32")
    # By hand: the clip of the context where its camera stands, then the path in fours.
    clip, path = drawing.start.poses, drawing.path.held_to(25)
    np.testing.assert_array_equal(path.poses[0], clip[-1])
    state = model.start(
        context.frames[None],
        prompts=[context.caption],
        intrinsics=context.intrinsics.as_array()[None],
        seeds=[7],
        poses=clip[None],
    )
    expected = [context.frames[-1:]]
    for chunk in range(6):
        frames, state = model.step(state, path.poses[None, 1 + 4 * chunk : 5 + 4 * chunk])
        expected.append(frames[0])
    np.testing.assert_array_equal(drawn, np.concatenate(expected)[:23])


@pytest.mark.parametrize("num_drawn", [3, 6])
def test_an_interrupted_video_goes_on_to_the_same_bytes(
    num_drawn: int, world: str, tmp_path: Path
) -> None:
    whole = render(job(world, tmp_path / "whole.mp4", part_seconds=0.5)).video
    broken = job(world, tmp_path / "broken.mp4", part_seconds=0.5)
    drawing = prepare(broken)
    store = open_store(broken, drawing, broken.out, refined=False)
    with closing(drawing.draw(store)) as drawn:
        for _ in range(1 + num_drawn):
            next(drawn)
    kept = store.num_kept()
    assert kept == num_drawn // 2 and not broken.out.exists()
    report = render(broken)
    assert report.resumed_at == min(kept * 0.5, report.path.seconds)
    assert whole is not None and broken.out.read_bytes() == whole.read_bytes()
    assert not store.folder.exists()


def test_parts_of_another_run_are_neither_used_nor_lost(world: str, tmp_path: Path) -> None:
    first = job(world, tmp_path / "v.mp4", part_seconds=0.25)
    store = PartStore(tmp_path / "v.parts")
    drawing = prepare(first)
    store.open(drawing.run({}))
    list(drawing.draw(store))
    before = sorted((p.name, p.read_bytes()) for p in store.folder.iterdir())
    with pytest.raises(ValueError, match=r"parts of another run in .*\(other .*seed.*--restart"):
        render(job(world, tmp_path / "v.mp4", part_seconds=0.25, seed=1))
    assert sorted((p.name, p.read_bytes()) for p in store.folder.iterdir()) == before
    render(job(world, tmp_path / "v.mp4", part_seconds=0.25, seed=1, restart=True))
    assert not store.folder.exists() and (tmp_path / "v.mp4").is_file()
    (tmp_path / "mine.parts").mkdir()
    with pytest.raises(ValueError, match="holds no unfinished video"):
        render(job(world, tmp_path / "mine.mp4", restart=True))
    assert (tmp_path / "mine.parts").is_dir()


def test_a_command_that_kept_nothing_is_no_obstacle_to_another(world: str, tmp_path: Path) -> None:
    stopped = job(world, tmp_path / "v.mp4", seed=1)
    open_store(stopped, prepare(stopped), stopped.out, refined=False)
    assert (tmp_path / "v.parts" / "run.json").is_file()
    assert render(job(world, tmp_path / "v.mp4", seed=2)).resumed_at == 0
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_the_preview_is_the_draft_and_the_video_is_refined_and_resumes(
    world: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "refined"
    shutil.copytree(world, folder)
    tiny = {"num_layers": 2, "num_attention_heads": 2, "head_dim": 12, "caption_channels": 16}
    refiner = Refiner(
        RefinerConfig(
            in_channels=4, strides=(4, 8, 8), max_position=(2.0, 40.0, 64.0), rope_theta=100.0,
            positions="window", block_frames=1, window_frames=3, sigmas=(0.6, 0.3), **tiny,
        )
    )  # fmt: skip
    random_weights(refiner)
    save_refiner(folder, refiner)
    draft = render(job(str(folder), tmp_path / "draft.mp4", part_seconds=0.5)).video
    both = {"refine": True, "preview": tmp_path / "preview.mp4", "part_seconds": 0.5}
    video = render(job(str(folder), tmp_path / "video.mp4", **both)).video
    broken = job(str(folder), tmp_path / "broken.mp4", **both)
    drawing = prepare(broken)
    store = open_store(broken, drawing, broken.out, refined=True)
    store.note(stamp_of(tmp_path / "preview.mp4"))
    with closing(drawing.draw(store)) as drawn:
        assert [next(drawn) for _ in range(4)][-1] == 13
    before = (tmp_path / "preview.mp4").stat().st_mtime_ns
    assert render(broken).resumed_at == 0.5
    assert (tmp_path / "preview.mp4").stat().st_mtime_ns == before  # not drawn once more
    assert video is not None and broken.out.read_bytes() == video.read_bytes()
    assert draft is not None
    assert (tmp_path / "preview.mp4").read_bytes() == draft.read_bytes()
    assert np.abs(read_video(video)[1:].astype(int) - read_video(draft)[1:]).mean() > 1
    with pytest.raises(ValueError, match="--refine"):
        job(world, tmp_path / "v.mp4", preview=tmp_path / "preview.mp4")


def test_the_lens_is_that_of_the_picture_and_told_in_its_pixels(
    world: str, picture: Path, flown: Path, tmp_path: Path
) -> None:
    def focal(camera: CameraConfig, course: CourseConfig = KEYS) -> float:
        made = prepare(
            job(world, tmp_path / "v.mp4", image=str(picture), camera=camera, course=course)
        )
        return float(made.start.intrinsics[0])

    # 120 x 90 pixels are cut to 64 x 40: the width is what fits.
    scale = WIDTH / 120
    assert focal(CameraConfig(fov_deg=90.0)) == pytest.approx(60 * scale)
    assert focal(CameraConfig(intrinsics=(80.0, 82.0, 61.0, 44.0))) == pytest.approx(80 * scale)
    assert focal(CameraConfig()) == pytest.approx(60 / np.tan(np.radians(35)) * scale)
    for context in (None, "road-1"):
        wide = job(world, tmp_path / "v.mp4", image=context, camera=CameraConfig(fov_deg=90.0))
        assert prepare(wide).start.intrinsics[0] == pytest.approx(WIDTH / 2)
    filmed = tmp_path / "filmed.npz"
    write_path(CameraPath(np.load(flown)["c2w"], lens=(70.0, 70.0, 60.0, 45.0)), filmed)
    assert focal(CameraConfig(), CourseConfig(poses=filmed)) == pytest.approx(70 * scale)
    assert focal(CameraConfig(fov_deg=90.0), CourseConfig(poses=filmed)) == pytest.approx(
        60 * scale
    )
    with Image.open(picture) as opened:
        exif = Image.Exif()
        exif[0x8769] = {0xA405: 24}  # focal length in millimetres of 35 mm film
        opened.save(picture, exif=exif)
    assert focal(CameraConfig()) == pytest.approx(24 / np.hypot(36, 24) * 150 * scale)
    for wrong, named in (
        (CameraConfig(intrinsics=(600.0, 600.0, 640.0, 360.0)), "cx=640 .*picture of 120x90"),
        (CameraConfig(intrinsics=(600.0, 600.0, 60.0, 45.0)), "expected 25 to 120"),
        (CameraConfig(intrinsics=(80.0, 20.0, 60.0, 45.0)), "square pixels"),
    ):
        with pytest.raises(ValueError, match=named):
            focal(wrong)


def test_a_tilted_camera_walks_level_and_one_led_into_the_ground_is_refused(
    world: str, picture: Path, flown: Path, tmp_path: Path
) -> None:
    tilted = CameraConfig(camera_pitch_deg=10.0, camera_height=2.0)
    made = prepare(job(world, tmp_path / "v.mp4", image=str(picture), camera=tilted))
    np.testing.assert_allclose(made.path.poses[:, 2, 3], 2.0)
    assert made.path.poses[0, 2, 2] == pytest.approx(-np.sin(np.radians(10.0)))
    steep = CameraConfig(camera_pitch_deg=40.0, camera_height=0.5)
    with pytest.raises(ValueError, match=r"m above the ground in frame \d+.*--camera-height"):
        prepare(job(world, tmp_path / "v.mp4", camera=steep, course=CourseConfig(poses=flown)))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("", "expected exactly one of poses, actions"),
        ("--actions w-4 --poses a.npz", "got poses and actions"),
        ("--poses nothing.npz", "nothing.npz, which is not a file"),
        ("--actions w-4 --mapping wasd", "'wasd'"),
        ("--actions q-4", "'q-4'"),
        ("--actions w-4 --poses-fps 10", "poses_fps: got 10 with actions"),
        ("--actions w-4 --speed -1", "speed: got -1"),
        ("--actions w-4 --poses-pitch-deg 4", "poses_pitch_deg: got 4 with actions"),
        ("--actions w-4 --fov-deg 10", "10 degrees"),
        ("--actions w-4 --fov-deg 70 --intrinsics 9 9 9 9", "expected one of them"),
        ("--actions w-4 --camera-height -1", "z > 0"),
        ("--actions w-4 --image no-such-thing", "no-such-thing"),
        ("--actions w-4 --out v.avi", "a .mp4 file"),
        ("--actions w-4 --plot-only", "expected --plot"),
        ("--actions w-4 --refine", "refiner"),
        ("--actions w-4 --device gpu", "expected 'cpu' or 'cuda'"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_one_line_and_leaves_nothing(
    words: str, named: str, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], picture: Path,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["render", "--world", world, "--image", str(picture), *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and named in said
    assert list(Path.cwd().iterdir()) == []


def test_a_path_can_be_looked_at_without_a_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "path.png"
    words = ["--world", "none", "--actions", "w30 wd20", "--mapping", "release-1"]
    assert main(["render", *words, "--plot", str(plot), "--plot-only"]) == 0
    said = capsys.readouterr().out
    assert "release-1: j/l turn, a/d slide, 0.05 m and 1.2 degrees a frame" in said
    with Image.open(plot) as picture:
        assert picture.size == (1080, 600)
    assert [path.name for path in tmp_path.iterdir()] == ["path.png"]


def test_the_help_of_render_imports_no_torch() -> None:
    statement = (
        "import sys, sanawm_gym.cli as cli\n"
        "try: cli.main(['render', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)


def test_motion_that_a_world_does_not_know_is_told(world: str, tmp_path: Path) -> None:
    sideways = CourseConfig(actions="a-16", mapping="release-1", speed=4.0)
    with pytest.warns(UserWarning, match=r"sideways motion reaches 4\.00 m/s, beyond 1\.\d+ of a"):
        render(job(world, tmp_path / "v.mp4", course=sideways))


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """The photograph of docs/photograph.md, the first of its six pictures."""
    with Image.open(PHOTOGRAPH) as pictures:
        pictures.convert("RGB").crop((0, 0, 384, 216)).save(tmp_path / "dash.png")
    return tmp_path / "dash.png"


def test_the_bundled_world_follows_a_path_from_a_photograph_and_from_a_frame_of_its_own(
    photograph: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.png"
    Image.fromarray(load_context("003").frames[-1]).save(own)
    for image in (photograph, own):
        out = tmp_path / f"{image.stem}.mp4"
        words = ["--image", str(image), "--prompt", "a highway in clear weather at noon"]
        words += ["--actions", "w-12", "--speed", "8", "--fov-deg", "60"]
        assert main(["render", *words, "--out", str(out)]) == 0
        frames = read_video(out).astype(int)
        assert frames.shape == (13, 72, 128, 3)
        # The picture goes on: what is drawn resembles what was given, and moves.
        first = np.abs(frames[4] - frames[0]).mean()
        assert first < 25
        assert np.abs(frames[12] - frames[4]).mean() > 1


def test_the_example_renders_the_path_that_it_composed(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).resolve().parents[1] / "examples" / "07_render_a_path.py"
    assert len(script.read_text().splitlines()) <= 80
    words = ["--world", world, "--image", "road-0", "--seconds", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [script.name, *words])
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert "inside what a car can do" in said and "17 frames along 8.0 m" in said
    assert len(read_video(tmp_path / "path.mp4")) == 17
    assert (tmp_path / "path.png").is_file()


@pytest.mark.filterwarnings("ignore:path", "ignore:this world never learnt")
def test_the_commands_of_the_page_run(
    world: str, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (PHOTOGRAPH.parent / "camera_paths.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in page.split("```bash\n")[1:]]
    monkeypatch.chdir(tmp_path)  # where the photograph is dash.png
    write_path(from_steps(np.tile([0.0, 0.0, 0.5], (8, 1)), np.zeros((8, 3))), "path.npz")
    commands = [line for block in blocks for line in block.splitlines() if line]
    assert len(commands) >= 2
    for command in commands:
        assert main([*shlex.split(command)[1:], "--world", world]) == 0
    assert len(read_video("out.mp4")) == 9 and Path("path.png").is_file()
