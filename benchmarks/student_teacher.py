r"""A few-step student beside its many-step teacher, from the same first pictures.

Both are given the first picture of a stretch of held-out reference video, its cameras and its
caption, and draw the rest. How long a latent frame takes them, how far their pictures are from
those of the reference (`picture_distance.py`, and their sharpness as a share of its), and how near
they are to what really came after one and two seconds. PSNR rewards blur, so read it beside the
sharpness; `--sheet` writes the pictures: truth, student, teacher, a picture every half second.

Any two networks that draw latents of the same autoencoder can be compared, or one with itself at
other steps, which is the default: the bundled world as it is, against eight steps of it.

    python benchmarks/student_teacher.py --teacher.network runs/bidirectional \
        --teacher.form bidirectional --teacher.steps 40 --teacher.guidance 2 \
        --student.network runs/distilled --student.steps 4 --out results/student_teacher.json

Axes: b starts, c channels, t latent frames, f raw frames, h rows, w columns.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from autoencoder import psnr
from jaxtyping import Float, UInt8
from PIL import Image
from report import Report, quantiles_ms, spread
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.train_wm.clip_path import ClipPath, Origin
from sanawm_gym.train_wm.frames import to_bytes, to_signed
from sanawm_gym.train_wm.student_stream import StudentStream
from sanawm_gym.train_wm.teacher_sampler import Grid, TeacherSampler
from sanawm_gym.train_wm.weights import WorldWeights, load_world_weights
from sanawm_gym.validate.picture_distance import Pictures, Yardstick, joined, look
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.flow import euler_sigmas
from sanawm_gym.worldmodel.noise import mix_seed

HORIZONS = (1, 2)
"""Seconds ahead."""


@dataclass(frozen=True, kw_only=True)
class Drawer:
    """One of the two.

    Attributes:
        network: Folder of a training stage; the world's own network when not given.
        form: Chunk after chunk out of its own past, or the clip at once.
        steps: Steps from noise, >= 1.
        sigmas: Noise levels of the streaming form, falling from 1; those of `steps` when empty.
        shift: Shift of the noise levels of the steps, > 0.
        guidance: Scale of the caption for clips at once, 1 for none.
        origin: Where a stream's cameras are measured from.
    """

    network: Path | None = None
    form: Literal["streaming", "bidirectional", "chunk_causal"] = "streaming"
    steps: int = 1
    sigmas: tuple[float, ...] = ()
    shift: float = 8.0
    guidance: float = 1.0
    origin: Origin = "moving"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Who draws what.

    Attributes:
        student: The one in question.
        teacher: The one it is held against.
        world: World model whose autoencoder both draw for: a bundled name, a folder or a hub id.
        data: Dataset folder that no training has seen; recorded anew when not given.
        episodes: Drives recorded, or read from the beginning of the data, >= 2.
        starts: Starts a drive, evenly spread, >= 1.
        seconds: Length of what is drawn [s], at least 2.
        record_seed: Seed of the recording, one that no training used.
        seeds: Seeds of the noise; figures are means and deviations over them.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
        sheet: PNG of the contact sheet of the first seed to write.
    """

    student: Drawer = field(default_factory=Drawer)
    teacher: Drawer = field(default_factory=lambda: Drawer(steps=8))
    world: str = "drive"
    data: Path | None = None
    episodes: int = 16
    starts: int = 2
    seconds: int = 3
    record_seed: int = 90001
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = 1
    out: Path | None = None
    sheet: Path | None = None


@dataclass(frozen=True)
class Start:
    """A first picture and what really came."""

    truth: UInt8[np.ndarray, "f h w 3"]
    path: ClipPath
    caption: str


