"""Whether the world foretells what would really have come, one and two seconds ahead.

Held-out reference drives are begun from one true second and continued along their true cameras.
What is drawn is compared with what the simulator drew, beside two ways of foretelling without a
model: the last true frame as it is, and the last true frame carried over the ground plane to the
true pose. `--compare` names further worlds, such as an earlier one, as a third.

PSNR is taken where the start has shown the place already (pixels whose ray over the ground, or into
the sky, falls into the last true frame) and over the whole picture. It rewards blur; so beside it
stand two perceptual distances. One is in the manner of LPIPS [Zhang 2018], on the activations of
the world's own video encoder: unit length over channels, squared difference, mean over places,
summed over its two resolutions. The networks that LPIPS and DISTS rest on would have to be
downloaded; this encoder is at hand, and it sees the road. It might be kind to what its own decoder
draws, though, so the other one, 1 - MS-SSIM (`structure.py`), knows no world.

Every drive counts with its mean over starts and seeds; the interval is one standard error over
drives. The last rows give the world's gain over each other way, drive by drive, with its own error:
the drives differ much more from each other than the ways do.

    python benchmarks/foresight.py --out results/foresight.json

Axes: b starts, f frames, h rows, w columns.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from autoencoder import psnr
from jaxtyping import Bool, Float, UInt8
from reference_video import fitted, recorded, resized
from report import Report, spread
from structure import ms_ssim
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
MEASURES = {"psnr_seen": 1, "psnr": 1, "distance": -1, "dissimilarity": -1}
"""Figures, and whether more (1) or less (-1) of each is better."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which worlds foretell which drives.

    Attributes:
        world: World model in question: a bundled name, a folder or a hub id.
        compare: Further worlds for the same drives, such as an earlier bundled one; judged at the
            picture size of the first.
        data: Dataset folder that no training has seen; recorded anew when not given.
        episodes: Drives recorded, or read from the beginning of the data, >= 2.
        seconds: Length of recorded drives [s], at least 3.
        starts: Starts a drive, evenly spread, >= 1.
        record_seed: Seed of the recording.
        seeds: Repetitions with other noise of the worlds.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    world: str = "drive"
    compare: tuple[str, ...] = ()
    data: Path | None = None
    episodes: int = 32
    seconds: float = 10.0
    starts: int = 3
    record_seed: int = 90001
    seeds: tuple[int, ...] = (0, 1, 2)
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


