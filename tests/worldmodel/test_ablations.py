"""Networks with parts left out: they still stream exactly, and what is left out has no say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM

NUM_FRAMES = 5
VARIANTS: dict[str, dict[str, Any]] = {
    "no ucpe": {"ucpe": False},
    "no plucker": {"plucker": False},
    "no camera": {"ucpe": False, "plucker": False},
    "all gdn": {"softmax_every_n": 0},
    "all softmax": {"softmax_every_n": 1},
}


def streaming(config: SanaWMConfig, **changes: Any) -> SanaWMConfig:
    return dataclasses.replace(
        config,
        chunk_size=1,
        chunk_split="uniform",
        num_cached_chunks=3,
        shifted_sink=True,
        plucker_first_group="repeat",
        **changes,
    )


def camera_of(scene: Any, config: SanaWMConfig) -> tuple[CameraCondition, torch.Tensor]:
    return moving_camera(scene.raw_poses, scene.intrinsics_px, config=config, **scene.geometry)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_every_variant_is_trained_in_the_form_in_which_it_streams(
    variant: str,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    make_scene: Callable[..., Any],
    relative_error: Callable[..., float],
) -> None:
    network = make_network(streaming(tiny, **VARIANTS[variant]))
    scene = make_scene(network.config, NUM_FRAMES)
    camera, transport = camera_of(scene, network.config)
    text, empty = scene.text(network), network.initial_state(2, 3, 4)
    at_once = network.unroll(scene.x, scene.timestep, text, camera, empty, transport=transport)
    state, before, outputs = empty, [], []
    for i in range(NUM_FRAMES):
        state = state.reanchor(transport[:, i])
        before.append(state)
        velocity, state = network.step(
            scene.x[:, :, i : i + 1], scene.timestep[:, i : i + 1], text,
            camera.frames(i, i + 1), state, update_state=True,
        )  # fmt: skip
        outputs.append(velocity)
    assert relative_error(at_once.velocity, torch.cat(outputs, dim=2)) < 1e-5
    for name, tensor in at_once.states_before.tensors().items():
        rows = torch.stack([one.tensors()[name] for one in before], dim=1).flatten(0, 1)
        torch.testing.assert_close(tensor, rows, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("ucpe", "plucker"), [(False, True), (True, False), (False, False)])
@torch.no_grad()
def test_what_is_left_out_has_no_say_and_what_is_left_has(
    ucpe: bool,
    plucker: bool,
    tiny: SanaWMConfig,
    make_network: Callable[..., SanaWM],
    random_camera: Callable[..., CameraCondition],
    make_scene: Callable[..., Any],
) -> None:
    network = make_network(dataclasses.replace(tiny, ucpe=ucpe, plucker=plucker))
    scene = make_scene(network.config, NUM_FRAMES)
    text = scene.text(network)
    one, other = (random_camera(network.config, 2, NUM_FRAMES, (3, 4), True) for _ in range(2))
    other_rays = dataclasses.replace(other, plucker=one.plucker)
    other_lines = dataclasses.replace(one, plucker=other.plucker)

    def same(camera: CameraCondition) -> bool:
        return torch.equal(*(network(scene.x, scene.timestep, text, c) for c in (one, camera)))

    assert same(other_rays) is not ucpe
    assert same(other_lines) is not plucker


def test_a_variant_has_the_checkpoint_of_the_whole_and_learns_only_what_it_reads(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    whole, part = (make_network(streaming(tiny, ucpe=on, plucker=on)) for on in (True, False))
    part.load_state_dict(whole.state_dict())
    scene = make_scene(part.config, NUM_FRAMES)
    for network in (whole, part):
        camera, transport = camera_of(scene, network.config)
        state = network.initial_state(2, 3, 4)
        network.unroll(
            scene.x, scene.timestep, scene.text(network), camera, state, transport=transport
        ).velocity.square().sum().backward()
    unread = {n for n, p in part.named_parameters() if p.grad is None}
    new = unread - {n for n, p in whole.named_parameters() if p.grad is None}
    assert {name.split(".")[-2] for name in new} == {
        "q_proj_cam", "k_proj_cam", "v_proj_cam", "out_proj_cam", "q_norm_cam", "k_norm_cam",
        "conv_k_cam", "plucker_proj", "proj",
    }  # fmt: skip
    assert {name for name in new if name.endswith(("proj.weight", "proj.bias"))} >= {
        "plucker_embedder.proj.weight", "blocks.0.plucker_proj.bias",
    }  # fmt: skip
