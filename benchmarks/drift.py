"""Whether the generated world is still a road after a minute, or ten, judged by its pictures.

Many drives through the generated world; the pictures of windows along them, from the first seconds
to the last, are compared with reference video (`picture_distance.py`), and the figure is the ratio
of the last distance to the first, a figure a seed. A finite number of drives shows a finite number
of places, so even reference video is at a distance from other reference video: this floor is
measured on as many reference drives and stands in the table, and so does the ratio of what lies
above it, which is the harder figure. Look at the contact sheet as well: one row a drive, a picture
every five seconds or, in long drives, twelve in all.

A mean can hide a few drives that died. So every drive and window is also held against the reference
drives one by one: where its sharpness or its latent deviation lies outside their whole range by
more than a factor of `BEYOND`, it counts as collapsed, and so does a drive whose world returned
numbers that are no picture, from then on. Only what is measured is kept of a window, not its
pictures, so memory does not grow with the length of the drives.

    python benchmarks/drift.py --out results/drift.json --sheet results/drift.png
    python benchmarks/drift.py --seconds 600 --windows 13 --drives 16 --plot results/endless.png
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from curves import Curve, Panel, draw_panels
from jaxtyping import Bool
from PIL import Image
from reference_video import fitted, recorded
from report import Report, spread
from rides import RideConfig, Rides, ride_all
from tqdm import tqdm

from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.validate.picture_distance import Pictures, Yardstick, joined, look
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel import WorldModel

BEYOND = 1.5
"""How far outside the range of all reference drives a drive is no road any more."""
STATISTICS = ("sharpness", "colour_distance", "latent_std")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to drive and what to compare with.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        drives: Drives a seed, >= 2, each from another start context as far as there are enough.
        batch: Drives drawn together, >= 1.
        seconds: Length of a drive [s]; 600 is endless enough.
        window: Length of a window that is compared [s], whole.
        windows: Windows, >= 2, evenly spread from the first to the last seconds.
        seeds: Repetitions with other starts and other noise.
        data: Dataset folder of reference video; recorded anew when not given.
        episodes: Episodes recorded (of 20 s), or read from the end of the data, >= 4.
        record_seed: Seed of the recording, one that no training used.
        keep: Folder for what is measured of finished batches: an interrupted run goes on there.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
        sheet: PNG of the contact sheet of the first seed to write.
        plot: PNG of distance, sharpness and latent deviation over time to write.
    """

    world: str = "drive"
    policy: str = "cloned"
    drives: int = 32
    batch: int = 8
    seconds: int = 60
    window: int = 10
    windows: int = 6
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Path | None = None
    episodes: int = 96
    record_seed: int = 90003
    keep: Path | None = None
    threads: int = 1
    out: Path | None = None
    sheet: Path | None = None
    plot: Path | None = None

    def rides(self, seed: int) -> RideConfig:
        """The drives of a seed."""
        return RideConfig(
            world=self.world,
            policy=self.policy,
            seconds=self.seconds,
            window=self.window,
            windows=self.windows,
            seed=seed,
        )


def reference_pictures(options: Options, world: WorldModel) -> list[Pictures]:
    """Reference video drive by drive, moments off the road left out."""
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(
            options.data,
            Path(folder),
            episodes=options.episodes,
            seconds=20.0,
            seed=options.record_seed,
        )
        dataset, found = EpisodeDataset(data, num_cached=1), []
        for info in tqdm(dataset.episodes[-options.episodes :], desc="reference", unit="drive"):
            stop = min(info.num_frames, 16 * options.window + 1)
            on_road = dataset.columns(info.index, 0, stop, ["on_road"])["on_road"][4::4]
            frames, _ = fitted(dataset, info.index, (world.width, world.height), stop)
            if on_road.any():
                found.append(look(world.autoencoder, frames).at(on_road.astype(bool)))
    return found


def outside(drive: Pictures, references: list[Pictures]) -> bool:
    """Whether sharpness or latent deviation leaves the range of all reference drives by far."""
    for name in ("sharpness", "latent_std"):
        value = float(getattr(drive, name).mean())
        usual = [float(getattr(one, name).mean()) for one in references]
        if not min(usual) / BEYOND <= value <= max(usual) * BEYOND:
            return True
    return False


def collapsed(rides: Rides, references: list[Pictures]) -> Bool[np.ndarray, "n w"]:
    """Which drives are no road in which window."""
    return np.array(
        [
            [
                not living or outside(rides.of(drive, window), references)
                for window, living in enumerate(row)
            ]
            for drive, row in enumerate(rides.alive)
        ]
    )