def read(dataset: EpisodeDataset, episode: int, world: WorldModel, starts: int) -> Moment:
    """Evenly spread starts of a drive, as a world would see them."""
    fps = round(world.fps)
    lead, ahead = fps + 1, fps * max(HORIZONS)
    total = dataset.episodes[episode].num_frames
    first = np.linspace(0, total - lead - ahead, starts).astype(int)
    columns = dataset.columns(episode, names=["c2w", "caption"])
    frames, lens = fitted(dataset, episode, (world.width, world.height))
    poses = np.reshape(columns["c2w"], (-1, 4, 4))
    return Moment(
        lead=np.stack([frames[i : i + lead] for i in first]),
        ahead=np.stack([frames[i + lead : i + lead + ahead] for i in first]),
        poses=np.stack([poses[i : i + lead + ahead] for i in first]),
        intrinsics=np.repeat(lens[None], starts, axis=0),
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
    moment: Moment, drawn: dict[str, list[UInt8[np.ndarray, "b f h w 3"]]], perceive: Perception
) -> dict[str, dict[str, list[float]]]:
    """Figures of every way, a list over the seeds it was drawn with."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    fps = moment.ahead.shape[1] // max(HORIZONS)
    for seconds in HORIZONS:
        frame = fps * seconds - 1
        span = slice(frame - 3, frame + 1)
        truth = moment.ahead[:, span]
        warped, shown = carried(moment, frame)
        ways = {name: [one[:, span] for one in frames] for name, frames in drawn.items()}
        ways[WARP] = [warped]
        ways[COPY] = [np.repeat(moment.lead[:, -1:], 4, axis=1)]
        for name, frames in ways.items():
            for one in frames:
                values = (
                    psnr(one[shown], truth[shown]),
                    psnr(one, truth),
                    perceive(one, truth),
                    1 - ms_ssim(one, truth),
                )
                for key, value in zip(MEASURES, values, strict=True):
                    found[name][f"{key}_{seconds}s"].append(value)
    return found


def measure(options: Options, data: Path) -> dict[str, dict[str, list[list[float]]]]:
    """Figures of every way, a list over drives of lists over seeds each."""
    worlds = {name: shared_world(name) for name in (options.world, *options.compare)}
    first = worlds[options.world]
    fps, perceive = round(first.config.fps), Perception(first.autoencoder)
    dataset = EpisodeDataset(data, num_cached=1)
    figures: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    needed = fps * (1 + max(HORIZONS)) + 1
    for info in tqdm(dataset.episodes[: options.episodes], desc="foresight", unit="drive"):
        if info.num_frames < needed:
            continue
        moment, drawn = read(dataset, info.index, first, options.starts), {}
        for name, world in worlds.items():
            own = read(dataset, info.index, world, options.starts)
            pictures = [foretell(world, own, 1000 * seed) for seed in options.seeds]
            drawn[name] = [resized(one, (first.width, first.height)) for one in pictures]
        for name, found in judge(moment, drawn, perceive).items():
            for key, values in found.items():
                figures[name][key].append(values)
    if not figures:
        raise SystemExit(f"no drive of {data} has {needed} frames: record drives of 4 s or more")
    return figures


def gains(
    figures: dict[str, dict[str, list[list[float]]]], world: str
) -> dict[str, dict[str, tuple[float, float]]]:
    """How much better a world is than each other way: mean over drives and its standard error."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in figures:
        if name == world:
            continue
        found[name] = {}
        for key in figures[name]:
            sign = MEASURES[key.rpartition("_")[0]]
            ours, theirs = (
                np.array([np.mean(values) for values in figures[way][key]]) for way in (world, name)
            )
            found[name][key] = mean_and_error(sign * (ours - theirs))
    return found


def held_out(options: Options, folder: Path) -> Path:
    """The drives to foretell; recorded into the folder where none are given."""
    length = {"episodes": options.episodes, "seconds": options.seconds}
    return recorded(options.data, folder, **length, seed=options.record_seed)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, held_out(options, Path(folder)))
    keys = [f"{key}_{s}s" for s in HORIZONS for key in MEASURES]
    rows = []
    for name in (options.world, *options.compare, WARP, COPY):
        drives = {key: [float(np.mean(one)) for one in figures[name][key]] for key in keys}
        rows.append([name, *(cell(*mean_and_error(drives[key])) for key in keys)])
    won = gains(figures, options.world)
    for name, found in won.items():
        rows.append([f"gain over {name}", *(cell(*found[key], sign="+") for key in keys)])
    count = len(figures[COPY][keys[0]])
    by_seed = np.mean(figures[options.world]["psnr_1s"], axis=0)
    Report(
        title=f"What comes next, {count} held-out drives",
        columns=["way", *(key.replace("_", " ") for key in keys)],
        rows=rows,
        figures={"ways": {name: dict(found) for name, found in figures.items()}, "gains": won},
        notes=[
            "PSNR in dB, more is better; distance and dissimilarity: less is better, of gains "
            "always more; mean ± standard error over drives.",
            f"PSNR 1 s ahead over {len(options.seeds)} seeds of noise: {spread(by_seed, 2)} dB.",
        ],
    ).publish(options, options.out)


def mean_and_error(values: Any) -> tuple[float, float]:
    """Mean of drives and its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)


def cell(mean: float, error: float, sign: str = "") -> str:
    """Both, as they shall be read."""
    digits = 2 if abs(mean) >= 2 else 3
    return f"{mean:{sign}.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
