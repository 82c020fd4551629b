"""Every point on which the published sources differ: a switch by name, tested both ways."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sanawm_gym.worldmodel.camera_condition import clip_camera
from sanawm_gym.worldmodel.config import SANA_WM_2B6, SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.layout import Layout
from sanawm_gym.worldmodel.official.settings import FORMULAS, read_settings
from sanawm_gym.worldmodel.softmax_attention import SoftmaxAttention
from sanawm_gym.worldmodel.state import window_valid

SWITCHES: dict[str, tuple[Any, Any]] = {
    "ucpe_rms_clamp_gdn": (False, True),
    "ucpe_rms_clamp_softmax": (False, True),
    "softmax_camera_scale": ("head_dim", "padded"),
    "softmax_main_scale": ("head_dim", "padded"),
    "key_scale_mode": ("dim_spatial", "dim"),
    "rope_dtype": ("float32", "float64"),
    "denominator_eps": (1e-8, 1e-15),
    "plucker_first_group": ("lookahead", "repeat"),
}
"""Names and two published values; `sink_length` speaks only in streams and has its own tests."""
LEAST = {"rope_dtype": 1e-8, "denominator_eps": 0.0}
"""What a switch changes at least, where it is not far above rounding."""


def velocity(config: SanaWMConfig, make_network: Any, make_scene: Any) -> torch.Tensor:
    network = make_network(config)
    # A tiny mass shows the constant beside it.
    for block in network.blocks[:1]:
        block.attn.k_norm.weight.data *= 1e-4
    scene = make_scene(config, 5, metres=3.0)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    with torch.no_grad():
        return network(scene.x, scene.timestep, scene.text(network), camera)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_what_the_network_computes(
    name: str,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
) -> None:
    # Heads of 24 channels: padded, they would be 128 wide.
    base = dataclasses.replace(
        tiny, hidden_size=48, num_layers=2, camera_unit_m=1.0, rope_dtype="float32"
    )
    values = SWITCHES[name]
    one, other = (
        velocity(dataclasses.replace(base, **{name: value}), make_network, make_scene)
        for value in values
    )
    assert one.isfinite().all() and other.isfinite().all()
    assert (one - other).abs().max() > LEAST.get(name, 1e-5)


def test_every_switch_is_a_documented_field() -> None:
    described = SanaWMConfig.__doc__ or ""
    for name in [*SWITCHES, "sink_length"]:
        assert f"        {name}: " in described


@pytest.mark.parametrize(("scale", "size"), [("head_dim", 112), ("padded", 128)])
def test_scales_of_the_released_heads(scale: Any, size: int) -> None:
    config = dataclasses.replace(SANA_WM_2B6, softmax_main_scale=scale, softmax_camera_scale=scale)
    with torch.device("meta"):
        attention = SoftmaxAttention(config)
    assert attention.main_scale == attention.camera_scale == 1 / math.sqrt(size)


@pytest.mark.parametrize("length", ["first_chunk", "first_frame"])
def test_the_window_shows_the_sink_and_what_followed_it(length: Any) -> None:
    """Slots of [sink | three newest latents] after 0, 1, 2 chunks of 4, 3, 3 latents."""
    config = dataclasses.replace(SANA_WM_2B6, sink_length=length)
    sink = config.sink_frames
    assert sink == (4 if length == "first_chunk" else 1)
    shown = window_valid(torch.arange(3), sink + 3, config).int().tolist()
    # The sink shows all of the first chunk, or its first latent, and the window the other three.
    after_one = [0, 0, 0] if length == "first_chunk" else [1, 1, 1]
    assert shown == [[0] * (sink + 3), [1] * sink + after_one, [1] * (sink + 3)]


def test_each_implementation_has_its_bundle_of_switches(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "SanaWMTransformer3DModel"}')
    layout = Layout(kind="diffusers", folder=tmp_path, weights=(), config=tmp_path / "config.json")
    read = {name: read_settings(layout, {}, name).network for name in FORMULAS}  # type: ignore[arg-type]
    assert all(config == dataclasses.replace(SANA_WM_2B6, **FORMULAS[name])
               for name, config in read.items())  # fmt: skip
    assert len({tuple(dataclasses.astuple(config)) for config in read.values()}) == len(FORMULAS)
    assert read["diffusers"].ucpe_rms_clamp_gdn and not read["new_release"].ucpe_rms_clamp_gdn
    assert read["new_release"].softmax_camera_scale == "head_dim"
    assert read["first_streaming"].softmax_main_scale == "padded"


def test_a_constant_below_zero_is_refused(tiny: SanaWMConfig) -> None:
    with pytest.raises(ValueError, match="denominator_eps"):
        dataclasses.replace(tiny, denominator_eps=0.0)
