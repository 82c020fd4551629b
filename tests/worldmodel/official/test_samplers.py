"""The released samplers against each other, against closed forms and the project's own ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.flow import euler_sigmas, scheduler_sigmas
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.samplers import Guided, draw_chunk, draw_clip, level_table
from sanawm_gym.worldmodel.official.sampling import (
    BIDIRECTIONAL,
    CHUNK_CAUSAL,
    STREAMING,
    SamplingConfig,
)
from sanawm_gym.worldmodel.sampler import sample_chunk, sample_clip


@pytest.fixture
def unlimited(tiny: SanaWMConfig) -> SanaWMConfig:
    """A network that forgets no chunk: what a whole clip sees, a stream sees too."""
    return dataclasses.replace(tiny, num_layers=2, num_cached_chunks=-1)


def whole_camera(network: SanaWM, scene: Any) -> CameraCondition:
    config = network.config
    return clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)


def stream(
    network: SanaWM, scene: Any, first: Tensor, noises: list[Tensor], sampling: SamplingConfig
) -> Tensor:
    """Draw a clip chunk by chunk."""
    camera, text = whole_camera(network, scene), scene.text(network)
    state = network.initial_state(first.shape[0], *first.shape[-2:])
    parts, start = [], 0
    for size in chunk_sizes(scene.x.shape[2], network.config, "chunk_causal"):
        here = [noise[:, :, start : start + size] for noise in noises]
        x, state = draw_chunk(
            network, here, first if start == 0 else None, text,
            camera.frames(start, start + size), state, sampling,
        )  # fmt: skip
        parts.append(x)
        start += size
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("shift", [9.8, 8.0, 1.0])
@pytest.mark.parametrize("num_steps", [1, 4, 60])
def test_noise_levels_are_the_very_numbers_of_the_scheduler(num_steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(num_steps)
    assert torch.equal(torch.tensor(scheduler_sigmas(num_steps, shift)), scheduler.sigmas)


def test_streaming_timesteps_are_those_of_four_plain_steps_at_shift_8() -> None:
    plain = [round(1000 * sigma) for sigma in euler_sigmas(4, 8.0)]
    assert [*STREAMING.timesteps, 0] == plain


def test_streaming_timesteps_reach_the_network_whole() -> None:
    """It cuts fractions off, and 0.889 is no whole number of anything in float32."""
    levels = torch.tensor([t / 1000 for t in STREAMING.timesteps])
    assert (1000 * levels).trunc().tolist() == list(STREAMING.timesteps)


def test_chunks_begin_one_after_the_other_and_the_first_frame_is_given(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM]
) -> None:
    sampling = dataclasses.replace(CHUNK_CAUSAL, num_steps=4, shift=1.0, interval=0.5)
    table = level_table(10, make_network(tiny), sampling)
    sigmas = torch.tensor(scheduler_sigmas(4, 1.0))
    assert table.shape == (4 + 2 * 2 + 1, 10)
    assert table[:, 0].abs().max() == 0
    assert torch.equal(table[:5, 3], sigmas) and table[5:, 3].abs().max() == 0
    assert torch.equal(table[2:7, 4], sigmas) and bool((table[:3, 4] == 1).all())
    assert torch.equal(table[4:9, 9], sigmas) and bool((table[:5, 7] == 1).all())
    spread = level_table(10, make_network(tiny), dataclasses.replace(sampling, interval=None))
    assert len(spread) == 4 + 4 * 2 // 3 + 1


@torch.no_grad()
def test_bidirectional_clips_are_those_of_the_plain_euler_sampler(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network, scene = make_network(tiny), make_scene(tiny, 5)
    first, camera, text = scene.x[:, :, :1], whole_camera(network, scene), scene.text(network)
    null = network.encode_text(scene.features.flip(1), torch.ones_like(scene.mask))
    sampling = dataclasses.replace(BIDIRECTIONAL, num_steps=3, guidance=2.5)
    seen: list[tuple[int, int]] = []
    got = draw_clip(
        network, first, scene.x + 1, Guided(text=text, null=null), camera, sampling,
        on_step=lambda done, of, x: seen.append((done, of)),
    )  # fmt: skip
    sigmas = scheduler_sigmas(3, sampling.shift)
    expected = sample_clip(network, first, scene.x + 1, sigmas, text, null, camera, guidance=2.5)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(got[:, :, :1], first)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ValueError, match=r"guidance=2\.5 without Guided\.null"):
        draw_clip(network, first, scene.x, Guided(text=text), camera, sampling)


@torch.no_grad()
def test_chunks_drawn_one_by_one_in_a_clip_are_those_of_a_stream(
    unlimited: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    """Finished chunks at level 0 in every call are what the clean pass leaves in the memory."""
    network, scene = make_network(unlimited), make_scene(unlimited, 10, grid=(2, 2), num_clips=1)
    network.final_layer.linear.weight.data *= 10
    first = scene.x[:, :, :1]
    clip = dataclasses.replace(CHUNK_CAUSAL, num_steps=3, guidance=1.0, interval=1.0)
    prompts, camera = Guided(text=scene.text(network)), whole_camera(network, scene)
    expected = draw_clip(network, first, scene.x + 1, prompts, camera, clip)
    timesteps = tuple(1000 * sigma for sigma in scheduler_sigmas(3, clip.shift)[:-1])
    sampling = dataclasses.replace(STREAMING, timesteps=timesteps)
    got = stream(network, scene, first, [scene.x + 1], sampling)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    overlapping = dataclasses.replace(clip, interval=0.4)
    other = draw_clip(network, first, scene.x + 1, prompts, camera, overlapping)
    # Chunk 0 sees nothing later; the others now see a past that is still noisy.
    torch.testing.assert_close(other[:, :, :4], expected[:, :, :4], atol=1e-4, rtol=1e-4)
    assert (other - expected)[:, :, 4:].abs().max() > 1e-3


@pytest.mark.parametrize("sink_length", ["first_chunk", "first_frame"])
@torch.no_grad()
def test_a_stream_forgets_all_but_its_window(
    sink_length: Any,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
) -> None:
    """Window and sink of the release: what lies between no longer moves softmax attention."""
    config = dataclasses.replace(tiny, num_layers=2, sink_length=sink_length)
    network = make_network(config)
    scene = make_scene(config, 13, grid=(2, 2), num_clips=1)
    first = scene.x[:, :, :1]
    sampling = dataclasses.replace(STREAMING, timesteps=(1000.0, 727.0))
    window = stream(network, scene, first, [scene.x], sampling)
    everything = make_network(dataclasses.replace(config, num_cached_chunks=-1))
    full = stream(everything, scene, first, [scene.x], sampling)
    # Sink and one chunk are all there is until the third chunk.
    same = 7 if sink_length == "first_frame" else 10
    torch.testing.assert_close(window[:, :, :same], full[:, :, :same], atol=1e-4, rtol=1e-3)
    assert (window - full)[:, :, same:].abs().max() > 1e-4


@torch.no_grad()
def test_fresh_noise_is_the_other_way_to_the_next_level(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network, scene = make_network(tiny), make_scene(tiny, 4)
    camera, text = whole_camera(network, scene), scene.text(network)
    state = network.initial_state(2, *scene.x.shape[-2:])
    noises = [torch.randn(scene.x.shape) for _ in STREAMING.timesteps]
    sampling = dataclasses.replace(STREAMING, next_level="fresh_noise")
    got, after = draw_chunk(network, noises, None, text, camera, state, sampling)
    sigmas = [t / 1000 for t in STREAMING.timesteps]
    expected = sample_chunk(network, noises, sigmas, text, camera, state)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    _, remembered = network.remember(got, text, camera, state)
    assert all(torch.equal(after.tensors()[k], t) for k, t in remembered.tensors().items())
    along, _ = draw_chunk(network, noises, None, text, camera, state, STREAMING)
    assert (along - got).abs().max() > 1e-2
    with pytest.raises(ValueError, match="got 1 noises for 4 timesteps"):
        draw_chunk(network, noises[:1], None, text, camera, state, sampling)


@pytest.mark.parametrize(
    "wrong",
    [{"shift": 0.0}, {"guidance": 0.5}, {"timesteps": (960.0, 1000.0)},
     {"timesteps": (1000.0, 0.0)}, {"interval": 0.0},
     {"solver": "flow_dpm-solver", "mode": "streaming"}],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingConfig(**wrong)
