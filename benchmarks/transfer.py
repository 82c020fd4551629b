r"""Does a driver that learnt only in the generated world drive in the reference world?

PPO learns twice, with equal settings and equally many steps: once in the generated world, where the
reward `carl` is read off the pictures that the world draws, once in the reference world, where the
truth is known. Both begin as the same driver (`--init`, the cloned one by default), several seeds
each. Then all of them, the driver they began as and drivers that learn nothing take the same
held-out roads of the reference world; `roads.py` says what is measured there.

There are no other cars on those roads unless `--vehicles` puts some there: the generated world's
heads hardly see other cars, so nothing about them could be learnt in it. Of a trained driver the
last weights are taken, not the best. "Keeps" is the return of the drivers of the generated world
over that of the drivers of the reference world; all intervals are 95 % of a bootstrap over seeds
and roads, with the roads drawn together for both sides.

    python benchmarks/transfer.py --runs runs/transfer --out transfer.json --plot transfer.png \
        --video transfer.mp4 --ship ppo.safetensors

Whatever was interrupted goes on when the same command is called again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from curves import Curve, Panel, draw_panels
from paired import interval
from report import Report, spread
from roads import GOOD, REFERENCE, RoadConfig, completion, drive_all, figures
from two_drives import film

from sanawm_gym.agents.evaluation import EvaluationConfig
from sanawm_gym.agents.hyperparameters import WARM_PPO, hyperparameters
from sanawm_gym.agents.learned import read_actor, save_actor
from sanawm_gym.agents.ppo import PPOConfig, train_ppo
from sanawm_gym.agents.tasks import TaskConfig

GENERATED_DRIVER, REFERENCE_DRIVER = "PPO, generated world", "PPO, reference world"
WORLDS = {GENERATED_DRIVER: "SanaWM-Drive-v0", REFERENCE_DRIVER: REFERENCE}
PLACES = {"generated": GENERATED_DRIVER, "reference": REFERENCE_DRIVER}
PARTS = ("train", "evaluate", "video")
COLUMNS = (  # title, figure, digits, factor
    ("return", "return", 1, 1.0),
    ("route completion, %", "completion", 0, 100.0),
    ("off the road, /km", "off_road_per_km", 2, 1.0),
    ("collisions, /km", "collisions_per_km", 2, 1.0),
    ("comfortable, %", "comfort", 0, 100.0),
    ("jerk p95, m/s^3", "jerk", 2, 1.0),
    ("lateral p95, m/s^2", "lateral", 2, 1.0),
    ("speed, m/s", "speed", 1, 1.0),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Who learns where, for how long, and on which roads it is judged.

    Attributes:
        runs: Folder for the trainings and the drives.
        parts: What is done now: train, evaluate, video.
        worlds: Where is trained, and whose drivers are judged, now: generated, reference. With one
            of them alone nothing is compared between the two; video and ship need the generated
            one, and video both.
        seeds: Trainings in each world, >= 1.
        steps: Decisions of all cars in a training, >= 1.
        cars: Cars in a batch.
        horizon: Length of an episode of the training [s].
        init: Driver that both begin as; `none` begins with weights drawn at random.
        n_steps: Decisions of each car in a rollout; None takes the tuned number.
        evaluations: How often a training is judged in its own world, >= 1.
        episodes: Episodes of such an evaluation.
        world: Generated world: a bundled name, a folder or a hub id; None takes the bundled one.
        settings: Further arguments of the generated world, `name=value`.
        vehicles: Other cars near the own one in the reference world, in training and on the roads.
        baselines: Drivers that are judged beside the trained ones.
        roads: Held-out roads, >= 1.
        seconds: Length of a drive on them [s].
        first_road: World seed of the first held-out road.
        workers: Processes over which the cars of a training are spread.
        threads: CPU threads of torch, >= 1.
        plot: PNG with the learning curves.
        video: MP4 of a driver of each world side by side.
        video_road: Which of the held-out roads it shows, from 0.
        ship: File for the driver of the generated world that did best there, in half precision.
        out: JSON file to write.
    """

    runs: Path = Path("runs/transfer")
    parts: tuple[Literal["train", "evaluate", "video"], ...] = PARTS  # type: ignore[assignment]
    worlds: tuple[Literal["generated", "reference"], ...] = ("generated", "reference")
    seeds: int = 3
    steps: int = 12_288
    cars: int = 16
    horizon: float = 16.0
    init: str = "cloned"
    n_steps: int | None = None
    evaluations: int = 3
    episodes: int = 8
    world: str | None = None
    settings: tuple[str, ...] = ()
    vehicles: int = 0
    baselines: tuple[str, ...] = ("cloned", "lane-keeper", "constant", "random")
    roads: int = 20
    seconds: float = 30.0
    first_road: int = 900_040_000_000
    workers: int = 1
    threads: int = 1
    plot: Path | None = None
    video: Path | None = None
    video_road: int = 0
    ship: Path | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        """Check that what is made of the trainings has them."""
        films = "video" in self.parts and self.video is not None
        if (films and len(set(self.worlds)) < 2) or (self.ship and "generated" not in self.worlds):
            raise ValueError(
                f"worlds: got {self.worlds}, expected both for --video and the generated one for "
                "--ship; name them, or leave those two out"
            )

    @property
    def drivers(self) -> tuple[str, ...]:
        """The trained drivers that are dealt with now."""
        return tuple(driver for place, driver in PLACES.items() if place in self.worlds)


