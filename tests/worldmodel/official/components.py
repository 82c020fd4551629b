"""Tiny random parts of a release, built with diffusers and transformers."""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Video

from .conftest import shake

TEXT_WIDTH = 16
GRID, SIZE = (2, 3), (64, 96)
"""Latent grid, and height and width of its pictures."""
_REFINER = {
    "in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 16,
    "cross_attention_dim": 32, "audio_in_channels": 4, "audio_out_channels": 4,
    "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16, "num_layers": 2, "caption_channels": TEXT_WIDTH,
    "rope_type": "split",
}  # fmt: skip


@cache
def autoencoder(causal: bool = True, channels: int = 8) -> AutoencoderKLLTX2Video:
    """LTX-2's autoencoder with its true strides, 8 in time and 32 in space."""
    torch.manual_seed(0)
    module = AutoencoderKLLTX2Video(
        latent_channels=channels,
        block_out_channels=(8, 16, 16, 16),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        decoder_causal=causal,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    generator = torch.Generator().manual_seed(1)
    module.latents_mean.copy_(torch.randn(channels, generator=generator))
    module.latents_std.copy_(torch.rand(channels, generator=generator) + 0.5)
    return module.eval()


def tokenizer() -> Any:
    """A Gemma tokeniser that knows single characters, and begins every text as Gemma's does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *string.printable]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    made = GemmaTokenizer(vocab=vocabulary, merges=[])
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return made


def gemma2() -> Any:
    """Two layers of Gemma-2 with its head, as the pipeline of diffusers wants it."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=128,
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
    )
    model = Gemma2ForCausalLM(config)
    shake(model, seed=2)
    return model.eval()


def gemma3() -> Any:
    """Two layers of Gemma-3, with the smallest picture tower it allows."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        "vocab_size": 128, "hidden_size": TEXT_WIDTH, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=127,
        boi_token_index=125, eoi_token_index=126,
    )  # fmt: skip
    model = Gemma3ForConditionalGeneration(config)
    shake(model, seed=3)
    return model.eval()


def write_refiner(folder: Path, num_tokens: int = 32) -> None:
    """A refiner with its text, as diffusers saves it."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.models.transformers.transformer_sana_wm_refiner import (
        SanaWMLTX2RefinerTransformer3DModel,
    )
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    transformer = SanaWMLTX2RefinerTransformer3DModel(**_REFINER)
    connectors = LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_learnable_registers=8,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_learnable_registers=8,
    )
    shake(transformer, seed=4)
    shake(connectors, seed=5)
    pipeline = SanaWMLTX2Refiner(
        transformer=transformer.eval(), connectors=connectors.eval(), text_encoder=gemma3(),
        tokenizer=tokenizer(), scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=None,
        text_max_sequence_length=num_tokens,
    )  # fmt: skip
    pipeline.save_pretrained(folder, max_shard_size="50KB")
