"""The command `render` with released weights, at tiny size: streams, whole clips, resumption."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from sanawm_gym.cli import main
from sanawm_gym.render.course import CourseConfig
from sanawm_gym.render.job import RenderJob, open_store, prepare, render
from sanawm_gym.render.release import ReleaseConfig
from sanawm_gym.video import read_video
from sanawm_gym.worldmodel.official.settings import FORMULAS

pytest.importorskip("diffusers")

from tests.worldmodel.official import components
from tests.worldmodel.official.conftest import (
    RELEASED,
    reference_network,
    write_chunk_causal,
    write_streaming,
)

HEIGHT, WIDTH = components.SIZE


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A streaming and a whole-clip release with their autoencoder, text encoder and refiner."""
    root = tmp_path_factory.mktemp("releases")
    config = dataclasses.replace(RELEASED, in_channels=8, caption_channels=components.TEXT_WIDTH)
    network = reference_network(config)
    write_streaming(root / "streaming", network)
    write_chunk_causal(root / "chunk_causal", network)
    components.autoencoder().save_pretrained(root / "vae")
    components.gemma2().save_pretrained(root / "text")
    components.tokenizer().save_pretrained(root / "text")
    components.write_refiner(root / "refiner")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)).save(
        root / "first.png"
    )
    yield root


def job(releases: Path, layout: str, out: Path, **changes: Any) -> RenderJob:
    settings: dict[str, Any] = {
        "world": str(releases / layout),
        "image": str(releases / "first.png"),
        "prompt": "a dry road",
        "course": CourseConfig(actions="w-20,wd-10"),
        "dtype": "float32",
        "out": out,
        "release": ReleaseConfig(
            autoencoder=str(releases / "vae"),
            text=str(releases / "text"),
            width=WIDTH,
            height=HEIGHT,
            steps=None if layout == "streaming" else 2,
            guidance=None if layout == "streaming" else 1.0,
        ),
    }
    return RenderJob(**{**settings, **changes})


def test_a_streaming_release_resumes_by_chunk_to_the_same_bytes(
    releases: Path, tmp_path: Path
) -> None:
    whole = render(job(releases, "streaming", tmp_path / "whole.mp4")).video
    assert whole is not None and read_video(whole).shape == (31, HEIGHT, WIDTH, 3)
    broken = job(releases, "streaming", tmp_path / "broken.mp4")
    drawing = prepare(broken)
    assert drawing.world.frames_per_step == 24 and drawing.num_parts == 2
    store = open_store(broken, drawing, broken.out, refined=False)
    with closing(drawing.draw(store)) as drawn:
        assert [next(drawn), next(drawn)] == [1, 25]
    assert render(broken).resumed_at == 1.5
    assert broken.out.read_bytes() == whole.read_bytes()


def test_a_release_of_whole_clips_draws_the_path_at_once_and_counts_its_steps(
    releases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = prepare(job(releases, "chunk_causal", tmp_path / "clip.mp4"))
    assert drawing.num_chunks == 1 and drawing.world.frames_per_step == 32
    video = render(job(releases, "chunk_causal", tmp_path / "clip.mp4")).video
    assert video is not None and len(read_video(video)) == 31
    # Two chunks of two steps each, the second of which begins with the first's second step.
    counted = re.findall(r"denoising: .*?\| (\d+)/3 ", capsys.readouterr().err)
    assert list(dict.fromkeys(counted)) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("layout", "refining", "said"),
    [
        ("streaming", "blocks", "draft 100%"),
        ("chunk_causal", "blocks", "refining: 100%"),
        ("chunk_causal", "at_once", "rendering 100%"),
    ],
)
def test_a_release_is_refined_and_its_draft_previewed(
    layout: str, refining: Any, said: str, releases: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Refined is another video than the draft, which is the video of the command without it."""
    plain = job(releases, layout, tmp_path / "plain.mp4", course=CourseConfig(actions="w-20"))
    parts = {"refiner": str(releases / "refiner"), "refining": refining}
    refined = dataclasses.replace(
        plain, out=tmp_path / "refined.mp4", preview=tmp_path / "draft.mp4", refine=True,
        release=dataclasses.replace(plain.release, **parts),
    )  # fmt: skip
    render(plain)
    render(refined)
    assert said in capsys.readouterr().err
    assert (tmp_path / "draft.mp4").read_bytes() == plain.out.read_bytes()
    frames = [read_video(path).astype(int) for path in (refined.out, plain.out)]
    assert np.abs(frames[0][1:] - frames[1][1:]).mean() > 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mp4"] * 3


def test_what_is_said_of_released_weights_reaches_them(releases: Path, tmp_path: Path) -> None:
    known, _ = get_args(get_type_hints(ReleaseConfig)["formulas"])
    assert set(get_args(known)) == set(FORMULAS)
    out, tuned = tmp_path / "v.mp4", tmp_path / "tuned"
    plain = job(releases, "streaming", out)
    changed = dataclasses.replace(plain.release, formulas="diffusers", compile=True)
    world: Any = prepare(dataclasses.replace(plain, release=changed)).world
    assert world.config.compile and world.parts.network.config.ucpe_rms_clamp_gdn
    # A network that was tuned to 16 m for one knows sixteen times the walking pace.
    assert main(["convert", "--source", plain.world, "--out", str(tuned)]) == 0
    sampling = json.loads((tuned / "sampling.json").read_text())
    sampling["network"]["camera_unit_m"] = 16.0
    (tuned / "sampling.json").write_text(json.dumps(sampling))
    assert prepare(plain).envelope.forward == 0.8
    envelope = prepare(dataclasses.replace(plain, world=str(tuned))).envelope
    assert envelope.forward == pytest.approx(12.8)
    assert envelope.yaw == prepare(plain).envelope.yaw


def test_the_command_of_the_page_runs(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "official.md"
    blocks = page.read_text(encoding="utf-8").split("```bash\n")[1:]
    (line,) = [block.split("```")[0] for block in blocks if block.startswith("sanawm-gym render")]
    here = {
        "sana-wm-streaming": releases / "streaming", "gemma-2-2b-it": releases / "text",
        "SANA-WM_streaming/ltx2_causal_vae": releases / "vae", "cuda": "cpu",
        "street.jpg": releases / "first.png", "w-96, wd-48": "w-20, wd-4",
    }  # fmt: skip
    words = [str(here.get(word, word)) for word in shlex.split(line)[1:]]
    words += ["--release.width", str(WIDTH), "--release.height", str(HEIGHT), "--dtype", "float32"]
    monkeypatch.chdir(tmp_path)
    assert not set(here) & set(words) and main(words) == 0
    assert len(read_video("street.mp4")) == 25


def test_what_a_world_does_not_take_is_refused(releases: Path, world: str, tmp_path: Path) -> None:
    stream = job(releases, "streaming", tmp_path / "v.mp4")
    steps = dataclasses.replace(stream.release, steps=8)
    for changes, named in (
        ({"release": steps}, "num_steps.*streaming network"),
        ({"backend": "fused"}, "for released weights, expected 'auto'"),
        ({"world": world}, "which is no released network; leave"),
        ({"world": stream.world[:-1]}, "no such folder, nor is it the id of a published one"),
    ):
        with pytest.raises(ValueError, match=named):
            prepare(dataclasses.replace(stream, **changes))  # type: ignore[arg-type]


def test_released_weights_need_a_picture(releases: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a picture file"):
        prepare(job(releases, "streaming", tmp_path / "v.mp4", image=None))
