"""Whether a world draws what its prompt asks for, by a judge trained on reference video.

The judge (`judge.py`) learns every attribute (`attributes.py`) from recorded drives and their
captions. How far it can be trusted is measured on drives it has not learnt from, and stands beside
every figure.

Drives then begin in three ways: from starts whose caption denies the attribute, with a prompt that
asks for it; from any start with such a prompt; and, as a check on the judge, from the starts of the
first way with their own captions. The figure is the share of drives in which the judge sees the
attribute in the last seconds, long after the start is out of sight. Look at the contact sheet too.

    python benchmarks/prompt.py --out results/prompt.json --sheet results/prompt.png

Axes: n drives, m moments, k features.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from attributes import ATTRIBUTES, Attribute, chosen
from jaxtyping import Float, UInt8
from judge import View, accuracy, moments, train_judge
from PIL import Image
from reference_video import fitted, recorded
from report import Report, spread
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.video import contact_sheet
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.contexts import list_contexts, load_context

PER_SECOND = 4
"""Decisions a second."""
WAYS = ("asked, starts without it", "asked, any start", "not asked, starts without it")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to ask, how often, and what the judge learns from.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        guidance: Classifier-free guidance of the prompts; None takes the world's own.
        policy: Driver: cloned, constant, random or a file of weights.
        attributes: Some of night, rain, curves, traffic.
        drives: Drives for each attribute, way and seed, >= 1.
        batch: Drives drawn together, >= 1.
        seconds: Length of a drive [s], whole.
        window: Its last seconds, which are judged, whole, >= 2.
        seeds: Repetitions with other starts and other noise.
        data: Dataset folder with captions for the judge; recorded anew when not given.
        episodes: Drives recorded, or read from the beginning of the data; some dozen of every kind.
        record_seconds: Length of a recorded drive [s], at least 3.
        record_seed: Seed of the recording.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
        sheet: PNG of the contact sheet to write: a row a drive, a picture every two seconds.
    """

    world: str = "drive"
    guidance: float | None = None
    policy: str = "cloned"
    attributes: tuple[str, ...] = tuple(ATTRIBUTES)
    drives: int = 8
    batch: int = 8
    seconds: int = 20
    window: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    data: Path | None = None
    episodes: int = 320
    record_seconds: float = 4.0
    record_seed: int = 70001
    threads: int = 1
    out: Path | None = None
    sheet: Path | None = None


