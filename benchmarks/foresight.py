"""Whether the world foretells what would really have come, one and two seconds ahead.

Held-out reference drives are begun from one true second and continued along their true cameras.
What is drawn is compared with what the simulator drew, beside two ways of foretelling without a
model: the last true frame as it is, and the last true frame carried over the ground plane to the
true pose. Further worlds may be named for comparison.

PSNR is taken where the start has shown the place already (pixels whose ray over the ground, or into
the sky, falls into the last true frame) and over the whole picture. It rewards blur; so beside it
stands a perceptual distance in the manner of LPIPS [Zhang 2018], here on the activations of the
world's own video encoder: unit length over channels, squared difference, mean over places, summed
over its two resolutions. The interval is one standard error over drives.

    python benchmarks/foresight.py --out results/foresight.json

Axes: b starts, f frames, h rows, w columns.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from autoencoder import psnr
from jaxtyping import Bool, Float, UInt8
from report import Report
from torch import Tensor
from tqdm import tqdm

from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.ground_warp import warp_over_ground

HORIZONS = (1, 2)
"""Seconds ahead."""
COPY, WARP = "last frame", "last frame over the ground"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which worlds foretell which drives.

    Attributes:
        worlds: World models: bundled names, folders or hub ids, the first the one in question.
        data: Dataset folder that no training has seen; recorded anew when not given.
        episodes: Drives recorded, or read from the beginning of the data, >= 2.
        seconds: Length of recorded drives [s], at least 3.
        starts: Starts a drive, evenly spread, >= 1.
        record_seed: Seed of the recording.
        seed: Seed of the worlds' noise.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    worlds: tuple[str, ...] = ("drive",)
    data: Path | None = None
    episodes: int = 32
    seconds: float = 10.0
    starts: int = 3
    record_seed: int = 90001
    seed: int = 0
    threads: int = 1
    out: Path | None = None


@dataclass(frozen=True)
class Moment:
    """Starts of one drive: the true second before, and what came."""

    lead: UInt8[np.ndarray, "b f h w 3"]
    ahead: UInt8[np.ndarray, "b f h w 3"]
    poses: Float[np.ndarray, "b f 4 4"]
    """Of both, one after the other."""
    intrinsics: Float[np.ndarray, "b 4"]
    captions: list[str]


def read(dataset: EpisodeDataset, episode: int, fps: int, starts: int) -> Moment:
    """Evenly spread starts of a drive."""
    lead, ahead = fps + 1, fps * max(HORIZONS)
    total = dataset.episodes[episode].num_frames
    first = np.linspace(0, total - lead - ahead, starts).astype(int)
    columns = dataset.columns(episode, names=["c2w", "intrinsics", "caption"])
    frames = dataset.frames(episode)
    poses = np.reshape(columns["c2w"], (-1, 4, 4))
    return Moment(
        lead=np.stack([frames[i : i + lead] for i in first]),
        ahead=np.stack([frames[i + lead : i + lead + ahead] for i in first]),
        poses=np.stack([poses[i : i + lead + ahead] for i in first]),
        intrinsics=np.stack([columns["intrinsics"][i] for i in first]),
        captions=[str(columns["caption"][i]) for i in first],
    )


def foretell(world: WorldModel, moment: Moment, seed: int) -> UInt8[np.ndarray, "b f h w 3"]:
    """What the world draws along the true cameras."""
    lead, step = moment.lead.shape[1], world.frames_per_step
    state = world.start(
        moment.lead,
        prompts=moment.captions,
        intrinsics=moment.intrinsics,
        seeds=[seed + row for row in range(len(moment.lead))],
        poses=moment.poses[:, :lead],
    )
    parts = []
    for begin in range(lead, moment.poses.shape[1], step):
        frames, state = world.step(state, moment.poses[:, begin : begin + step])
        parts.append(frames)
    return np.concatenate(parts, axis=1)


def carried(
    moment: Moment, frame: int
) -> tuple[UInt8[np.ndarray, "b 4 h w 3"], Bool[np.ndarray, "b 4 h w"]]:
    """Last true frame over the ground to the four frames up to `frame`; where it showed them."""
    last = torch.from_numpy(moment.lead[:, -1].copy()).permute(0, 3, 1, 2).float()
    h, w = last.shape[-2:]
    # Pixel numbers ride along; where they stop at an edge, the ray has left the picture.
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([rows, columns, columns]).float().expand(len(last), -1, -1, -1)
    lead = moment.lead.shape[1]
    poses, lens = torch.from_numpy(moment.poses), torch.from_numpy(moment.intrinsics)
    path = poses[:, lead - 1], poses[:, lead + frame - 3 : lead + frame + 1], lens
    drawn, numbers = warp_over_ground(last, *path), warp_over_ground(places, *path)
    row, column = numbers[:, :, 0], numbers[:, :, 1]
    shown = (row > 0) & (row < h - 1) & (column > 0) & (column < w - 1)
    pictures = drawn.round().clamp(0, 255).to(torch.uint8).permute(0, 1, 3, 4, 2)
    return pictures.numpy(), shown.numpy()


class Perception:
    """Distance of two groups of frames on the activations of a video encoder."""

    def __init__(self, autoencoder: VideoAutoencoder) -> None:
        self._autoencoder = autoencoder

    @torch.no_grad()
    def __call__(
        self, drawn: UInt8[np.ndarray, "b 4 h w 3"], truth: UInt8[np.ndarray, "b 4 h w 3"]
    ) -> float:
        """Mean over rows."""
        total = 0.0
        for a, b in zip(self._features(drawn), self._features(truth), strict=True):
            total += float((a - b).square().sum(dim=1).mean())
        return total

    def _features(self, frames: UInt8[np.ndarray, "b 4 h w 3"]) -> list[Tensor]:
        kept: list[Tensor] = []
        weight, encoder = self._autoencoder.latents_mean, self._autoencoder.encoder
        hooks = [
            part.register_forward_hook(lambda module, inputs, output: kept.append(output))
            for part in (encoder.fine, encoder.coarse)
        ]
        pixels = torch.from_numpy(np.array(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        try:
            self._autoencoder.encode_group(pixels.to(weight))
        finally:
            for hook in hooks:
                hook.remove()
        return [F.normalize(x.float(), dim=1) for x in kept]


def judge(
    moment: Moment,
    foretold: dict[str, UInt8[np.ndarray, "b f h w 3"]],
    perceive: Callable[..., float],
    fps: int,
) -> dict[tuple[str, int], tuple[float, float, float]]:
    """PSNR where seen, PSNR, perceptual distance of every way at every horizon."""
    found = {}
    for seconds in HORIZONS:
        frame = fps * seconds - 1
        span = slice(frame - 3, frame + 1)
        truth = moment.ahead[:, span]
        warped, shown = carried(moment, frame)
        ways = {name: frames[:, span] for name, frames in foretold.items()}
        ways[WARP] = warped
        ways[COPY] = np.repeat(moment.lead[:, -1:], 4, axis=1)
        for name, frames in ways.items():
            seen = psnr(frames[shown], truth[shown])
            found[name, seconds] = (seen, psnr(frames, truth), perceive(frames, truth))
    return found


def measure(options: Options, data: Path) -> dict[str, dict[str, list[float]]]:
    """Figures of every way, a list over drives each."""
    worlds = {name: shared_world(name) for name in options.worlds}
    first = worlds[options.worlds[0]]
    fps, perceive = round(first.config.fps), Perception(first.autoencoder)
    dataset = EpisodeDataset(data, num_cached=1)
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    needed = fps * (1 + max(HORIZONS)) + 1
    for info in tqdm(dataset.episodes[: options.episodes], unit="drive"):
        if info.num_frames < needed:
            continue
        moment = read(dataset, info.index, fps, options.starts)
        foretold = {name: foretell(world, moment, options.seed) for name, world in worlds.items()}
        for (name, seconds), values in judge(moment, foretold, perceive, fps).items():
            for key, value in zip(("psnr_seen", "psnr", "distance"), values, strict=True):
                figures[name][f"{key}_{seconds}s"].append(value)
    if not figures:
        raise SystemExit(f"no drive of {data} has {needed} frames: record drives of 4 s or more")
    return figures


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if options.data is not None:
        figures = measure(options, options.data)
    else:
        from sanawm_gym.envs.reference.record import RecordConfig, record

        with tempfile.TemporaryDirectory() as folder:
            config = RecordConfig(
                out=Path(folder),
                episodes=options.episodes,
                seconds=options.seconds,
                seed=options.record_seed,
            )
            figures = measure(options, record(config))
    keys = [f"{key}_{s}s" for s in HORIZONS for key in ("psnr_seen", "psnr", "distance")]
    names = [*options.worlds, WARP, COPY]
    rows = [[name, *(_cell(figures[name][key]) for key in keys)] for name in names]
    written: dict[str, Any] = {name: dict(figures[name]) for name in names}
    drives = len(next(iter(figures[COPY].values())))
    Report(
        title=f"What comes next, {drives} held-out drives",
        columns=["way", *(key.replace("_", " ") for key in keys)],
        rows=rows,
        figures=written,
        notes=["PSNR in dB, more is better; distance: less is better; mean ± standard error."],
    ).publish(options, options.out)


def _cell(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.2f} ± {error:.2f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
