"""The refiner against independent implementations in diffusers, on small random weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_sana_wm_refiner import (
    SanaWMLTX2RefinerTransformer3DModel,
)
from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner
from torch import Tensor

from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.sampler import refine_clip
from sanawm_gym.worldmodel.refiner.weights import config_from_ltx2, video_half

LTX2 = {
    "in_channels": 6,
    "out_channels": 6,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "num_layers": 3,
    "caption_channels": 10,
    "rope_type": "split",
}
FPS, GRID, NUM_TOKENS = 16.0, (2, 3), 5


def shake(module: torch.nn.Module) -> None:
    """Weights that all matter."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        size = 0.5 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        parameter.data = noise * size + (1.0 if "norm" in name else 0.0)


def ours(theirs: torch.nn.Module, content: dict[str, Any]) -> Refiner:
    refiner = Refiner(config_from_ltx2(content, fps=FPS))
    refiner.load_state_dict(video_half(theirs.state_dict()))
    return refiner.eval()


def inputs(num_frames: int, seed: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, LTX2["in_channels"], num_frames, *GRID)
    mask = torch.ones(1, NUM_TOKENS, dtype=torch.bool)
    mask[:, :2] = False
    return (
        torch.randn(*shape, generator=generator),
        torch.randn(*shape, generator=generator),
        torch.randn(1, NUM_TOKENS, LTX2["caption_channels"], generator=generator),
        mask,
    )


@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_one_block_without_a_past_equals_the_video_stream_of_ltx2(gated: bool) -> None:
    content = {**LTX2, "gated_attn": gated}
    theirs = LTX2VideoTransformer3DModel(**content, audio_gated_attn=gated).eval()
    shake(theirs)
    refiner = ours(theirs, content)
    x, _, features, mask = inputs(4)
    sigma = torch.tensor([[0.0, 0.9, 0.31, 0.7254]])
    expected = theirs(
        hidden_states=x.flatten(2).transpose(1, 2),
        audio_hidden_states=torch.zeros(1, 3, LTX2["audio_in_channels"]),
        encoder_hidden_states=features,
        audio_encoder_hidden_states=features,
        timestep=1000 * sigma.repeat_interleave(math.prod(GRID), dim=1),
        audio_timestep=torch.zeros(1, 3),
        sigma=torch.zeros(1),
        encoder_attention_mask=mask.float(),
        audio_encoder_attention_mask=mask.float(),
        num_frames=4,
        height=GRID[0],
        width=GRID[1],
        fps=FPS,
        audio_num_frames=3,
        isolate_modalities=True,
        return_dict=False,
    )[0]
    state = refiner.start(x[:, :, :1], features, mask)
    window = refiner.alone(state, GRID, 4)
    got = refiner(x, sigma, window).flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


class _GivenText(SanaWMLTX2Refiner):
    """The pipeline with the text encoder's features handed in."""

    def _encode_prompt(self, prompt: str, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.given


@pytest.mark.parametrize(("num_frames", "block", "window"), [(6, 3, 11), (12, 3, 5), (9, 2, 4)])
@torch.no_grad()
def test_block_by_block_equals_the_sana_wm_refiner(
    num_frames: int, block: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = SanaWMLTX2RefinerTransformer3DModel(**LTX2).eval()
    shake(theirs)
    refiner = ours(theirs, LTX2)
    refiner.config = dataclasses.replace(refiner.config, block_frames=block, window_frames=window)
    draft, noise, features, mask = inputs(num_frames)
    drawn = iter(noise[:, :, 1:].split(block, dim=2))
    monkeypatch.setattr(
        "diffusers.pipelines.sana_wm.refiner.randn_tensor", lambda *args, **kwargs: next(drawn)
    )
    pipeline = _GivenText(
        transformer=theirs, connectors=None, text_encoder=None, tokenizer=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=None,
    )  # fmt: skip
    pipeline.given = (features, mask.float())
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        draft, "", fps=FPS, block_size=block, kv_max_frames=window, output_type="latent"
    )
    got = refine_clip(refiner, draft, noise, features, mask)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