class Contestant:
    """A drawer with its weights."""

    def __init__(self, drawer: Drawer, world: WorldModel) -> None:
        self._drawer, self._autoencoder = drawer, world.autoencoder
        if drawer.network is None:
            self._weights = WorldWeights(world.network, world.text_encoder)
        else:
            self._weights = load_world_weights(drawer.network).eval().requires_grad_(False)
        channels = self._weights.network.config.in_channels
        if channels != world.autoencoder.config.latent_channels:
            raise SystemExit(
                f"the network draws latents of {channels} channels, the world's autoencoder has "
                f"{world.autoencoder.config.latent_channels}: name the world it was trained for"
            )

    @torch.no_grad()
    def draw(
        self, first: Float[Tensor, "1 c 1 y x"], start: Start, num_latents: int, seed: int
    ) -> UInt8[np.ndarray, "f h w 3"]:
        """All pictures from the first on."""
        drawer, network = self._drawer, self._weights.network
        shape = (first.shape[0], first.shape[1], num_latents, *first.shape[3:])
        generator = torch.Generator().manual_seed(seed)
        text = self._weights.text([start.caption])
        if drawer.form == "streaming":
            sigmas = drawer.sigmas or tuple(euler_sigmas(drawer.steps, drawer.shift)[:-1])
            noises = torch.randn((len(sigmas), *shape), generator=generator)
            stream = StudentStream(network, self._autoencoder, drawer.origin)
            latents = stream.draw(first, noises, sigmas, text, start.path).latents
        else:
            sampler = TeacherSampler(
                network=network,
                mode=drawer.form,
                grid=Grid.of(drawer.steps, drawer.shift, (1.0,)),
                guidance=drawer.guidance,
                lag=0.0,
            )
            null = None if drawer.guidance == 1.0 else self._weights.text([""])
            camera = start.path.whole(network.config)
            noise = torch.randn(shape, generator=generator)
            latents = sampler.draw(first, noise, text, null, camera)[-1]
        return to_bytes(self._autoencoder.decode(latents)[0])

    @property
    def described(self) -> str:
        """Form and steps, for the table."""
        steps = len(self._drawer.sigmas) or self._drawer.steps
        return f"{self._drawer.form.replace('_', '-')}, {steps} step{'s' * (steps > 1)}"


