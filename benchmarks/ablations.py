"""What each part of the network is worth: variants trained alike, and judged alike.

Every variant is trained by the `streaming` stage for the same steps on the same clips in the same
order, from the same seed, and becomes a world with the starts of the world that gives its size. It
begins from scratch or, with `--init`, from trained weights, of which it takes every tensor that it
has itself: a part is then cut out of a network that knew it, and the rest has the same steps to do
without. That favours the whole network, and asks for far fewer steps.

Two figures then show what the paper's table of camera conditioning shows (its Table 4: how good the
video is, and how well it follows the camera): foresight on held-out drives (`foresight.py`) and
drawn against commanded yaw (`steering.py`). With `--drift-drives` a third one shows what a minute
leaves of it (`drift.py`). The bundled network is handed the last picture carried over the ground to
where the camera goes, which by itself says much of what the camera branches say; `--no-warp` trains
all variants without it, as the paper's network is.

What self-forcing is worth is not trained here, since it is a stage of its own: name the folders of
a world with and of one without it, and they are judged in the same table.

Training goes on where it stopped. Few steps prove the path and nothing about the variants.

    python benchmarks/ablations.py --latents LATENTS --autoencoder VAE --runs runs/ablations

with the folders that the stages `latents` and `vae` wrote.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drift
import foresight
import numpy as np
import steering
import torch
import tyro
from report import Report, spread

from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.stream_stage import StreamStageConfig, run_stream_stage
from sanawm_gym.train_wm.trainer import TrainerConfig
from sanawm_gym.train_wm.weights import WorldWeights, load_world_weights
from sanawm_gym.validate.agreement import agreement
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.folder import read_config
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.source import find_world
from sanawm_gym.worldmodel.world import WorldConfig, WorldModel

VARIANTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "no-ucpe": {"ucpe": False},
    "no-plucker": {"plucker": False},
    "no-camera": {"ucpe": False, "plucker": False},
    "all-gdn": {"softmax_every_n": 0},
    "all-softmax": {"softmax_every_n": 1},
}
"""Changes to the network, by name."""
FORESEEN = ("psnr_seen_1s", "psnr_seen_2s", "distance_1s", "distance_2s")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train and how to judge it.

    Attributes:
        latents: Folder written by the `latents` stage.
        autoencoder: Folder written by the `vae` stage with which they were encoded.
        runs: Folder of the variants' runs and worlds.
        world: World that gives network size, picture, sampler and start contexts.
        variants: Some of whole, no-ucpe, no-plucker, no-camera, all-gdn, all-softmax.
        init: Folder of a network of that size to begin from; None begins from scratch.
        warp: Hand the network the last picture carried over the ground, as the bundled one is.
        with_self_forcing: World folder that self-forcing trained; judged as it is.
        without_self_forcing: The same world before that stage.
        steps: Training steps of every variant, >= 1.
        lanes_per_step: Lanes a training step, see the stage.
        learning_rate: Peak of the learning rate.
        pure_noise: Share of frames trained at pure noise, where the bundled sampler's one step is.
        train_seed: Seed of weights, data order and noise.
        data: Dataset folder of held-out drives; recorded anew when not given.
        episodes: Held-out drives, >= 2.
        starts: Starts a held-out drive, >= 1.
        drives: Steered drives a seed, >= 2.
        seconds: Length of a steered drive [s].
        seeds: Repetitions of what is judged, with other noise.
        drift_drives: Drives a seed of one minute; 0 leaves drift out.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    latents: Path
    autoencoder: Path
    runs: Path
    world: str = "drive"
    variants: tuple[str, ...] = tuple(VARIANTS)
    init: Path | None = None
    warp: bool = True
    with_self_forcing: Path | None = None
    without_self_forcing: Path | None = None
    steps: int = 300
    lanes_per_step: int = 4
    learning_rate: float = 1e-3
    pure_noise: float = 0.9
    train_seed: int = 0
    data: Path | None = None
    episodes: int = 32
    starts: int = 3
    drives: int = 12
    seconds: float = 10.0
    seeds: tuple[int, ...] = (0, 1, 2)
    drift_drives: int = 0
    threads: int = 1
    out: Path | None = None

    def __post_init__(self) -> None:
        """Refuse variants that do not exist."""
        unknown = sorted(set(self.variants) - set(VARIANTS))
        if unknown or not self.variants:
            raise ValueError(f"got variants {unknown}, expected some of {list(VARIANTS)}")


def train_variant(options: Options, name: str) -> Path:
    """Train a variant, or go on, and return its world folder."""
    source = find_world(options.world)
    folder = options.runs / (name if options.warp else f"{name}-no-warp")
    picture = read_config(source / "world.json", WorldConfig)
    model = dataclasses.replace(
        read_config(source / "network.json", SanaWMConfig),
        **VARIANTS[name],
        **({} if options.warp else {"warp_condition": False}),
    )
    run_stream_stage(
        StreamStageConfig(
            latents=options.latents,
            autoencoder=options.autoencoder,
            model=model,
            init=None if options.init is None else cut_out(options, model, folder / "init"),
            picture=(picture.height, picture.width),
            lanes_per_step=options.lanes_per_step,
            pure_noise=options.pure_noise,
            trainer=TrainerConfig(
                out=folder / "run",
                steps=options.steps,
                learning_rate=options.learning_rate,
                warmup=min(100, options.steps),
                sample_every=0,
                seed=options.train_seed,
                threads=options.threads,
            ),
        )
    )
    weights = load_world_weights(folder / "run")
    world = WorldModel(
        picture, weights.network, load_autoencoder(options.autoencoder), weights.text_encoder
    )
    world.save_pretrained(folder / "world")
    shutil.copytree(source / "contexts", folder / "world" / "contexts", dirs_exist_ok=True)
    return folder / "world"


def cut_out(options: Options, model: SanaWMConfig, folder: Path) -> Path:
    """Write what a variant has in common with trained weights; the rest of it is fresh."""
    assert options.init is not None
    trained = load_world_weights(options.init)
    torch.manual_seed(options.train_seed)
    network = SanaWM(model)
    own = network.state_dict()
    known = trained.network.state_dict()
    shared = {key: known[key] for key in own if key in known and known[key].shape == own[key].shape}
    network.load_state_dict(own | shared)
    WorldWeights(network, trained.text_encoder).save(folder)
    return folder


def judge(options: Options, worlds: dict[str, str]) -> dict[str, dict[str, Any]]:
    """All figures of all worlds, by the names they have in the table."""
    first, *others = worlds.values()
    ahead = foresight.Options(
        world=first,
        compare=tuple(others),
        data=options.data,
        episodes=options.episodes,
        starts=options.starts,
        seeds=options.seeds,
    )
    with tempfile.TemporaryDirectory() as folder:
        foreseen = foresight.measure(ahead, foresight.held_out(ahead, Path(folder)))
    found: dict[str, dict[str, Any]] = {}
    for name in (foresight.WARP, foresight.COPY):
        found[name] = {"foresight": dict(foreseen[name])}
    for name, world in worlds.items():
        steer = steering.Options(world=world, drives=options.drives, seconds=options.seconds)
        drives = {seed: steering.generated_drives(steer, seed) for seed in options.seeds}
        found[name] = {
            "foresight": dict(foreseen[world]),
            "yaw_rate": [agreement(np.concatenate(one)) for one in drives.values()],
            "yaw": [agreement(steering.turned(one, steer.seconds)) for one in drives.values()],
        }
        if options.drift_drives:
            asked = drift.Options(
                world=world, drives=options.drift_drives, seeds=options.seeds, data=options.data
            )
            found[name]["drift"] = [one["ratio"] for one in drift.measure(asked)[1].values()]
    return found


def row(name: str, figures: dict[str, Any]) -> list[str]:
    """A world in the table."""
    cells = [name]
    for key in FORESEEN:
        values = [float(np.mean(one)) for one in figures["foresight"][key]]
        cells.append(foresight.cell(*foresight.mean_and_error(values)))
    if "yaw" not in figures:
        return [*cells, "-", "-", "-"]
    cells.append(spread([one["spearman"] for one in figures["yaw_rate"]]))
    cells.append(spread([one["median_error"] for one in figures["yaw"]], 2))
    return [*cells, spread(figures["drift"], 2) if "drift" in figures else "-"]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    worlds = {name: str(train_variant(options, name)) for name in options.variants}
    for name in ("with_self_forcing", "without_self_forcing"):
        if getattr(options, name) is not None:
            worlds[name.replace("_", " ")] = str(getattr(options, name))
    found = judge(options, worlds)
    Report(
        title=f"Ablations, {options.steps} steps each"
        f"{'' if options.init is None else ' from trained weights'}"
        f"{'' if options.warp else ', no warped picture'}",
        columns=[
            "network", *(f"{key.replace('_', ' ')}" for key in FORESEEN), "yaw rate, Spearman",
            f"yaw over {options.seconds:g} s, median error [deg]", "drift ratio",
        ],
        rows=[row(name, figures) for name, figures in found.items()],
        figures=found,
        notes=[
            "PSNR: more is better, distance and error: less; foresight as mean ± standard error "
            f"over drives, the rest as mean ± deviation over {len(options.seeds)} seeds."
        ],
    ).publish(options, options.out)  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))
