"""Released weights of LTX-2 as weights of the refiner: the video half, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .config import RefinerConfig

_AUDIO_PREFIXES = ("audio_", "av_cross_attn_")
_AUDIO_BLOCK_PARTS = ("audio_", "video_to_audio_", "video_a2v_")
_DEMANDS = {
    "patch_size": 1,
    "patch_size_t": 1,
    "rope_type": "split",
    "rope_double_precision": True,
    "causal_offset": 1,
    "timestep_scale_multiplier": 1000,
    "qk_norm": "rms_norm_across_heads",
    "activation_fn": "gelu-approximate",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "attention_out_bias": True,
    "ff_bias": True,
    "cross_attn_mod": False,
    "use_prompt_embeddings": True,
    "use_keyframes_abs_pos_embedding": False,
}
"""What the refiner is; any other value belongs to a network that it is not."""


def video_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an LTX-2 audio-video transformer that its video stream uses.

    Args:
        tensors: State dict of diffusers' `LTX2VideoTransformer3DModel` or of the SANA-WM refiner.
    """
    return {name: tensor for name, tensor in tensors.items() if not _is_audio(name)}


def _is_audio(name: str) -> bool:
    if not name.startswith("transformer_blocks."):
        return name.startswith(_AUDIO_PREFIXES)
    part = name.split(".", 2)[2]
    # `audio_to_video_attn` reads sound into the picture: it goes with the sound.
    return part.startswith(_AUDIO_BLOCK_PARTS)


def config_from_ltx2(content: Mapping[str, Any], fps: float = 16.0) -> RefinerConfig:
    """Configuration of the refiner from the `config.json` beside released LTX-2 weights.

    Args:
        content: What the file holds; fields it leaves out have LTX-2's defaults, except that
            `rope_type` must say "split".
        fps: Raw frames a second.

    Raises:
        ValueError: If the file describes a network of another form, naming the fields.
    """
    given = {"rope_type": "interleaved", **content}  # diffusers' default
    odd = [
        f"{name}={given[name]!r}, expected {value!r}"
        for name, value in _DEMANDS.items()
        if name in given and given[name] != value
    ]
    heads = content.get("num_attention_heads", 32)
    head_dim = content.get("attention_head_dim", 128)
    cross = content.get("cross_attention_dim", heads * head_dim)
    if cross != heads * head_dim:
        odd.append(f"cross_attention_dim={cross!r}, expected {heads * head_dim}")
    channels = content.get("in_channels", 128)
    if content.get("out_channels", channels) != channels:
        odd.append(f"out_channels={content['out_channels']!r}, expected {channels}")
    if odd:
        raise ValueError(f"this is no LTX-2 video transformer as the refiner is: {'; '.join(odd)}")
    strides = content.get("vae_scale_factors", (8, 32, 32))
    return RefinerConfig(
        in_channels=channels,
        num_layers=content.get("num_layers", 48),
        num_attention_heads=heads,
        head_dim=head_dim,
        caption_channels=content.get("caption_channels", 3840),
        gated_attention=content.get("gated_attn", False),
        norm_eps=content.get("norm_eps", 1e-6),
        strides=(strides[0], strides[1], strides[2]),
        fps=fps,
        max_position=(
            float(content.get("pos_embed_max_pos", 20)),
            float(content.get("base_height", 2048)),
            float(content.get("base_width", 2048)),
        ),
        rope_theta=content.get("rope_theta", 10000.0),
    )