def training(options: Options, driver: str, seed: int) -> PPOConfig:
    """One training; the two worlds differ in nothing but the world."""
    env = WORLDS[driver]
    is_generated = env != REFERENCE
    tuned = hyperparameters("ppo" if options.init == "none" else WARM_PPO, WORLDS[GENERATED_DRIVER])
    if options.n_steps is not None:
        tuned["n_steps"] = options.n_steps
        tuned["batch_size"] = min(tuned["batch_size"], options.n_steps * options.cars)
    return PPOConfig(
        out=options.runs / f"{'generated' if is_generated else 'reference'}-{seed}",
        init=None if options.init == "none" else options.init,
        steps=options.steps,
        seed=seed,
        threads=options.threads,
        save_every=max(options.steps // 5, 1),
        task=TaskConfig(
            env=env,
            num_envs=options.cars,
            horizon=options.horizon,
            reward="carl",
            world=options.world if is_generated else None,
            settings=options.settings if is_generated else (f"num_vehicles={options.vehicles}",),
            workers=options.workers,
        ),
        evaluation=EvaluationConfig(
            every=max(options.steps // options.evaluations, 1),
            episodes=options.episodes,
            at_start=True,
            videos=0,
        ),
        **tuned,
    )


def train_all(options: Options) -> bool:
    """Train what is not trained yet, world by world in turns.

    Returns:
        Whether all trainings came to their end.
    """
    for seed in range(options.seeds):
        for driver in options.drivers:
            config = training(options, driver, seed)
            train_ppo(config)
            if json.loads((config.out / "run.json").read_text())["steps_done"] < options.steps:
                return False
    return True


def evaluate(options: Options) -> dict[str, list[list[dict[str, Any]]]]:
    """Drives of all drivers on all roads, by name, seed and road."""
    config = RoadConfig(
        roads=options.roads,
        seconds=options.seconds,
        vehicles=options.vehicles,
        first_road=options.first_road,
    )
    keep = options.runs / "roads"
    found = {GOOD: [drive_all(GOOD, config, keep, GOOD)]}
    for driver in options.drivers:
        found[driver] = []
        for seed in range(options.seeds):
            out = training(options, driver, seed).out
            found[driver].append(drive_all(str(out / "policy.safetensors"), config, keep, out.name))
    for driver in options.baselines:
        found[driver] = [drive_all(driver, config, keep, driver)]
    return found


def compare(found: Mapping[str, Sequence[Sequence[dict[str, Any]]]]) -> dict[str, Any]:
    """Ratios and differences between drivers, by return and by route completion.

    `keeps` is there if both worlds are; `PPO, ... world: more than ...` for all trained drivers.
    """
    route = [drive["along"] for drive in found[GOOD][0]]
    compared: dict[str, Any] = {}
    for measure in ("return", "completion"):
        values: dict[str, np.ndarray] = {
            driver: np.array(
                [
                    completion(drives, route)
                    if measure == "completion"
                    else [drive["return"] for drive in drives]
                    for drives in of_seeds
                ]
            )
            for driver, of_seeds in found.items()
        }
        trained = [driver for driver in WORLDS if driver in values]
        one = compared[measure] = {
            f"{driver}: more than {other}": interval(values[driver], values[other], is_ratio=False)
            for driver in trained
            for other in values
            if other not in (*WORLDS, GOOD)
        }
        if len(trained) == len(WORLDS):
            one["keeps"] = interval(
                values[GENERATED_DRIVER], values[REFERENCE_DRIVER], is_ratio=True
            )
    return compared


def draw_curves(options: Options, path: Path) -> None:
    """How every world's drivers came to drive in that world."""
    panels = []
    for measure, label in (("reward", "return of an episode"), ("metres", "way [m]")):
        curves = {}
        for driver in options.drivers:
            runs = [
                json.loads((training(options, driver, seed).out / "evaluations.json").read_text())
                for seed in range(options.seeds)
            ]
            values = np.array([[one[measure] for one in run["evaluations"]] for run in runs])
            steps = [one["steps"] for one in runs[0]["evaluations"]]
            band = values.std(axis=0, ddof=1).tolist() if len(values) > 1 else None
            curves[driver] = Curve(x=steps, y=values.mean(axis=0).tolist(), spread=band)
        title = f"each in its own world, {options.episodes} episodes of {options.horizon:g} s"
        panels.append(Panel(title=title, x_label="steps", y_label=label, curves=curves))
    draw_panels(path, panels)


def ship(options: Options, path: Path) -> int:
    """Write the driver of the generated world that did best in it, and say which seed it is.

    The reference world has no say in the choice: whoever has only a generated world could make it.
    """
    folders = [training(options, GENERATED_DRIVER, seed).out for seed in range(options.seeds)]
    returns = [
        json.loads((folder / "evaluations.json").read_text())["evaluations"][-1]["reward"]
        for folder in folders
    ]
    best = int(np.argmax(returns))
    save_actor(read_actor(folders[best] / "policy.safetensors"), path, torch.float16)
    print(f"wrote {path}: seed {best}")
    return best


def row_of(driver: str, of_seeds: Sequence[dict[str, float]]) -> list[str]:
    """Means over the roads; of trained drivers with the deviation over their seeds."""

    def cell(name: str, digits: int, scale: float) -> str:
        values = [scale * one[name] for one in of_seeds]
        return spread(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"

    return [driver, *(cell(name, digits, scale) for _, name, digits, scale in COLUMNS)]


def report(options: Options) -> None:
    """Judge all drivers and publish what came of it."""
    found = evaluate(options)
    route = [drive["along"] for drive in found[GOOD][0]]
    judged = {
        driver: [figures(drives, route) for drives in of_seeds]
        for driver, of_seeds in found.items()
    }
    compared = compare(found)
    best = None if options.ship is None else ship(options, options.ship)
    if options.plot is not None:
        draw_curves(options, options.plot)
    notes = []
    for measure, gaps in compared.items():
        told = [f"{name} by {_number(gap)}" for name, gap in gaps.items() if name != "keeps"]
        if "keeps" in gaps:
            kept = _percent(gaps["keeps"])
            told.insert(0, f"the generated world keeps {kept} of the reference world")
        notes.append(f"{measure}: {'; '.join(told)}.")
    Report(
        title=f"Drivers on {options.roads} held-out roads of the reference world",
        columns=["driver", *(title for title, *_ in COLUMNS)],
        rows=[row_of(driver, of_seeds) for driver, of_seeds in judged.items()],
        figures={
            "judged": judged,
            "compared": compared,
            "shipped_seed": best,
            "hyperparameters": asdict(training(options, options.drivers[0], 0)),
            "drives": found,
        },
        notes=[
            *notes,
            f"{options.steps} steps and {options.seeds} seeds in each world, begun as "
            f"{options.init}; {options.vehicles} other cars; trained drivers: mean and deviation "
            "over seeds.",
        ],
    ).publish(options, options.out)


def _percent(one: Mapping[str, float]) -> str:
    return f"{100 * one['value']:.0f} % ({100 * one['low']:.0f} to {100 * one['high']:.0f})"


def _number(one: Mapping[str, float]) -> str:
    return f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if "train" in options.parts and not train_all(options):
        return
    if "evaluate" in options.parts:
        report(options)
    if "video" in options.parts and options.video is not None:
        files = {
            driver: training(options, driver, 0).out / "policy.safetensors" for driver in WORLDS
        }
        config = RoadConfig(
            roads=options.roads,
            seconds=options.seconds,
            vehicles=options.vehicles,
            first_road=options.first_road,
        )
        film(options.video, files, config, options.first_road + options.video_road)


if __name__ == "__main__":
    main(tyro.cli(Options))