def figures_of(rides: Rides, yardstick: Yardstick, references: list[Pictures]) -> dict[str, Any]:
    """Distances and statistics of every window of one seed, and what became of the drives."""
    found: dict[str, Any] = {"distance": [], **{name: [] for name in STATISTICS}}
    for window in range(rides.alive.shape[1]):
        pictures = rides.at(window)
        plain = dict.fromkeys(STATISTICS, float("nan"))
        if pictures is not None:
            plain = yardstick.statistics(pictures)
        found["distance"].append(float("nan") if pictures is None else yardstick.distance(pictures))
        for name in STATISTICS:
            found[name].append(plain[name])
    first, last = found["distance"][0], found["distance"][-1]
    lost = collapsed(rides, references)
    return {
        **found,
        "ratio": last / first,
        "failed": int((~rides.alive[:, -1]).sum()),
        "collapsed": lost.sum(axis=0).tolist(),
        "metres": rides.metres.tolist(),
    }


def measure(options: Options) -> tuple[float, dict[int, dict[str, Any]]]:
    """Floor of the distance, and the figures of every seed."""
    configs = {seed: options.rides(seed) for seed in options.seeds}
    references = reference_pictures(options, shared_world(options.world))
    yardstick = Yardstick.of(joined(references))
    floor, found = yardstick.floor(references, options.drives), {}
    for seed, config in configs.items():
        rides = ride_all(config, options.drives, options.batch, options.keep)
        found[seed] = figures_of(rides, yardstick, references)
        if options.sheet is not None and seed == options.seeds[0]:
            pictures = rides.sheet.reshape(-1, *rides.sheet.shape[2:])
            options.sheet.parent.mkdir(parents=True, exist_ok=True)
            sheet = contact_sheet(pictures, columns=rides.sheet.shape[1])
            Image.fromarray(sheet).save(options.sheet)
    return floor, found


def table(seeds: list[dict[str, Any]], floor: float) -> list[list[str]]:
    """Both ends and their ratio."""

    def row(name: str, key: str, unit: float) -> list[str]:
        first, last = ([one[key][end] for one in seeds] for end in (0, -1))
        ratios = [b / a for a, b in zip(first, last, strict=True)]
        return [name, f"{unit:.3f}", spread(first), spread(last), spread(ratios, 2)]

    first, last = (
        float(np.mean([one["distance"][end] for one in seeds])) - floor for end in (0, -1)
    )
    above = f"{last / first:.2f}" if first > 0 else "-"
    return [
        row("Frechet distance", "distance", floor),
        ["above the floor", "0", f"{first:.3f}", f"{last:.3f}", above],
        row("sharpness", "sharpness", 1.0),
        row("colour distance", "colour_distance", 0.0),
        row("latent std", "latent_std", 1.0),
    ]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    floor, found = measure(options)
    seeds, times = list(found.values()), [begin / 4 for begin in options.rides(0).begins]
    if options.plot is not None:
        _plot(options.plot, times, floor, seeds)
    count, window = options.drives * len(seeds), options.window
    way = np.mean([one["metres"] for one in seeds])
    by_window = [
        f"{time:.0f} s {spread([one['distance'][index] for one in seeds], 2)}"
        for index, time in enumerate(times)
    ]
    lost = ", ".join(str(sum(one["collapsed"][i] for one in seeds)) for i in range(len(times)))
    failed = sum(one["failed"] for one in seeds)
    Report(
        title=f"{count} drives of {options.seconds} s by {options.policy}",
        columns=["what", "reference", f"first {window} s", f"last {window} s", "ratio"],
        rows=table(seeds, floor),
        figures={"floor": floor, "begins": times, "seeds": {str(s): found[s] for s in found}},
        notes=[
            f"Mean ± deviation over {len(seeds)} seeds; mean way {way:.0f} m.",
            f"Distance of the windows that begin at: {', '.join(by_window)}.",
            f"Collapsed in these windows: {lost} of {count}; the world failed in {failed}.",
        ],
    ).publish(options, options.out)


def _plot(path: Path, times: list[float], floor: float, seeds: list[dict[str, Any]]) -> None:
    def curve(name: str) -> Curve:
        values = np.array([one[name] for one in seeds])
        return Curve(x=times, y=values.mean(axis=0).tolist(), spread=values.std(axis=0).tolist())

    distance = Panel(
        title="distance to reference video (line: reference itself)",
        x_label="begin of the window [s]",
        y_label="Frechet",
        curves={"generated": curve("distance")},
        level=floor,
    )
    shares = Panel(
        title="as a share of the reference",
        x_label="begin of the window [s]",
        y_label="1",
        curves={name: curve(name) for name in ("sharpness", "latent_std")},
        level=1.0,
    )
    draw_panels(path, [distance, shares])


if __name__ == "__main__":
    main(tyro.cli(Options))
