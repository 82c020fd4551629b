"""The network against an independent implementation, `diffusers.SanaWMTransformer3DModel`.

diffusers casts q, k and v of softmax blocks to bfloat16 before the attention product, even in a
float32 model; that is a choice of kernels, not of the model, and would hide everything below 1e-2.
So the reference runs with that one cast turned off (`Tensor.bfloat16` returns its argument), and
stacks without softmax blocks are compared against it as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.config import DRIVE, SANA_WM_2B6, SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM

AS_IN_DIFFUSERS = {"ucpe_rms_clamp_gdn": True, "ucpe_rms_clamp_softmax": True, "camera_unit_m": 1.0}


def reference_of(config: SanaWMConfig, seed: int = 0) -> SanaWMTransformer3DModel:
    torch.manual_seed(seed)
    reference = SanaWMTransformer3DModel(
        in_channels=config.in_channels,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        linear_head_dim=config.head_dim,
        softmax_every_n=config.softmax_every_n,
        chunk_plucker_channels=config.plucker_channels,
        caption_channels=config.caption_channels,
    )
    for name, parameter in reference.named_parameters():
        size = 0.3 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn_like(parameter) * size + (1.0 if "norm" in name else 0.0)
    return reference


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("camera", ["none", "rays", "rays and lines"])
@pytest.mark.parametrize("softmax_every_n", [0, 2])
def test_forward_equals_diffusers(
    seed: int,
    camera: str,
    softmax_every_n: int,
    tiny: SanaWMConfig,
    random_camera: Callable[..., CameraCondition],
    relative_error: Callable[..., float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    width, heads = [(64, 2), (120, 3), (144, 2)][seed]
    config = dataclasses.replace(
        tiny,
        hidden_size=width,
        num_attention_heads=heads,
        softmax_every_n=softmax_every_n,
        **AS_IN_DIFFUSERS,
    )
    num_clips, num_frames, grid = [(2, 5, (3, 7)), (1, 1, (5, 3)), (2, 24, (1, 3))][seed]
    reference = reference_of(config, seed)
    network = SanaWM(config)
    network.load_state_dict(reference.state_dict(), strict=True)
    x = torch.randn(num_clips, config.in_channels, num_frames, *grid)
    timestep = torch.rand(num_clips, num_frames) * 1000
    text = torch.randn(num_clips, 6, config.caption_channels)
    mask = torch.ones(num_clips, 6, dtype=torch.bool)
    mask[0, 4:] = False
    condition = None
    arguments: dict[str, Any] = {}
    if camera != "none":
        condition = random_camera(config, num_clips, num_frames, grid, camera == "rays and lines")
        pose = condition.world_from_camera.flatten(2)
        arguments["camera_conditions"] = torch.cat([pose, condition.intrinsics], dim=-1)
        arguments["chunk_plucker"] = condition.plucker
    if softmax_every_n:
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)
    with torch.no_grad():
        expected = reference(
            x, timestep[:, None], text[:, None], encoder_attention_mask=mask, **arguments
        ).sample
        got = network(x, timestep, network.encode_text(text, mask), condition)
    assert relative_error(got, expected) < 1e-5


def test_state_dict_loads_strictly_both_ways(tiny: SanaWMConfig) -> None:
    reference, network = reference_of(tiny), SanaWM(tiny)
    network.load_state_dict(reference.state_dict(), strict=True)
    reference.load_state_dict(SanaWM(tiny).state_dict(), strict=True)


def test_released_preset_has_the_released_names_shapes_and_size() -> None:
    with torch.device("meta"):
        network, reference = SanaWM(SANA_WM_2B6), SanaWMTransformer3DModel()
    assert sum(p.numel() for p in network.parameters()) == 2_661_800_448
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in reference.state_dict().items()}


def test_original_layout_keeps_the_null_caption_buffer(tiny: SanaWMConfig) -> None:
    config = dataclasses.replace(tiny, null_caption_buffer=True, text_length=9)
    buffer = SanaWM(config).state_dict()["y_embedder.y_embedding"]
    assert buffer.shape == (9, config.caption_channels)


def test_bundled_preset_is_small() -> None:
    with torch.device("meta"):
        network = SanaWM(DRIVE)
    assert 3_000_000 < sum(p.numel() for p in network.parameters()) < 6_000_000