def read(options: Options, data: Path, world: WorldModel) -> list[Start]:
    """Evenly spread starts of the drives."""
    dataset, found = EpisodeDataset(data, num_cached=1), []
    length = round(world.config.fps) * options.seconds + 1
    stride = world.autoencoder.config.spatial_stride
    for info in dataset.episodes[: options.episodes]:
        if info.num_frames < length:
            continue
        columns = dataset.columns(info.index, names=["c2w", "intrinsics", "caption"])
        poses = np.reshape(columns["c2w"], (-1, 4, 4)).astype(np.float64)
        frames = dataset.frames(info.index)
        height, width = frames.shape[1:3]
        for begin in np.linspace(0, info.num_frames - length, options.starts).astype(int):
            path = ClipPath(
                poses=torch.from_numpy(poses[None, begin : begin + length].copy()),
                intrinsics=torch.tensor(np.asarray(columns["intrinsics"])[begin]).double()[None],
                picture=(height, width),
                grid=(height // stride, width // stride),
            )
            truth = frames[begin : begin + length]
            found.append(Start(truth, path, str(columns["caption"][begin])))
    if not found:
        raise SystemExit(f"no drive of {data} has {length} frames: record longer drives")
    return found


@dataclass(frozen=True)
class Result:
    """What is kept of one contestant's drawings under one seed."""

    films: list[UInt8[np.ndarray, "f h w 3"]]
    pictures: Pictures
    seconds: list[float]
    """Of each latent frame drawn, its decoding included."""


def compete(contestant: Contestant, world: WorldModel, starts: list[Start], seed: int) -> Result:
    """Draw all starts, one at a time as they are driven."""
    films, looks, seconds = [], [], []
    num_latents = (len(starts[0].truth) - 1) // world.autoencoder.config.temporal_stride + 1
    for number, start in enumerate(tqdm(starts, unit="start", desc=contestant.described)):
        with torch.no_grad():
            first = world.autoencoder.encode(to_signed(start.truth[:1])[None])
        begun = time.perf_counter()
        films.append(contestant.draw(first, start, num_latents, mix_seed(seed, number)))
        seconds.append((time.perf_counter() - begun) / (num_latents - 1))
        looks.append(look(world.autoencoder, films[-1]))
    # The first start also pays for what is made once.
    return Result(films, joined(looks), seconds[1:] or seconds)


def judge(
    results: list[Result], starts: list[Start], yardstick: Yardstick, fps: int
) -> dict[str, list[float]]:
    """Figures of a contestant, a value a seed; seconds of every latent frame."""
    figures: dict[str, list[float]] = {"distance": [], "sharpness": [], "latent_std": []}
    for result in results:
        plain = yardstick.statistics(result.pictures)
        figures["distance"].append(yardstick.distance(result.pictures))
        for key in ("sharpness", "latent_std"):
            figures[key].append(plain[key])
        for ahead in HORIZONS:
            span = slice(fps * ahead - 3, fps * ahead + 1)
            errors = [
                psnr(film[span], start.truth[span])
                for film, start in zip(result.films, starts, strict=True)
            ]
            figures.setdefault(f"psnr_{ahead}s", []).append(float(np.mean(errors)))
    figures["latent_frame_s"] = [value for result in results for value in result.seconds]
    return figures


def measure(options: Options, data: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """What each of the two is, and its figures."""
    world = shared_world(options.world, dtype="float32")
    fps, starts = round(world.config.fps), read(options, data, world)
    yardstick = Yardstick.of(joined([look(world.autoencoder, one.truth) for one in starts]))
    described, figures, films = {}, {}, [[start.truth for start in starts]]
    for name, drawer in (("student", options.student), ("teacher", options.teacher)):
        contestant = Contestant(drawer, world)
        results = [compete(contestant, world, starts, seed) for seed in options.seeds]
        films.append(results[0].films)
        described[name] = contestant.described
        figures[name] = judge(results, starts, yardstick, fps)
    if options.sheet is not None:
        rows = [film[:: fps // 2] for trio in zip(*films, strict=True) for film in trio]
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        picture = contact_sheet(np.concatenate(rows), columns=len(rows[0]))
        Image.fromarray(picture).save(options.sheet)
    return described, figures


def main(options: Options) -> None:
    if options.seconds < max(HORIZONS):
        raise SystemExit(f"seconds must be at least {max(HORIZONS)}, got {options.seconds}")
    torch.set_num_threads(options.threads)
    if options.data is not None:
        described, figures = measure(options, options.data)
    else:
        from sanawm_gym.envs.reference.record import RecordConfig, record

        with tempfile.TemporaryDirectory() as folder:
            config = RecordConfig(
                out=Path(folder),
                episodes=options.episodes,
                seconds=4.0 * options.seconds,
                seed=options.record_seed,
            )
            described, figures = measure(options, record(config))
    rows = []
    for name, what in described.items():
        found = figures[name]
        cells = [spread(found[key], 3) for key in ("distance", "sharpness", "latent_std")]
        cells += [spread(found[f"psnr_{ahead}s"], 2) for ahead in HORIZONS]
        rows.append([name, what, quantiles_ms(found["latent_frame_s"]), *cells])
    Report(
        title=f"{options.seconds} s from one picture, {len(options.seeds)} seeds",
        columns=[
            "who", "how", "latent frame, ms p50 / p95", "picture distance", "sharpness",
            "latent deviation", *(f"PSNR at {ahead} s" for ahead in HORIZONS),
        ],
        rows=rows,
        figures=figures,
        notes=["Mean ± deviation over seeds; sharpness and deviation as a share of the truth's."],
    ).publish(options, options.out)  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))
