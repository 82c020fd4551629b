"""The command `render`: a video along a camera path from one picture."""

from __future__ import annotations

import math
import sys
import time
import warnings
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tqdm import tqdm

from sanawm_gym.camera import CameraRig
from sanawm_gym.paths.camera_path import FPS, CameraPath
from sanawm_gym.paths.plot import write_plot
from sanawm_gym.vehicle import SPEED, STEER
from sanawm_gym.video import VideoWriter

from .camera_config import CameraConfig
from .course import CourseConfig, course
from .release import ReleaseConfig

if TYPE_CHECKING:
    from .drawing import Drawing
    from .parts import PartStore

_CRF = 18
_BAR = (
    "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s of video, {elapsed} gone, "
    "{remaining} left"
)


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """Render a video along a camera path, from one picture."""

    course: Annotated[CourseConfig, tyro.conf.arg(name="")]
    """The way."""
    camera: Annotated[CameraConfig, tyro.conf.arg(name="")] = field(default_factory=CameraConfig)
    """The camera that took the picture."""
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    """Parts of released weights."""
    world: str = "drive"
    """World model: a bundled name, a folder or a hub id."""
    image: Annotated[str | None, tyro.conf.arg(metavar="IMAGE|CONTEXT")] = None
    """First picture: a file, or a start context of the world; else the seed chooses a context."""
    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """What the world should look like; the caption of a start context if not given."""
    out: Path = Path("render.mp4")
    """Video file to write (.mp4); folders on the way are made."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    """Picture of the path, written before anything is drawn."""
    plot_only: bool = False
    """Draw the plot and nothing else: needs no world and no picture."""
    preview: Annotated[Path | None, tyro.conf.arg(metavar="MP4")] = None
    """With refine, a video of the draft, which is drawn whole before refining begins."""
    refine: bool = False
    """Show what the world's refiner makes of the drawn pictures; slower."""
    seed: int = 0
    """Seed of the world, at least 0; the same seed gives the same video."""
    part_seconds: float = 1.5
    """Video that is lost at most when interrupted [s], above 0; at least a chunk of the world."""
    restart: bool = False
    """Remove the parts of an interrupted run instead of going on with them."""
    device: str = "cpu"
    """Torch device of the world model."""
    dtype: Annotated[str, tyro.conf.arg(metavar="auto|float32|bfloat16")] = "auto"
    """Numbers the world computes with."""
    backend: Annotated[str, tyro.conf.arg(metavar="auto|plain|fused|openvino")] = "auto"
    """Form in which the world steps; openvino needs the extra fast and seconds to compile."""
    threads: int = 1
    """CPU threads of the world model, at least 1; more help only on idle cores."""

    def __post_init__(self) -> None:
        """Check what can be checked without the world."""
        for name, suffix in (("out", ".mp4"), ("preview", ".mp4"), ("plot", ".png")):
            path = getattr(self, name)
            if path is not None and (path.suffix.lower() != suffix or path.is_dir()):
                raise ValueError(f"{name}: got {path}, expected a {suffix} file")
        if self.plot_only and self.plot is None:
            raise ValueError("plot_only: got no plot, expected --plot with a .png file")
        if self.preview is not None and (not self.refine or self.preview == self.out):
            raise ValueError(
                f"preview: got {self.preview}, expected it with --refine and beside --out; without "
                "a refiner the video itself is the draft"
            )
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}, expected 0 or more; try 0")
        if not (math.isfinite(self.part_seconds) and self.part_seconds > 0):
            raise ValueError(
                f"part_seconds: got {self.part_seconds}, expected a positive number; try 1.5"
            )
        if self.threads < 1:
            raise ValueError(f"threads: got {self.threads}, expected 1 or more; try 1")


@dataclass(frozen=True, kw_only=True)
class RenderReport:
    """What came of a job."""

    path: CameraPath
    """The path, in the world frame of the start."""
    video: Path | None
    """The video; None where only the plot was asked for."""
    resumed_at: float = 0.0
    """Video that an earlier run had left [s]."""
    wall_seconds: float = 0.0
    """Time of drawing and encoding [s]."""


