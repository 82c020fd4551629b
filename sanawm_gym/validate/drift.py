"""Part `drift`: is what is drawn still a road after a while?

Both worlds are driven by the cloned driver, which looks at pictures; where the generated ones are
of another size than it knows, by the one that goes straight on. Only what is measured is kept.

Axes: n drives, t latent frames (one a decision), k features.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from sanawm_gym.agents.loading import load_policy
from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.page import Headline, Section, number, picture, said, table
from sanawm_gym.validate.picture_distance import Pictures, Yardstick, joined, look
from sanawm_gym.validate.plots import Lines, curves
from sanawm_gym.validate.setup import DECISION, Setup, Unit
from sanawm_gym.validate.starts import fitted

WINDOWS = 5
"""Stretches of a drive, of equal length."""
FIELDS = ("features", "colours", "sharpness", "latent_std")


def units(setup: Setup) -> list[Unit]:
    """Long drives in both worlds."""
    steps = _edges(setup)[-1]
    return [
        Unit(
            name=f"drift-{numbers[0]:03d}",
            label="drift",
            weight=len(numbers) * steps * 0.11,
            work=partial(_measure, setup, numbers),
        )
        for numbers in setup.batches()
    ]


def figures(setup: Setup) -> dict[str, Any]:
    """Picture distance to reference video and plain statistics, stretch by stretch."""
    edges = _edges(setup)
    parts = [setup.store.arrays(f"drift-{numbers[0]:03d}") for numbers in setup.batches()]
    kept = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    sound = kept["reference_sound"]
    references = [_pictures(kept, "reference", i, mask) for i, mask in enumerate(sound) if
                  mask.any()]  # fmt: skip
    yardstick, count = Yardstick.of(joined(references)), setup.job.num_starts
    found: dict[str, Any] = {
        "begins": [DECISION * edge for edge in edges[:-1]],
        "window_seconds": DECISION * edges[-1] / WINDOWS,
        "floor": yardstick.floor(references, count) if len(references) > 1 else None,
        "generated": [],
        "reference": [],
        "failed": int((~kept["alive"][:, -1]).sum()),
    }
    for begin, end in itertools.pairwise(edges):
        window = np.zeros(edges[-1], dtype=bool)
        window[begin:end] = True
        for name, masks in (("generated", kept["alive"]), ("reference", sound)):
            found[name].append(_window(yardstick, kept, name, masks & window))
    first, last = (found["generated"][end] for end in (0, -1))
    found["ratio"] = None
    if first is not None and last is not None:
        found["ratio"] = last["distance"] / first["distance"]
    return found


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    keys = ("distance", "sharpness", "latent_std", "colour_distance")
    rows = []
    for index, begin in enumerate(found["begins"]):
        end = begin + found["window_seconds"]
        one = found["generated"][index] or {}
        other = found["reference"][index] or {}
        rows.append([f"{begin:g} to {end:g} s", *(one.get(key) for key in keys),
                     other.get("distance")])  # fmt: skip
    return Section(
        name="drift",
        title="Drift",
        question="Is what is drawn still a road after a while?",
        headlines=[
            Headline(label="drift: picture distance, last over first stretch", value=found["ratio"],
                     aim="near 1")
        ],
        body=[
            said(
                f"The driver {_driver(setup)} drives {setup.job.drift_seconds:g} s in both worlds. "
                "The distance is that of Fréchet between two sets of pictures, on features of the "
                "world's own video encoder; 0 would be the same pictures, 1 the variance of all "
                "reference video. The floor is what two halves of the reference drives are apart: "
                "so few drives show only so many places."
            ),
            table(["stretch", "distance", "sharpness", "latent deviation", "colour distance",
                   "distance of the reference"], rows),
            picture(
                _plot(found),
                "Left: distance to all reference video. Right: sharpness of the pictures and "
                "deviation of their latent frames, over those of reference video.",
            ),
            said(f"The floor is {number(found['floor'])}. Worlds that failed on the way: "
                 f"{found['failed']}."),
        ],
        limits=(
            "The encoder is the world's own and knows nothing that it throws away; sharpness and "
            "colours are therefore measured on the pictures themselves. A mean hides a few drives "
            "that died. Reference moments off the road or after a collision are left out."
        ),
    )  # fmt: skip


def _plot(found: dict[str, Any]) -> bytes:
    """Distance and shares over time; a floor beyond all curves is only said, not drawn."""
    floor: float | None = found["floor"]
    middles = [begin + found["window_seconds"] / 2 for begin in found["begins"]]

    def series(name: str, key: str) -> tuple[list[float], list[float]]:
        values = [None if one is None else one[key] for one in found[name]]
        return middles, [float("nan") if value is None else value for value in values]

    return curves(
        [
            Lines(
                title="picture distance to reference video", x_label="time [s]",
                y_label="Fréchet", curves={name: series(name, "distance") for name in
                                           ("generated", "reference")},
                level=floor if floor is not None and floor < 1 else None,
                level_label="reference against reference",
            ),
            Lines(
                title="as a share of reference video", x_label="time [s]", y_label="1",
                curves={name.replace("_", " "): series("generated", name) for name in
                        ("sharpness", "latent_std")},
                level=1.0,
            ),
        ]
    )  # fmt: skip


def _driver(setup: Setup) -> str:
    return "cloned" if setup.same_size else "constant"


def _edges(setup: Setup) -> list[int]:
    """Decisions at which stretches begin, and the end."""
    steps = round(setup.job.drift_seconds / DECISION)
    return [int(edge) for edge in np.linspace(0, steps, WINDOWS + 1).round()]


def _pictures(kept: dict[str, np.ndarray], world: str, row: int, mask: np.ndarray) -> Pictures:
    return Pictures(
        **{name: kept[f"{world}_{name}"][row, mask].astype(np.float64) for name in FIELDS}
    )


def _window(
    yardstick: Yardstick, kept: dict[str, np.ndarray], world: str, masks: np.ndarray
) -> dict[str, float] | None:
    parts = [_pictures(kept, world, i, mask) for i, mask in enumerate(masks) if mask.any()]
    if sum(len(part.sharpness) for part in parts) < 2:
        return None
    pictures = joined(parts)
    return {"distance": yardstick.distance(pictures), **yardstick.statistics(pictures)}


def _measure(setup: Setup, batch: list[int]) -> None:
    """Drive some starts in both worlds and look at their pictures, stretch by stretch."""
    found = {f"generated_{name}": values for name, values in _generated(setup, batch).items()}
    found["alive"] = found.pop("generated_alive")
    rows = [_reference(setup, number) for number in tqdm(batch, desc="reference, drift",
                                                         leave=False)]  # fmt: skip
    for name in rows[0]:
        found[f"reference_{name}"] = np.stack([row[name] for row in rows])
    setup.store.save(f"drift-{batch[0]:03d}", {"drives": len(batch)}, found)


def _generated(setup: Setup, batch: list[int]) -> dict[str, np.ndarray]:
    starts, seeds = [setup.starts[number] for number in batch], setup.noise_seeds(batch)
    envs = GeneratedDrives(starts, seeds, setup.generated_settings(frames_in_info=True))
    policy, edges = load_policy(_driver(setup)), _edges(setup)
    policy.reset(seeds)
    last = envs.observation["camera"][:, None].copy()
    clip, alive = [last], []
    looks: list[list[Pictures]] = [[] for _ in batch]
    for step in tqdm(range(edges[-1]), desc="generated, drift", leave=False):
        envs.step(policy.act(envs.observation, envs.infos))
        # A drive that failed goes on as a still picture, which is not counted.
        frames = np.repeat(envs.observation["camera"][:, None], 4, axis=1)
        for row in envs.living:
            frames[row] = envs.infos[row]["frames"]
        clip.append(frames)
        alive.append([row in envs.living for row in range(len(batch))])
        if step + 1 in edges:
            for row, frames_of_row in enumerate(np.concatenate(clip, axis=1)):
                looks[row].append(look(setup.world.autoencoder, frames_of_row))
            clip = [frames[:, -1:]]
    envs.close()
    return {**_stacked([joined(one) for one in looks]), "alive": np.array(alive).T}


def _reference(setup: Setup, number: int) -> dict[str, np.ndarray]:
    start, policy = setup.starts[number], load_policy(_driver(setup))
    drive, edges = setup.reference(frames=True), _edges(setup)
    drive.begin(start)
    policy.reset(setup.noise_seeds([number]))
    clip, sound, looks = [drive.observation["camera"][None]], [], []
    for step in range(edges[-1]):
        batch = {key: value[None] for key, value in drive.observation.items()}
        drive.step(policy.act(batch, [drive.info])[0])
        truth = drive.info["truth"]
        sound.append(bool(truth["on_road"]) and not truth["crashed"])
        clip.append(drive.info["frames"])
        if step + 1 in edges:
            pictures, _ = fitted(np.concatenate(clip), start, setup.world.width,
                                 setup.world.height)  # fmt: skip
            looks.append(look(setup.world.autoencoder, pictures))
            clip = [drive.info["frames"][-1:]]
    found = {name: values[0] for name, values in _stacked([joined(looks)]).items()}
    return {**found, "sound": np.array(sound)}


def _stacked(drives: list[Pictures]) -> dict[str, np.ndarray]:
    return {
        name: np.stack([getattr(drive, name) for drive in drives]).astype(np.float32)
        for name in FIELDS
    }
