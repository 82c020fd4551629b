"""The released world end to end against `diffusers.SanaWMPipeline`, on tiny random parts.

As in `test_diffusers_parity`, the one cast to bfloat16 that diffusers makes in softmax blocks even
of a float32 model is turned off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.sana_wm.pipeline_sana_wm import DEFAULT_CHI_PROMPT, SanaWMPipeline
from PIL import Image

from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld, Opening
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.official.sampling import INSTRUCTION, STREAMING, SamplingConfig
from sanawm_gym.worldmodel.official.text import GemmaText

from .components import SIZE, TEXT_WIDTH, autoencoder, gemma2, tokenizer
from .conftest import RELEASED, reference_network, write_streaming

LINES = ("Say more.", "User Prompt: ")
PROMPT, NEGATIVE = "a dry road at noon", "blur"
LENS = np.array([[80.0, 75.0, 50.0, 30.0]])
NETWORK = dataclasses.replace(RELEASED, in_channels=8, caption_channels=TEXT_WIDTH)
CONFIG = OfficialConfig(
    dtype="float32",
    height=SIZE[0],
    width=SIZE[1],
    formulas="diffusers",
    sampling=SamplingConfig(
        num_steps=4,
        shift=7.0,
        guidance=3.0,
        negative_prompt=NEGATIVE,
        instruction=LINES,
        max_tokens=30,
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A release as diffusers saves it, with the streaming layout of the same network beside."""
    root = tmp_path_factory.mktemp("release")
    network = reference_network(NETWORK)
    pipeline = SanaWMPipeline(
        tokenizer=tokenizer(), text_encoder=gemma2(), vae=autoencoder(), transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip
    pipeline.save_pretrained(root / "diffusers")
    write_streaming(root / "streaming", network)
    autoencoder().save_pretrained(root / "streaming" / "ltx2_causal_vae")
    yield root


@pytest.fixture(scope="module")
def theirs(folder: Path) -> SanaWMPipeline:
    pipeline = SanaWMPipeline.from_pretrained(folder / "diffusers")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def path_of(num_frames: int) -> np.ndarray:
    """A camera that walks, turns and climbs, and does not begin at the origin."""
    turn = 0.03 * np.arange(num_frames) + 0.4
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, 0, 0], poses[:, 0, 2] = np.cos(turn), np.sin(turn)
    poses[:, 2, 0], poses[:, 2, 2] = -np.sin(turn), np.cos(turn)
    poses[:, :3, 3] = 0.05 * np.cumsum(np.ones((num_frames, 3)) * [1.0, 0.2, 3.0], axis=0)
    return poses[None]


def picture() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)


def opening(seed: int = 5) -> Opening:
    return Opening(images=picture(), prompts=[PROMPT], intrinsics=LENS, seeds=[seed])


def test_latents_after_all_steps_are_those_of_the_pipeline(
    folder: Path, theirs: SanaWMPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)
    poses = path_of(17)
    expected = theirs(
        Image.fromarray(picture()[0]), PROMPT, c2w=poses[0], intrinsics=LENS[0], height=SIZE[0],
        width=SIZE[1], num_frames=17, num_inference_steps=4, guidance_scale=3.0,
        negative_prompt=NEGATIVE, generator=torch.Generator().manual_seed(5),
        max_sequence_length=30, chi_prompt=list(LINES), output_type="latent",
    ).frames  # fmt: skip
    world = OfficialWorld.from_pretrained(folder / "diffusers", CONFIG)
    got = world.draw_latents(opening(), poses)
    assert got.shape == (1, 8, 3, 2, 3)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)
    shown = theirs._decode_latents(expected).clamp(-1, 1)
    pixels = world.generate(opening(), poses)
    difference = (torch.tensor(pixels).permute(0, 4, 1, 2, 3) / 127.5 - 1 - shown).abs()
    assert difference.max() < 1.5 / 127.5