def reference(options: Options, world: WorldModel) -> tuple[Float[np.ndarray, "n m k"], list[str]]:
    """Features and captions of recorded drives."""
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(
            options.data,
            Path(folder),
            episodes=options.episodes,
            seconds=options.record_seconds,
            seed=options.record_seed,
        )
        dataset = EpisodeDataset(data, num_cached=1)
        drives, size = dataset.episodes[: options.episodes], (world.width, world.height)
        features = [
            moments(world.autoencoder, fitted(dataset, info.index, size)[0])
            for info in tqdm(drives, desc="reference", unit="drive")
        ]
    return np.stack(features), [info.caption for info in drives]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One drive to be judged."""

    attribute: str
    way: str
    seed: int
    number: int
    start: str
    prompt: str


def asks(options: Options, attribute: Attribute) -> list[Ask]:
    """All drives of an attribute."""
    captions = {
        name: load_context(name, options.world).caption for name in list_contexts(options.world)
    }
    without = [name for name, caption in captions.items() if attribute.read(caption) is False]
    if not without:
        raise SystemExit(f"every start of {options.world!r} may have {attribute.name}")
    found = []
    for seed in options.seeds:
        rng = np.random.default_rng([seed, list(ATTRIBUTES).index(attribute.name)])
        orders = {True: rng.permutation(without), False: rng.permutation(list(captions))}
        for way in WAYS:
            order = orders[way.endswith("without it")]
            for number in range(options.drives):
                start = str(order[number % len(order)])
                caption = captions[start]
                prompt = caption if way.startswith("not") else attribute.ask(caption)
                found.append(
                    Ask(
                        attribute=attribute.name, way=way, seed=seed, number=number, start=start,
                        prompt=prompt,
                    )
                )  # fmt: skip
    return found


def ride(
    options: Options, policy: Policy, autoencoder: VideoAutoencoder, rows: Sequence[Ask]
) -> tuple[Float[np.ndarray, "n m k"], list[list[UInt8[np.ndarray, "h w 3"]]]]:
    """Drive some drives as one batch: what the judge sees of their ends, and some pictures."""
    envs: Any = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=len(rows),
        world=options.world,
        guidance=options.guidance,
        frames_in_info=True,
        horizon=options.seconds + 1.0,
        outcomes=None,
        drift=None,
    )
    seeds = [1000 * row.seed + row.number for row in rows]
    options_of_rows = {"start": [row.start for row in rows], "prompt": [row.prompt for row in rows]}
    observation, _ = envs.reset(seed=seeds, options=options_of_rows)
    policy.reset(seeds)
    num, kept = PER_SECOND * options.seconds, PER_SECOND * options.window
    pictures, clips = [observation["camera"]], []
    for decision in range(num):
        observation, _, _, truncated, info = envs.step(policy.act(observation))
        if truncated.any():
            failed = [rows[row] for row in np.flatnonzero(truncated)]
            raise SystemExit(f"the world failed after {decision} decisions: {failed}")
        if decision >= num - kept - 1:
            lead = decision == num - kept - 1  # one frame more leads in
            clips.append(info["frames"][:, -1:] if lead else info["frames"])
        if (decision + 1) % (2 * PER_SECOND) == 0:
            pictures.append(observation["camera"])
    envs.close()
    ends = np.concatenate(clips, axis=1)
    features = np.stack([moments(autoencoder, clip[-(16 * options.window + 1) :]) for clip in ends])
    return features, [[one[row] for one in pictures] for row in range(len(rows))]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    world, policy = shared_world(options.world), load_policy(options.policy)
    wanted = chosen(options.attributes)
    for attribute in wanted:
        unknown = world.text_encoder.unknown_words(attribute.yes[0])
        if unknown:
            raise SystemExit(f"the world never learnt {unknown}; leave {attribute.name} out")
    features, captions = reference(options, world)
    view, trusted, judges = View.of(features), {}, {}
    viewed = view(features)
    for attribute in wanted:
        read = [attribute.read(caption) for caption in captions]
        known = np.array([answer is not None for answer in read])
        labels = np.array([bool(answer) for answer in read])[known]
        if min(labels.sum(), (~labels).sum()) < 2:
            raise SystemExit(f"too few recorded drives with or without {attribute.name}")
        trusted[attribute.name] = accuracy(viewed[known], labels)
        judges[attribute.name] = train_judge(viewed[known], labels)
    jobs = [one for attribute in wanted for one in asks(options, attribute)]
    verdicts: list[tuple[Ask, bool]] = []
    sheet: dict[tuple[str, str], list[Any]] = {}
    for begin in tqdm(range(0, len(jobs), options.batch), desc="generated", unit="batch"):
        rows = jobs[begin : begin + options.batch]
        seen, pictures = ride(options, policy, world.autoencoder, rows)
        for row, one, shown in zip(rows, seen, pictures, strict=True):
            verdicts.append((row, bool(judges[row.attribute].sees(view(one[None]))[0])))
            sheet.setdefault((row.attribute, row.way), []).append(shown)
    if options.sheet is not None:
        _write_sheet(options.sheet, sheet)
    _report(options, trusted, verdicts)


def _report(
    options: Options, trusted: dict[str, dict[str, Any]], verdicts: list[tuple[Ask, bool]]
) -> None:
    answers: dict[tuple[str, str, int], list[bool]] = {}
    for ask, seen in verdicts:
        answers.setdefault((ask.attribute, ask.way, ask.seed), []).append(seen)
    shares = {
        name: {way: [float(np.mean(answers[name, way, s])) for s in options.seeds] for way in WAYS}
        for name in options.attributes
    }
    rows = [
        [
            name,
            f"{trusted[name]['balanced']:.2f} ({trusted[name]['with']:.2f} with, "
            f"{trusted[name]['without']:.2f} without)",
            *(spread(shares[name][way], 2) for way in WAYS),
        ]
        for name in options.attributes
    ]
    Report(
        title=f"What is asked for and seen, seconds {options.seconds - options.window}-"
        f"{options.seconds}, by {options.policy}",
        columns=["attribute", "judge on unseen reference drives", *WAYS],
        rows=rows,
        figures={
            "judge": trusted,
            "shares": shares,
            "drives": [{**asdict(ask), "seen": seen} for ask, seen in verdicts],
        },
        notes=[f"Shares of {options.drives} drives a seed in which the judge sees the attribute; "
               "mean ± deviation over seeds."],
    ).publish(options, options.out)  # fmt: skip


def _write_sheet(path: Path, sheet: dict[tuple[str, str], list[Any]], drives: int = 4) -> None:
    """The first drives of every attribute and way, in the order of the table."""
    rows = [row for shown in sheet.values() for row in shown[:drives]]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.stack([picture for row in rows for picture in row])
    Image.fromarray(contact_sheet(pictures, columns=len(rows[0]))).save(path)


if __name__ == "__main__":
    main(tyro.cli(Options))
