"""A student draws while it is trained exactly what it draws when it is driven."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sanawm_gym.train_wm.clip_path import ClipPath
from sanawm_gym.train_wm.frames import to_bytes, to_signed
from sanawm_gym.train_wm.latent_clips import LatentClip, load_latent_clips
from sanawm_gym.train_wm.latents_stage import load_autoencoder
from sanawm_gym.train_wm.student_stream import StudentStream, check_sigmas
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.noise import row_noise
from sanawm_gym.worldmodel.world import WorldConfig, WorldModel
from tests.train_wm.conftest import TINY_NETWORK, TINY_RELEASED, rough_weights

PICTURE = (72, 128)
SIGMAS = (1.0, 0.8, 0.5)


@pytest.fixture(scope="module")
def clips(latents: Path) -> list[LatentClip]:
    return load_latent_clips(latents)[0][:2]


def weights_of(model: SanaWMConfig, clips: Sequence[LatentClip]) -> WorldWeights:
    return rough_weights(model, [clip.caption for clip in clips]).eval()


def draw(
    model: SanaWMConfig, clips: Sequence[LatentClip], autoencoder: Path, noises: Tensor
) -> Tensor:
    """Latents drawn from the clips' first frames, the last level with gradients."""
    weights = weights_of(model, clips)
    num_latents = noises.shape[3]
    origin = "moving" if model.chunk_size == 1 else "first"
    stream = StudentStream(weights.network, load_autoencoder(autoencoder), origin)
    first = torch.stack([clip.latents[:1].float() for clip in clips]).transpose(1, 2)
    return stream.draw(
        first,
        noises,
        SIGMAS[: len(noises)],
        weights.text([clip.caption for clip in clips]),
        ClipPath.of(clips, num_latents, 4, PICTURE),
    ).latents


def test_a_student_draws_what_the_world_around_it_draws(
    clips: list[LatentClip], autoencoder: Path
) -> None:
    weights, see = weights_of(TINY_NETWORK, clips), load_autoencoder(autoencoder)
    world = WorldModel(WorldConfig(sigmas=SIGMAS), weights.network, see, weights.text_encoder)
    captions, num_latents = [clip.caption for clip in clips], 4
    path = ClipPath.of(clips, num_latents, 4, PICTURE)
    truth = torch.stack([clip.latents[:1].float() for clip in clips]).transpose(1, 2)
    pictures = np.stack([to_bytes(frames) for frames in see.decode(truth)])
    first = see.encode(torch.stack([to_signed(one) for one in pictures]))
    seeds = torch.tensor([3, 4])
    state = world.start(
        pictures,
        prompts=captions,
        intrinsics=path.intrinsics.numpy(),
        seeds=seeds.tolist(),
        poses=path.poses[:, :1].numpy(),
    )
    expected = [first]
    noises = torch.zeros(len(SIGMAS), 2, 4, num_latents, 9, 16)
    for step in range(num_latents - 1):
        steps = torch.tensor([step, step])
        for level in range(len(SIGMAS)):
            noise = row_noise(seeds, steps, level, (4, 1, 9, 16))
            noises[level][:, :, step + 1 : step + 2] = noise
        _, state = world.step(state, path.poses[:, 4 * step + 1 : 4 * step + 5].numpy())
        expected.append(state.latent[:, :, None])
    stream = StudentStream(weights.network, see, "moving")
    with torch.no_grad():
        found = stream.draw(first, noises, SIGMAS, weights.text(captions), path)
    assert found.shown is not None
    brightest = found.shown.abs().amax(dim=(1, 3, 4))
    assert float(brightest[:, 0].max()) == 0.0
    assert float(brightest[:, 1:].min()) > 0.0
    assert torch.allclose(found.latents, torch.cat(expected, dim=2), atol=2e-4)


