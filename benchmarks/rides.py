"""Drives through a generated world of which only measured windows are kept, not the pictures.

Axes: n drives, w windows, t latent frames of a window, k features, p pictures to look at.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, UInt8
from tqdm import tqdm

from sanawm_gym.agents import load_policy
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.validate.picture_distance import Pictures, joined, look
from sanawm_gym.worldmodel.contexts import list_contexts

PER_SECOND = 4
"""Decisions a second."""


@dataclass(frozen=True, kw_only=True)
class RideConfig:
    """How to drive, and what to keep.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        seconds: Length of a drive [s].
        window: Length of a window [s].
        windows: Windows, evenly spread from the beginning to the end, >= 2, which do not overlap.
        seed: Seed of the drives: their starts and their noise.
    """

    world: str
    policy: str
    seconds: int
    window: int
    windows: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse windows that do not fit."""
        if self.windows < 2 or self.window < 1 or self.windows * self.window > self.seconds:
            raise ValueError(
                f"got {self.windows} windows of {self.window} s in {self.seconds} s, expected at "
                "least 2 of at least 1 s that do not overlap"
            )

    @property
    def begins(self) -> list[int]:
        """Decision with which every window begins."""
        last = PER_SECOND * (self.seconds - self.window)
        return [round(i * last / (self.windows - 1)) for i in range(self.windows)]

    @property
    def picture_every(self) -> int:
        """Decisions between pictures of the contact sheet."""
        return PER_SECOND * max(5, -(-self.seconds // 12))


@dataclass(frozen=True, kw_only=True)
class Rides:
    """What is kept of some drives."""

    features: Float[np.ndarray, "n w t k"]
    colours: Float[np.ndarray, "n w t bins"]
    sharpness: Float[np.ndarray, "n w t"]
    latent_std: Float[np.ndarray, "n w t"]
    alive: Bool[np.ndarray, "n w"]
    """Whether the world still returned pictures when the window ended."""
    metres: Float[np.ndarray, " n"]
    sheet: UInt8[np.ndarray, "n p h w 3"]

    def at(self, window: int) -> Pictures | None:
        """A window of all drives that still were pictures, together."""
        drives = [self.of(drive, window) for drive in np.flatnonzero(self.alive[:, window])]
        return joined(drives) if drives else None

    def of(self, drive: int, window: int) -> Pictures:
        """A window of one drive."""
        fields = [field.name for field in dataclasses.fields(Pictures)]
        return Pictures(**{name: getattr(self, name)[drive, window] for name in fields})

    @classmethod
    def concat(cls, parts: list[Rides]) -> Rides:
        """All drives of several batches."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def ride_all(config: RideConfig, drives: int, batch: int, keep: Path | None = None) -> Rides:
    """Drive in batches; those that a folder already holds are read from it.

    Args:
        config: How.
        drives: Number of drives.
        batch: Drives drawn together.
        keep: Folder for finished batches, so that an interrupted run goes on; None keeps none.

    Raises:
        ValueError: If the folder holds batches of other drives.
    """
    parts = []
    bar = tqdm(range(0, drives, batch), desc=f"generated, seed {config.seed}", unit="batch")
    for begin in bar:
        numbers = list(range(begin, min(begin + batch, drives)))
        path = None
        if keep is not None:
            path = keep / f"seed-{config.seed}-drives-{numbers[0]}-{numbers[-1]}.npz"
        if path is not None and path.is_file():
            parts.append(_load(path, config))
            continue
        parts.append(ride(config, numbers))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, config=np.array(repr(config)), **vars(parts[-1]))
            os.replace(partial, path)
    return Rides.concat(parts)


def _load(path: Path, config: RideConfig) -> Rides:
    with np.load(path) as stored:
        found = {name: stored[name] for name in stored.files}
    if str(found.pop("config")) != repr(config):
        raise ValueError(f"{path} holds drives of other options: give another folder, or delete it")
    return Rides(**found)


def ride(config: RideConfig, numbers: list[int]) -> Rides:
    """Drive some of the drives as one batch."""
    policy, autoencoder = load_policy(config.policy), shared_world(config.world).autoencoder
    envs: Any = gym.make_vec(
        "SanaWM-Drive-v0",
        num_envs=len(numbers),
        world=config.world,
        frames_in_info=True,
        horizon=config.seconds + 1.0,
        outcomes=None,
        drift=None,
    )
    names = list_contexts(config.world)
    order = np.random.default_rng(config.seed).permutation(len(names))
    seeds = [1000 * config.seed + number for number in numbers]
    starts = [names[order[number % len(names)]] for number in numbers]
    observation, _ = envs.reset(seed=seeds, options={"start": starts})
    policy.reset(seeds)
    alive, metres = np.ones(len(numbers), dtype=bool), np.zeros(len(numbers))
    frames = np.repeat(observation["camera"][:, None], 4, axis=1)
    clip: list[UInt8[np.ndarray, "n f h w 3"]] | None = None
    windows: list[list[Pictures]] = []
    lived, sheet = [], [observation["camera"]]
    for decision in tqdm(range(PER_SECOND * config.seconds), leave=False, unit="decision"):
        if decision in config.begins:
            clip = [frames[:, -1:]]  # one frame more leads in
        observation, _, _, truncated, info = envs.step(policy.act(observation))
        # A row that failed begins anew by itself; what it shows then is not this drive.
        alive &= ~truncated
        metres = np.where(alive, info["distance"], metres)
        frames = info.get("frames", frames)  # a reset of all rows has none
        if clip is not None:
            clip.append(frames)
            if len(clip) > PER_SECOND * config.window:
                windows.append([look(autoencoder, row) for row in np.concatenate(clip, axis=1)])
                clip = None
                lived.append(alive.copy())
        if (decision + 1) % config.picture_every == 0:
            sheet.append(observation["camera"] * alive[:, None, None, None].astype(np.uint8))
    envs.close()

    def stacked(name: str) -> Float[np.ndarray, "n w t *k"]:
        by_window = [np.stack([getattr(one, name) for one in window]) for window in windows]
        return np.stack(by_window, axis=1).astype(np.float32)

    return Rides(
        features=stacked("features"),
        colours=stacked("colours"),
        sharpness=stacked("sharpness"),
        latent_std=stacked("latent_std"),
        alive=np.stack(lived, axis=1),
        metres=metres,
        sheet=np.stack(sheet, axis=1),
    )