@pytest.mark.parametrize("prompt", ["", PROMPT, "many words " * 9])
def test_prompts_are_encoded_as_in_the_pipeline(prompt: str, theirs: SanaWMPipeline) -> None:
    text = GemmaText(theirs.tokenizer, theirs.text_encoder.model, instruction=LINES, max_tokens=30)
    cond, cond_mask, null, null_mask = theirs.encode_prompt(
        prompt, NEGATIVE, device=torch.device("cpu"), max_sequence_length=30, chi_prompt=list(LINES)
    )
    features, mask = text.encode([prompt])
    assert features.shape == (1, 30, TEXT_WIDTH)
    assert torch.equal(mask, cond_mask.bool())
    torch.testing.assert_close(features[mask], cond[:, 0][mask], atol=1e-5, rtol=1e-5)
    features, mask = text.encode_negative([NEGATIVE])
    assert torch.equal(mask, null_mask.bool())
    torch.testing.assert_close(features[mask], null[:, 0][mask], atol=1e-5, rtol=1e-5)


def test_the_instruction_is_that_of_the_release() -> None:
    assert list(INSTRUCTION) == DEFAULT_CHI_PROMPT


@pytest.fixture(scope="module")
def stream_world(folder: Path) -> OfficialWorld:
    sampling = dataclasses.replace(
        STREAMING, timesteps=(1000.0, 727.0), instruction=LINES, max_tokens=30
    )
    config = dataclasses.replace(
        CONFIG, sampling=sampling, formulas="first_release", text=str(folder / "diffusers")
    )
    return OfficialWorld.from_pretrained(folder / "streaming", config)


def started(world: OfficialWorld, poses: np.ndarray, seed: int = 5, rows: int = 1) -> Any:
    return world.start(
        np.repeat(picture(), rows, axis=0),
        prompts=[PROMPT] * rows,
        intrinsics=np.repeat(LENS, rows, axis=0),
        seeds=list(range(seed, seed + rows)),
        poses=np.repeat(poses[:, :1], rows, axis=0),
    )


def test_a_stream_draws_step_by_step_what_a_clip_holds(stream_world: OfficialWorld) -> None:
    poses = path_of(49)
    assert stream_world.frames_per_step == 24
    whole = stream_world.generate(opening(), poses)
    state = started(stream_world, poses)
    first, after = stream_world.step(state, poses[:, 1:25])
    second, last = stream_world.step(after, poses[:, 25:])
    assert whole.shape == (1, 49, *SIZE, 3)
    drawn = np.concatenate([first, second], axis=1).astype(int)
    assert np.abs(drawn - whole[:, 1:]).max() <= 1
    again, _ = stream_world.step(after, poses[:, 25:])
    assert np.array_equal(again, second)
    assert after.num_bytes == last.num_bytes and last.steps.tolist() == [2]


def test_a_stream_zooms_and_is_guided_step_by_step_as_in_a_clip(
    stream_world: OfficialWorld,
) -> None:
    sampling = dataclasses.replace(stream_world.sampling, guidance=2.0, negative_prompt=NEGATIVE)
    world = OfficialWorld(stream_world.parts, sampling, stream_world.config)
    poses, lenses = path_of(49), np.tile(LENS[:, None], (1, 49, 1))
    lenses[..., :2] *= np.linspace(1.0, 1.4, 49)[:, None]
    zoomed = dataclasses.replace(opening(), intrinsics=lenses)
    whole = world.generate(zoomed, poses)
    first, after = world.step(started(world, poses), poses[:, 1:25], lenses[:, 1:25])
    second, last = world.step(after.select([0, 0]), np.repeat(poses[:, 25:], 2, axis=0),
                              np.repeat(lenses[:, 25:], 2, axis=0))  # fmt: skip
    drawn = np.concatenate([first, second[1:]], axis=1).astype(int)
    assert np.abs(drawn - whole[:, 1:]).max() <= 1
    assert last.null_network is not None and last.batch_size == 2
    assert torch.equal(last.intrinsics[0], torch.tensor(lenses[0, -1]))
    # Neither the lens nor the guidance is without effect.
    for other in (world.generate(opening(), poses), stream_world.generate(zoomed, poses)):
        assert np.abs(other.astype(int) - whole).max() > 4
    with pytest.raises(ValueError, match="fields of view of 25 to 120 degrees; zoom less"):
        world.step(after, poses[:, 25:], 9 * lenses[:, 25:])
    with pytest.raises(ValueError, match=r"got shape \(1, 24, 4\), expected \(1, 49, 4\)"):
        world.generate(dataclasses.replace(zoomed, intrinsics=lenses[:, 25:]), poses)


