"""The second solver, guidance in a stream, lenses that zoom: each against somebody else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.pipelines.sana_wm import cam_utils

from sanawm_gym.worldmodel.camera_condition import clip_camera, stream_camera
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.flow import scheduler_sigmas
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.dpm_solver import DpmSolver, flow_levels
from sanawm_gym.worldmodel.official.samplers import Guided, Unguided, draw_chunk, draw_clip
from sanawm_gym.worldmodel.official.sampling import BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING

from .conftest import RELEASED


def scheduler_of(num_steps: int, shift: float) -> DPMSolverMultistepScheduler:
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(num_steps)
    return scheduler


@pytest.mark.parametrize(("num_steps", "shift"), [(1, 9.8), (2, 9.8), (7, 3.0), (20, 9.8)])
def test_its_steps_are_those_of_diffusers(num_steps: int, shift: float) -> None:
    scheduler, levels = scheduler_of(num_steps, shift), flow_levels(num_steps, shift)
    torch.testing.assert_close(torch.tensor(levels), scheduler.sigmas, atol=1e-6, rtol=0)
    solver, x = DpmSolver(levels), torch.randn(3, 5, dtype=torch.float64)
    expected, bend = x.clone(), torch.randn(5, 5, dtype=torch.float64)
    for i, timestep in enumerate(scheduler.timesteps):
        v, other = torch.tanh(x @ bend) + levels[i], torch.tanh(expected @ bend) + levels[i]
        x = solver.step(x, x - levels[i] * v, i)
        expected = scheduler.step(other, timestep, expected, return_dict=False)[0]
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_clips_by_the_second_solver_are_those_of_its_scheduler(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network, scene = make_network(tiny), make_scene(tiny, 4)
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=tiny, **scene.geometry)
    text, first = scene.text(network), scene.x[:, :, :1]
    sampling = dataclasses.replace(
        BIDIRECTIONAL, num_steps=4, guidance=1.0, solver="flow_dpm-solver"
    )
    got = draw_clip(network, first, scene.x + 1, Guided(text=text), camera, sampling)
    scheduler, x = scheduler_of(4, sampling.shift), torch.cat([first, scene.x[:, :, 1:] + 1], dim=2)
    for timestep in scheduler.timesteps:
        level = timestep.float().expand(x.shape[0], x.shape[2]).clone()
        level[:, 0] = 0
        v = network(x, level, text, camera)
        x = scheduler.step(v, timestep, x, return_dict=False)[0]
        x[:, :, :1] = first
    torch.testing.assert_close(got, x, atol=1e-4, rtol=1e-4)
    euler = dataclasses.replace(sampling, solver="euler")
    other = draw_clip(network, first, scene.x + 1, Guided(text=text), camera, euler)
    assert (other - got).abs().max() > 1e-3


@torch.no_grad()
def test_a_guided_stream_that_forgets_nothing_is_the_guided_clip(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    """Finished chunks at level 0, under either prompt, are what either memory holds."""
    config = dataclasses.replace(tiny, num_layers=2, num_cached_chunks=-1)
    network, scene = make_network(config), make_scene(config, 7, grid=(2, 2), num_clips=1)
    network.final_layer.linear.weight.data *= 10
    camera = clip_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)
    text, first = scene.text(network), scene.x[:, :, :1]
    null = network.encode_text(scene.features.flip(1), torch.ones_like(scene.mask))
    clip = dataclasses.replace(CHUNK_CAUSAL, num_steps=3, guidance=2.5, interval=1.0)
    prompts = Guided(text=text, null=null)
    expected = draw_clip(network, first, scene.x + 1, prompts, camera, clip)
    timesteps = tuple(1000 * sigma for sigma in scheduler_sigmas(3, clip.shift)[:-1])
    sampling = dataclasses.replace(STREAMING, timesteps=timesteps, guidance=2.5)
    state = empty = network.initial_state(1, 2, 2)
    start, parts = 0, []
    for size in chunk_sizes(7, config, "chunk_causal"):
        part, here = camera.frames(start, start + size), scene.x[:, :, start : start + size] + 1
        unguided = Unguided(text=null, state=empty)
        given = first if start == 0 else None
        x, state = draw_chunk(network, [here], given, text, part, state, sampling, unguided)
        _, empty = network.remember(x, null, part, empty)
        parts.append(x)
        start += size
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"guidance=2\.5 without an unguided memory"):
        draw_chunk(network, [here], None, text, part, state, sampling)


def test_lenses_that_zoom_are_told_as_in_the_pipeline(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(RELEASED, 3, grid=(2, 3), num_clips=1)
    num_frames = scene.raw_poses.shape[1]
    lens = torch.tensor([80.0, 75.0, 50.0, 30.0], dtype=torch.float64)
    lenses = lens.repeat(1, num_frames, 1)
    geometry: dict[str, Any] = {"image_size": (64, 96), "grid": (2, 3), "config": RELEASED}
    still, same = (clip_camera(scene.raw_poses, x, **geometry) for x in (lens[None], lenses))
    assert still.plucker is not None and same.plucker is not None
    assert torch.equal(same.plucker, still.plucker)
    assert torch.equal(same.intrinsics, still.intrinsics)
    lenses[..., :2] *= torch.linspace(1.0, 1.5, num_frames, dtype=torch.float64)[:, None]
    relative = torch.linalg.inv(scene.raw_poses[:, :1].double()) @ scene.raw_poses.double()
    zoomed = clip_camera(relative, lenses, **geometry)
    theirs = cam_utils.prepare_camera(
        relative[0].numpy(), lenses[0].numpy(), target_size=(64, 96), vae_stride=(8, 32, 32)
    )
    assert zoomed.plucker is not None
    torch.testing.assert_close(zoomed.plucker[0], theirs["chunk_plucker"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(zoomed.intrinsics[0], theirs["raymap"][:, 16:], atol=1e-5, rtol=1e-5)
    later = stream_camera(relative[:, 1:], lenses[:, 1:], **geometry)
    assert later.plucker is not None
    torch.testing.assert_close(later.plucker, zoomed.plucker[:, :, 1:])
    torch.testing.assert_close(later.intrinsics, zoomed.intrinsics[:, 1:])
