"""The world stepped by OpenVINO: the same pictures, and a clear word where it is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from sanawm_gym.worldmodel import WorldModel
from tests.worldmodel.test_world import begin, drive

LATENT_TOLERANCE = 1e-4
"""Largest difference of a float32 latent from torch's after a few steps; latents are around 1."""


def test_openvino_draws_the_pictures_of_the_plain_network(world: str) -> None:
    plain = WorldModel.from_pretrained(world, dtype="float32", backend="plain")
    compiled = WorldModel.from_pretrained(world, dtype="float32", backend="openvino")
    start = begin(plain, world, ["road-0"], [3])
    frames, state = drive(plain, start, 4)
    again, same = drive(compiled, start, 4)
    assert float((same.latent - state.latent).abs().max()) < LATENT_TOLERANCE
    assert np.abs(frames.astype(int) - again.astype(int)).max() <= 1
    for name, tensor in state.tensors().items():
        assert same.tensors()[name].dtype == tensor.dtype, name
        assert same.tensors()[name].shape == tensor.shape, name
    # The states are values: a step must not write into those that came before it.
    assert drive(compiled, start, 4)[0].tobytes() == again.tobytes()


@torch.no_grad()
def test_only_the_autoencoder_rounds_to_bfloat16(world: str) -> None:
    rough = WorldModel.from_pretrained(world, dtype="bfloat16", backend="openvino")
    assert rough.network.dtype == rough.autoencoder.latents_mean.dtype == torch.float32
    pictures = torch.rand(1, 3, 4, 40, 64) * 2 - 1
    expected = rough.autoencoder.encode_group(pictures)
    got = rough.engine.codec.encode_group(pictures)
    assert float((got - expected).abs().max() / expected.abs().max()) < 0.03


def test_without_openvino_the_extra_is_named(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sanawm-gym\[fast\]'") as caught:
        WorldModel.from_pretrained(world, backend="openvino")
    assert caught.value.name == "openvino"  # which the command line turns into one clear line


def test_openvino_runs_on_a_cpu_only(world: str) -> None:
    with pytest.raises(ValueError, match="'openvino' with device 'cuda', expected the device"):
        WorldModel.from_pretrained(world, backend="openvino", device="cuda")
