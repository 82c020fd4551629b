"""The released refiner end to end against `diffusers.SanaWMLTX2Refiner`, on tiny random parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner
from safetensors.torch import load_file, save_file
from torch import Tensor

from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld, Opening
from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.official.offload import BlockOffload
from sanawm_gym.worldmodel.official.parts import OfficialParts
from sanawm_gym.worldmodel.official.refine import (
    load_refiner_text,
    load_released_refiner,
    refiner_folder,
)
from sanawm_gym.worldmodel.official.refiner_text import Gemma3Text
from sanawm_gym.worldmodel.official.sampling import STREAMING, SamplingConfig
from sanawm_gym.worldmodel.official.text import GemmaText
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.sampler import refine_at_once, refine_clip

from .components import GRID, SIZE, TEXT_WIDTH, autoencoder, gemma2, tokenizer, write_refiner
from .conftest import RELEASED
from .test_pipeline import LENS, PROMPT, path_of, picture

NUM_TOKENS, FPS = 32, 16.0


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose `refiner/` is as diffusers saves it."""
    folder = tmp_path_factory.mktemp("release")
    write_refiner(folder / "refiner", num_tokens=NUM_TOKENS)
    return folder


@pytest.fixture(scope="module")
def theirs(release: Path) -> SanaWMLTX2Refiner:
    pipeline = SanaWMLTX2Refiner.from_pretrained(release / "refiner", vae=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(release: Path) -> tuple[Refiner, Gemma3Text]:
    folder = refiner_folder(release)
    refiner = load_released_refiner(folder, fps=FPS)
    text = Gemma3Text.from_folders(
        folder / "text_encoder", folder / "connectors", max_tokens=NUM_TOKENS
    )
    return refiner, text


@pytest.mark.parametrize("prompt", [PROMPT, "x", "words that fill all of the tokens there are"])
def test_prompts_are_encoded_as_in_the_refiner(
    prompt: str, release: Path, theirs: SanaWMLTX2Refiner
) -> None:
    device = torch.device("cpu")
    expected, mask = theirs._encode_prompt(prompt, device=device, dtype=torch.float32)
    features, got_mask = ours(release)[1].encode([prompt])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(got_mask, mask.reshape(got_mask.shape).bool())


@pytest.mark.parametrize("mode", ["blocks", "at_once"])
def test_refined_latents_are_those_of_the_refiner(
    mode: str, release: Path, theirs: SanaWMLTX2Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block of all frames behind the sink is what the offline mode does."""
    shape = (1, 8, 8, *GRID)
    draft, noise = torch.randn(shape), torch.randn(shape)
    block = 3 if mode == "blocks" else 7
    drawn = iter(noise[:, :, 1:].split(block, dim=2))
    monkeypatch.setattr(
        "diffusers.pipelines.sana_wm.refiner.randn_tensor", lambda *args, **kwargs: next(drawn)
    )
    expected = theirs(
        draft, PROMPT, fps=FPS, block_size=block, kv_max_frames=5, output_type="latent"
    )
    refiner, text = ours(release)
    refiner.config = dataclasses.replace(refiner.config, window_frames=5)
    features, mask = text.encode([PROMPT])
    run = refine_clip if mode == "blocks" else refine_at_once
    with torch.no_grad():
        got = run(refiner, draft, noise, features, mask)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(got[:, :, :1], draft[:, :, :1])
    offload = BlockOffload.of_refiner(refiner, "cpu")
    with torch.no_grad():
        assert torch.equal(run(refiner, draft, noise, features, mask), got)
    assert offload.most_present == 1
    assert (got - draft)[:, :, 1:].abs().max() > 0.1


def test_a_refiner_with_missing_tensors_is_refused(release: Path, tmp_path: Path) -> None:
    folder = refiner_folder(release)
    tensors: dict[str, Tensor] = {}
    for path in (folder / "transformer").glob("*.safetensors"):
        tensors.update(load_file(path))
    tensors.pop("transformer_blocks.1.attn2.to_k.bias")
    (tmp_path / "transformer").mkdir()
    config = (folder / "transformer" / "config.json").read_text()
    (tmp_path / "transformer" / "config.json").write_text(config)
    save_file(tensors, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing: transformer_blocks\.1\.attn2\.to_k\.bias"):
        load_released_refiner(tmp_path, fps=FPS)


def refined_world(release: Path, sampling: SamplingConfig, refine: Any, network: Any) -> Any:
    folder, cpu = refiner_folder(release), torch.device("cpu")
    config = OfficialConfig(height=SIZE[0], width=SIZE[1], refine=refine)
    parts = OfficialParts(
        network=network,
        autoencoder=Ltx2Autoencoder(autoencoder()),
        text=GemmaText(tokenizer(), gemma2().model, instruction=(), max_tokens=20),
        device=cpu,
        refiner=load_released_refiner(folder, fps=FPS),
        refiner_text=load_refiner_text(release, folder, device=cpu, rest=cpu, dtype=torch.float32),
    )
    return OfficialWorld(parts, sampling, config)


@pytest.fixture
def network(make_network: Any) -> Any:
    config = dataclasses.replace(
        RELEASED, in_channels=8, caption_channels=TEXT_WIDTH, softmax_every_n=2, num_layers=2
    )
    return make_network(config)


@pytest.mark.parametrize("refine", ["blocks", "at_once"])
def test_a_refined_clip_lacks_the_picture_that_the_sink_is(
    refine: Any, release: Path, network: Any
) -> None:
    sampling = SamplingConfig(mode="chunk_causal", num_steps=2, guidance=1.0)
    world = refined_world(release, sampling, refine, network)
    opening = Opening(images=picture(), prompts=[PROMPT], intrinsics=LENS, seeds=[1])
    poses = path_of(33)
    latents = world.draw_latents(opening, poses)
    refined = world.refine_latents(latents, [PROMPT])
    assert torch.equal(refined[:, :, 0], latents[:, :, 0])
    frames = world.generate(opening, poses)
    assert frames.shape == (1, 32, *SIZE, 3)
    plain = world.parts.autoencoder.decode(latents)[:, :, 1:]
    assert np.abs(frames.astype(float) - _bytes(plain)).max() > 5


def _bytes(pictures: Tensor) -> np.ndarray:
    return ((pictures.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 4, 1).numpy()


def test_a_refined_stream_goes_on_with_the_draft(release: Path, network: Any) -> None:
    sampling = dataclasses.replace(STREAMING, timesteps=(1000.0,))
    world = refined_world(release, sampling, "blocks", network)
    plain = OfficialWorld(world.parts, sampling, dataclasses.replace(world.config, refine="no"))
    poses = path_of(49)
    opening = {"prompts": [PROMPT], "intrinsics": LENS, "seeds": [1], "poses": poses[:, :1]}
    shown, drafts = [], []
    state, draft = world.start(picture(), **opening), plain.start(picture(), **opening)
    first = None
    for part in (poses[:, 1:25], poses[:, 25:]):
        frames, state = world.step(state, part)
        first = state if first is None else first
        pixels, draft = plain.step(draft, part)
        shown.append(frames)
        drafts.append(pixels)
        assert torch.equal(state.latent, draft.latent)
        assert frames.shape == pixels.shape == (1, 24, *SIZE, 3)
        assert np.abs(frames.astype(int) - pixels).max() > 5
    begun = world.start(picture(), **opening)
    ahead = list(world.steps(begun, poses[:, 1:]))
    assert all(np.array_equal(a, b) for (a, _), b in zip(ahead, shown, strict=True))
    assert torch.equal(ahead[-1][1].decoder[0], state.decoder[0])
    assert torch.equal(ahead[0][1].refined.history_keys, first.refined.history_keys)
    with pytest.raises(ValueError, match="got 9 poses a row, expected a multiple of 24"):
        next(world.steps(begun, poses[:, 1:10]))
    assert state.refined.next_frame.tolist() == [7]
    assert state.select([0, 0]).refined.batch_size == 2
    with pytest.raises(ValueError, match="at_once"):
        OfficialWorld(world.parts, sampling, dataclasses.replace(world.config, refine="at_once"))