@pytest.mark.parametrize("model", [TINY_NETWORK, TINY_RELEASED])
def test_only_the_last_level_of_a_chunk_has_a_gradient_and_the_past_has_none(
    model: SanaWMConfig, clips: list[LatentClip], autoencoder: Path
) -> None:
    noises = [torch.randn(2, 4, 7, 9, 16, requires_grad=True) for _ in SIGMAS]
    drawn = draw(model, clips, autoencoder, torch.stack(noises))
    drawn[:, :, -1].sum().backward()
    grads = [noise.grad for noise in noises]
    assert all(grad is not None for grad in grads)
    before, last = grads[:-1], grads[-1]
    assert all(float(grad.abs().max()) == 0.0 for grad in before if grad is not None)
    assert last is not None
    start = 7 - model.chunk_size
    assert float(last[:, :, :start].abs().max()) == 0.0
    assert float(last[:, :, start:].abs().amax(dim=(0, 1, 3, 4)).min()) > 0.0


@pytest.mark.parametrize("model", [TINY_NETWORK, TINY_RELEASED])
def test_the_given_frame_stays_and_later_chunks_hang_on_earlier_ones(
    model: SanaWMConfig, clips: list[LatentClip], autoencoder: Path
) -> None:
    noises = torch.randn(1, 2, 4, 7, 9, 16)
    changed = noises.clone()
    changed[:, :, :, 2] += 1.0
    with torch.no_grad():
        first, second = (draw(model, clips, autoencoder, one) for one in (noises, changed))
    truth = torch.stack([clip.latents[:1].float() for clip in clips]).transpose(1, 2)
    assert torch.equal(first[:, :, :1], truth)
    gaps = (first - second).abs().amax(dim=(0, 1, 3, 4))
    assert float(gaps[0]) == 0.0
    assert float(gaps[4:].min()) > 0.0


def test_chunks_of_one_frame_have_the_cameras_of_the_moving_origin(
    clips: list[LatentClip],
) -> None:
    path = ClipPath.of(clips, 5, 4, PICTURE)
    expected, transport = path.moving(TINY_NETWORK)
    for index, chunk in enumerate(path.chunks(TINY_NETWORK, "moving")):
        wanted = expected.frames(index, index + 1)
        assert torch.allclose(chunk.camera.world_from_camera, wanted.world_from_camera, atol=1e-6)
        assert chunk.camera.plucker is not None and wanted.plucker is not None
        assert torch.allclose(chunk.camera.plucker, wanted.plucker, atol=1e-6)
        if chunk.transport is not None:
            assert torch.allclose(chunk.transport, transport[:, index], atol=1e-9)


def test_chunks_in_the_first_origin_add_up_to_the_cameras_of_the_clip(
    clips: list[LatentClip],
) -> None:
    path = ClipPath.of(clips, 10, 4, PICTURE)
    chunks = path.chunks(TINY_RELEASED, "first")
    assert [chunk.stop - chunk.start for chunk in chunks] == [4, 3, 3]
    whole = path.whole(TINY_RELEASED)
    assert whole.plucker is not None
    for chunk in chunks:
        wanted = whole.frames(chunk.start, chunk.stop)
        assert torch.allclose(chunk.camera.world_from_camera, wanted.world_from_camera, atol=1e-5)
        assert chunk.camera.plucker is not None and wanted.plucker is not None
        assert torch.allclose(chunk.camera.plucker, wanted.plucker, atol=1e-5)


def test_what_cannot_be_drawn_is_refused(clips: list[LatentClip]) -> None:
    path = ClipPath.of(clips, 5, 4, PICTURE)
    with pytest.raises(ValueError, match="uniform chunks of 1"):
        path.chunks(replace(TINY_NETWORK, chunk_size=3), "first")
    for sigmas in ((), (0.9, 0.5), (1.0, 0.5, 0.5), (1.0, 0.0)):
        with pytest.raises(ValueError, match=r"must fall from 1\.0"):
            check_sigmas(sigmas)
