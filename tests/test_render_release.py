"""The command `render` with released weights, at tiny size: streams, whole clips, resumption."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sanawm_gym.render.course import CourseConfig
from sanawm_gym.render.job import RenderJob, open_store, prepare, render
from sanawm_gym.render.release import ReleaseConfig
from sanawm_gym.video import read_video

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
    """A streaming and a whole-clip release with their autoencoder and text encoder."""
    root = tmp_path_factory.mktemp("releases")
    config = dataclasses.replace(RELEASED, in_channels=8, caption_channels=components.TEXT_WIDTH)
    network = reference_network(config)
    write_streaming(root / "streaming", network)
    write_chunk_causal(root / "chunk_causal", network)
    components.autoencoder().save_pretrained(root / "vae")
    components.gemma2().save_pretrained(root / "text")
    components.tokenizer().save_pretrained(root / "text")
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


def test_a_release_of_whole_clips_draws_the_path_at_once(releases: Path, tmp_path: Path) -> None:
    drawing = prepare(job(releases, "chunk_causal", tmp_path / "clip.mp4"))
    assert drawing.num_chunks == 1 and drawing.world.frames_per_step == 32
    video = render(job(releases, "chunk_causal", tmp_path / "clip.mp4")).video
    assert video is not None and len(read_video(video)) == 31


def test_what_a_world_does_not_take_is_refused(releases: Path, world: str, tmp_path: Path) -> None:
    stream = job(releases, "streaming", tmp_path / "v.mp4")
    steps = dataclasses.replace(stream.release, steps=8)
    for changes, named in (
        ({"release": steps}, "num_steps.*streaming network"),
        ({"backend": "fused"}, "for released weights, expected 'auto'"),
        ({"world": world}, "which is no released network"),
    ):
        with pytest.raises(ValueError, match=named):
            prepare(dataclasses.replace(stream, **changes))  # type: ignore[arg-type]


def test_released_weights_need_a_picture(releases: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a picture file"):
        prepare(job(releases, "streaming", tmp_path / "v.mp4", image=None))