def render(job: RenderJob) -> RenderReport:
    """Run the job and return what came of it.

    Raises:
        ValueError: If the path, the picture, the lens or the world is impossible or unreadable, or
            parts of another run lie beside the video. Nothing has been drawn then.
    """
    print(f"path: {job.course.describe()}")
    if job.plot_only and job.plot is not None:
        path = course(job.course, fps=FPS, rig=job.camera.mounted(CameraRig()))
        write_plot(path, job.plot)
        print(f"wrote {job.plot}")
        return RenderReport(path=path, video=None)
    drawing = prepare(job)
    for line in drawing.caveats():
        warnings.warn(f"path: {line}; see docs/camera_paths.md", stacklevel=2)
    if job.plot is not None:
        write_plot(drawing.path, job.plot, drawing.envelope)
        print(f"wrote {job.plot}")
    store = open_store(job, drawing, job.out, refined=job.refine)
    if job.preview is not None:
        _preview(job, drawing, job.preview, store)
    return _film(drawing, job.out, store, "rendering")


def prepare(job: RenderJob) -> Drawing:
    """Read, open and check everything; nothing is drawn yet."""
    # Slow to import, and `sanawm-gym render --help` shall answer at once.
    import torch

    from .beginning import beginning
    from .drawing import Drawing
    from .opening import open_world, unit_of

    # Read before the world is loaded: what is wrong with the path is told at once.
    sketch = course(job.course, fps=FPS, rig=job.camera.mounted(CameraRig()))
    torch.set_num_threads(job.threads)
    world = open_world(job, sketch.num_frames)
    start, origin = beginning(job, world, sketch.lens)
    fx = start.intrinsics[0]
    fov_deg = math.degrees(2 * math.atan(world.width / (2 * fx)))
    print(f"lens: {fov_deg:.0f} degrees across the drawn picture ({origin})")
    car = start.vehicle_state
    speed, steer = float(car[SPEED]), float(car[STEER])
    path = course(job.course, fps=world.fps, rig=start.rig, speed=speed, steer=steer)
    return Drawing(
        world,
        start,
        path.beginning_at(start.poses[-1]),
        seed=job.seed,
        part_seconds=job.part_seconds,
        unit_m=unit_of(world),
    )


def _preview(job: RenderJob, drawing: Drawing, out: Path, store: PartStore) -> None:
    """Film the draft, unless this run has done so before it was interrupted."""
    from .parts import stamp_of

    if out.is_file() and store.noted(stamp_of(out)):
        return
    draft = _draft(drawing)
    _film(draft, out, open_store(job, draft, out, refined=False), "draft")
    store.note(stamp_of(out))


def _draft(drawing: Drawing) -> Drawing:
    """The same video without the refiner; the weights are shared."""
    from .drawing import Drawing
    from .opening import without_refiner

    world = drawing.world
    seconds = drawing.chunks_per_part * world.frames_per_step / world.fps
    draft = without_refiner(world)
    return Drawing(draft, drawing.start, drawing.path, seed=drawing.seed, part_seconds=seconds)


def open_store(job: RenderJob, drawing: Drawing, out: Path, *, refined: bool) -> PartStore:
    """The folder beside a video that keeps its parts until it is whole.

    Raises:
        ValueError: If another run's parts lie there.
    """
    from .drawing import world_files
    from .parts import PartStore

    store = PartStore(out.with_name(f"{out.stem}.parts"))
    settings = {
        "world": world_files(job.world),
        "computed": f"{job.device} {job.dtype} {job.backend} {job.threads} {job.release}",
        "refined": str(refined),
    }
    store.open(drawing.run(settings), restart=job.restart)
    return store


def _film(drawing: Drawing, out: Path, store: PartStore, label: str) -> RenderReport:
    """Draw what is missing, and encode the video once all is there."""
    began, path = time.perf_counter(), drawing.path
    resumed_at = None
    with (
        tqdm(total=path.seconds, desc=label, unit="s", bar_format=_BAR) as bar,
        closing(drawing.draw(store)) as drawn,
    ):
        try:
            for num_frames in drawn:
                seconds = (num_frames - 1) / path.fps
                resumed_at = seconds if resumed_at is None else resumed_at
                bar.update(seconds - bar.n)
        except KeyboardInterrupt:
            kept = f"kept {store.folder}: the same command goes on from there"
            none = "nothing is kept: no part of the video was whole yet"
            bar.write(kept if store.num_kept() else none, sys.stderr)
            raise
    if resumed_at:
        print(f"went on after {resumed_at:.1f} s that were there", file=sys.stderr)
    with VideoWriter(out, path.fps, crf=_CRF, pixel_format="yuv420p") as video:
        for frame in drawing.frames(store):
            video.append(frame)
    store.remove()
    taken = time.perf_counter() - began
    print(f"wrote {out}: {path.num_frames} frames, {path.seconds:.1f} s, in {taken:.1f} s")
    return RenderReport(path=path, video=out, resumed_at=resumed_at or 0.0, wall_seconds=taken)
