"""Environments in the tiny world, and heads of it that read what a test wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sanawm_gym  # noqa: F401  (registers the ids)
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.contexts import list_contexts, load_context, save_contexts
from sanawm_gym.worldmodel.heads import NUM_NUMBERS, QUANTITIES, Heads, HeadsConfig, fingerprint

FREE_ROAD = {
    "lane_offset": (0.0, 0.1), "heading_error": (0.0, 0.01), "curvature_ahead": (0.0, 0.001),
    "left_edge": (5.0, 0.1), "right_edge": (1.75, 0.1), "lead_distance": (30.0, 1.0),
    "lead_speed": (0.0, 1.0), "has_lead": (0.01, 0.0), "on_road": (0.99, 0.0),
    "crashed": (0.01, 0.0),
}  # fmt: skip
"""Mean and deviation of a car in its lane."""


def read_always(heads: Heads, readings: dict[str, tuple[float, float]]) -> None:
    """Make heads read the same whatever they see; the deviation of a chance follows from it."""
    last = heads.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.data.zero_()
    last.bias.data.zero_()
    for column, name in enumerate(QUANTITIES):
        mean, deviation = readings[name]
        if column < NUM_NUMBERS:
            heads.offset[column], heads.temperature[column] = mean, deviation
        else:
            heads.bias[column - NUM_NUMBERS] = math.log(mean / (1 - mean))


@pytest.fixture(scope="session")
def with_heads(world: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Gives the tiny world heads of random weights, or such as always read the same.

    `with_heads(right_edge=(-3.0, 0.1))` reads that mean and deviation whatever the picture shows;
    quantities not named are then read as from a car in the middle of a free road.
    """

    def build(**fixed: tuple[float, float]) -> str:
        model = WorldModel.from_pretrained(world, dtype="float32")
        torch.manual_seed(1)
        config = HeadsConfig(
            channels=32, grid=(5, 8), width=4, hidden=8, network=fingerprint(model.network)
        )
        heads = Heads(config)
        if fixed:
            read_always(heads, FREE_ROAD | fixed)
        parts = (model.config, model.network, model.autoencoder, model.text_encoder)
        folder = tmp_path_factory.mktemp("seeing")
        WorldModel(*parts, heads).save_pretrained(folder)
        clips = [load_context(name, world) for name in list_contexts(world)]
        save_contexts(clips, folder, fps=16.0)
        return str(folder)

    return build


@pytest.fixture(scope="session")
def seeing(with_heads: Callable[..., str]) -> str:
    """The tiny world with heads of random weights."""
    return with_heads()


@pytest.fixture
def make(world: str) -> Callable[..., gym.Env[Any, Any]]:
    """Makes scalar environments in the tiny world."""

    def build(**kwargs: Any) -> gym.Env[Any, Any]:
        return gym.make("SanaWM-Drive-v0", **{"world": world, "dtype": "float32"} | kwargs)

    return build


@pytest.fixture
def make_vec(world: str) -> Callable[..., gym.vector.VectorEnv[Any, Any, Any]]:
    """Makes vector environments in the tiny world."""

    def build(num_envs: int, **kwargs: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
        kwargs = {"world": world, "dtype": "float32"} | kwargs
        return gym.make_vec("SanaWM-Drive-v0", num_envs, **kwargs)

    return build


@pytest.fixture
def actions() -> NDArray[np.float32]:
    """Forty actions of a lively driver."""
    return np.random.default_rng(5).uniform(-1, 1, (40, 2)).astype(np.float32)