def test_bfloat16_draws_about_the_same(folder: Path, stream_world: OfficialWorld) -> None:
    config = dataclasses.replace(stream_world.config, dtype="bfloat16")
    half = OfficialWorld.from_pretrained(folder / "streaming", config)
    poses = path_of(25)
    exact, rough = (
        world.step(started(world, poses), poses[:, 1:])[0].astype(float)
        for world in (stream_world, half)
    )
    assert np.abs(exact - rough).mean() < 0.1 * exact.std()


def test_rows_of_a_stream_can_be_forked_and_joined(stream_world: OfficialWorld) -> None:
    poses = path_of(25)
    both = started(stream_world, poses, rows=2)
    frames, after = stream_world.step(both, np.repeat(poses[:, 1:], 2, axis=0))
    alone, _ = stream_world.step(both.select([1]), poses[:, 1:])
    assert np.abs(alone[0].astype(int) - frames[1]).max() <= 1
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 8
    joined = type(after).concat([after.select([1]), after.select([0])])
    assert torch.equal(joined.latent, after.latent.flip(0))
    with pytest.raises(ValueError, match="expected all of them or none to have begun"):
        type(after).concat([after, both])


def test_what_cannot_be_drawn_is_refused_before_anything_is_computed(
    folder: Path, stream_world: OfficialWorld
) -> None:
    poses = path_of(25)
    with pytest.raises(ValueError, match="got 18 poses a row, expected a multiple of 24"):
        stream_world.generate(opening(), poses[:, :18])
    with pytest.raises(ValueError, match="poses have shape"):
        stream_world.step(started(stream_world, poses), poses[:, 1:9])
    with pytest.raises(ValueError, match="fit_image"):
        cut = dataclasses.replace(opening(), images=picture()[:, :32])
        stream_world.generate(cut, poses)
    with pytest.raises(ValueError, match="autoencoder of 4 channels for a network that reads 8"):
        narrow = Ltx2Autoencoder(autoencoder(channels=4))
        OfficialWorld(
            dataclasses.replace(stream_world.parts, autoencoder=narrow), STREAMING, CONFIG
        )
    with pytest.raises(ValueError, match="expected multiples of 32 px"):
        OfficialWorld(
            stream_world.parts, stream_world.sampling, dataclasses.replace(CONFIG, height=70)
        )
    with pytest.raises(ValueError, match="expected a streaming one"):
        started(OfficialWorld(stream_world.parts, CONFIG.sampling or STREAMING, CONFIG), poses)
    with pytest.raises(ValueError, match="has no refiner"):
        OfficialWorld.from_pretrained(
            folder / "diffusers", dataclasses.replace(CONFIG, refine="blocks")
        )
    with pytest.raises(ValueError, match="has no autoencoder"):
        (folder / "streaming" / "ltx2_causal_vae").rename(folder / "streaming" / "away")
        OfficialWorld.from_pretrained(folder / "streaming", CONFIG)


def test_offloaded_parts_draw_the_same(folder: Path) -> None:
    poses = path_of(9)
    resident = OfficialWorld.from_pretrained(folder / "diffusers", CONFIG)
    waiting = OfficialWorld.from_pretrained(
        folder / "diffusers", dataclasses.replace(CONFIG, offload="blocks")
    )
    expected = resident.draw_latents(opening(), poses)
    assert torch.equal(waiting.draw_latents(opening(), poses), expected)
    assert waiting.parts.offload is not None and waiting.parts.offload.most_present == 1
