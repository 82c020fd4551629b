"""What the files beside released weights say about the network and its sampling.

Sizes of the diffusers layout come from its `config.json`. The original layout gives the network a
name and leaves the sizes to code, so they are read off the shapes of the tensors; only the number
of blocks is taken from the name (`..._D20`), so that a missing last block does not go unnoticed.
Fields that say what kind of network it is (gates, norms, position codes, ...) must have the values
of the release: anything else is another network, and is refused by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.folder import read_json

from .layout import SAMPLING_FILE, Layout
from .sampling import PRESETS, SamplingConfig, SamplingMode

Formulas = Literal["first_release", "first_streaming", "new_release", "diffusers"]

FORMULAS: dict[str, dict[str, Any]] = {
    "first_release": {"rope_dtype": "float64"},
    "first_streaming": {"rope_dtype": "float64", "softmax_main_scale": "padded"},
    "new_release": {"rope_dtype": "float64", "softmax_camera_scale": "head_dim"},
    "diffusers": {"ucpe_rms_clamp_gdn": True, "ucpe_rms_clamp_softmax": True},
}
"""Switches of `SanaWMConfig` as each published implementation has them."""
_CHUNK_FIELDS = (
    "chunk_size", "chunk_split", "num_cached_chunks", "sink", "sink_length", "camera_unit_m"
)  # fmt: skip
_DEMANDS: dict[str, tuple[Any, ...]] = {
    "patch_size": ([1, 1, 1], (1, 1, 1)),
    "ffn_type": ("GLUMBConvTemp", "ChunkGLUMBConvTemp", "CachedGLUMBConvTemp"),
    "k_conv_only": (True,),
    "pos_embed_type": ("wan_rope", "casual_wan_rope"),
    "qk_norm": (True,),
    "cross_norm": (True,),
    "y_norm": (True,),
    "cam_attn_compress": (1,),
    "use_chunk_plucker_post_attn": (True,),
    "mlp_acts": (["silu", "silu", None], ("silu", "silu", None)),
    "use_pe": (True,),
    "learn_sigma": (False,),
    "pred_sigma": (False,),
}
_SAMPLERS: dict[str, SamplingMode] = {
    "chunk_flow_euler": "chunk_causal",
    "self_forcing": "streaming",
    "self_forcing_flow_euler": "streaming",
}


@dataclass(frozen=True, kw_only=True)
class OfficialSettings:
    """A released network and how it is sampled."""

    network: SanaWMConfig
    sampling: SamplingConfig


def read_settings(
    layout: Layout, shapes: Mapping[str, tuple[int, ...]], formulas: Formulas | None = None
) -> OfficialSettings:
    """Settings of a folder.

    Args:
        layout: The folder.
        shapes: Of the network's tensors.
        formulas: Whose switches to take where the sources differ; see `FORMULAS`. None takes those
            of the code that the network was released with.

    Raises:
        ValueError: If a file describes another kind of network, or the sizes cannot be known.
    """
    if formulas is not None and formulas not in FORMULAS:
        raise ValueError(f"got formulas={formulas!r}, expected one of {list(FORMULAS)}")
    if layout.kind == "diffusers":
        assert layout.config is not None
        content = read_json(layout.config)
        sizes = _sizes_of_json(content)
        behaviour, sampling = _beside_json(content, layout)
    else:
        yaml = _read_yaml(layout.config)
        content = yaml.get("model", {})
        sizes = _sizes_of_shapes(shapes, content, layout)
        behaviour, sampling = _of_yaml(yaml, layout)
    _check_kind(content, sizes, layout)
    own = "first_streaming" if sampling.mode == "streaming" else "first_release"
    network = SanaWMConfig(**sizes, **behaviour, **FORMULAS[formulas or own])
    return OfficialSettings(network=network, sampling=sampling)


def behaviour_of(settings: OfficialSettings) -> dict[str, Any]:
    """What `sampling.json` holds: all that the config.json of diffusers has no field for."""
    chunks = {name: getattr(settings.network, name) for name in _CHUNK_FIELDS}
    return {"network": chunks, "sampling": dataclasses.asdict(settings.sampling)}


def diffusers_config(config: SanaWMConfig) -> dict[str, Any]:
    """The config.json with which diffusers builds the same network."""
    return {
        "_class_name": "SanaWMTransformer3DModel",
        "in_channels": config.in_channels,
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "patch_size": [1, 1, 1],
        "softmax_every_n": config.softmax_every_n,
        "linear_head_dim": config.head_dim,
        "ffn_type": "GLUMBConvTemp",
        "t_kernel_size": config.t_kernel_size,
        "conv_kernel_size": config.conv_kernel_size,
        "k_conv_only": True,
        "chunk_plucker_channels": config.plucker_channels,
        "chunk_plucker_post_attn_blocks": config.num_layers,
        "caption_channels": config.caption_channels,
        "mlp_ratio": config.mlp_ratio,
    }


def _sizes_of_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a config.json; what it leaves out has the value of the release."""
    plucker = content.get("chunk_plucker_channels", 48)
    return {
        "in_channels": content.get("in_channels", 128),
        "num_layers": content.get("num_layers", 20),
        "hidden_size": content.get("hidden_size", 2240),
        "num_attention_heads": content.get("num_attention_heads", 20),
        "caption_channels": content.get("caption_channels", 2304),
        "plucker_channels": plucker,
        "temporal_stride": plucker // 6,
        "softmax_every_n": content.get("softmax_every_n", 4),
        "mlp_ratio": content.get("mlp_ratio", 3.0),
        "t_kernel_size": content.get("t_kernel_size", 3),
        "conv_kernel_size": content.get("conv_kernel_size", 4),
    }


def _sizes_of_shapes(
    shapes: Mapping[str, tuple[int, ...]], content: Mapping[str, Any], layout: Layout
) -> dict[str, Any]:
    anchors = {
        "x_embedder.proj.weight": 5,
        "y_embedder.y_proj.fc1.weight": 2,
        "plucker_embedder.proj.weight": 5,
        "blocks.0.attn.A_log": 1,
        "blocks.0.mlp.depth_conv.conv.weight": 4,
    }
    odd = [name for name, axes in anchors.items() if len(shapes.get(name, ())) != axes]
    if odd:
        raise ValueError(
            f"{layout.weights[0]} is no SANA-WM network: missing {', '.join(odd)}, which say how "
            f"large it is; it holds {len(shapes)} tensors, such as {sorted(shapes)[:3]}"
        )
    width, channels = shapes["x_embedder.proj.weight"][:2]
    plucker = shapes["plucker_embedder.proj.weight"][1]
    numbers = [int(name.split(".")[1]) for name in shapes if re.match(r"blocks\.\d+\.", name)]
    depth = re.search(r"_D(\d+)$", str(content.get("model", "")))
    conv = shapes.get("blocks.0.attn.conv_k.weight", (0, 0, content.get("conv_kernel_size", 4)))
    return {
        "in_channels": channels,
        "num_layers": int(depth[1]) if depth else max(numbers) + 1,
        "hidden_size": width,
        "num_attention_heads": shapes["blocks.0.attn.A_log"][0],
        "caption_channels": shapes["y_embedder.y_proj.fc1.weight"][1],
        "plucker_channels": plucker,
        "temporal_stride": plucker // 6,
        "softmax_every_n": content.get("softmax_every_n", 4),
        "mlp_ratio": shapes["blocks.0.mlp.depth_conv.conv.weight"][0] / (2 * width),
        "conv_kernel_size": conv[2],
    }


def _check_kind(content: Mapping[str, Any], sizes: Mapping[str, Any], layout: Layout) -> None:
    odd = [
        f"{name}={content[name]!r}, expected {values[0]!r}"
        for name, values in _DEMANDS.items()
        if name in content and content[name] not in values
    ]
    head = sizes["hidden_size"] // sizes["num_attention_heads"]
    if content.get("linear_head_dim", head) != head:
        odd.append(f"linear_head_dim={content['linear_head_dim']!r}, expected {head}")
    with_rays = content.get("chunk_plucker_post_attn_blocks", -1)
    if 0 <= with_rays < sizes["num_layers"]:
        odd.append(f"chunk_plucker_post_attn_blocks={with_rays}, expected {sizes['num_layers']}")
    if odd:
        raise ValueError(f"{layout.config} describes another network: {'; '.join(odd)}")


def _beside_json(
    config: Mapping[str, Any], layout: Layout
) -> tuple[dict[str, Any], SamplingConfig]:
    """Chunks and sampling of a diffusers folder: from `convert`, else from what there is.

    Conversions by others put the fields of the streaming yaml into the network's config.json; the
    pipeline of diffusers, which is bidirectional, has a shift in its scheduler.
    """
    folder = layout.folder
    if (folder / SAMPLING_FILE).is_file():
        content = read_json(folder / SAMPLING_FILE)
        unknown = content.keys() ^ {"network", "sampling"}
        chunks, values = content.get("network", {}), content.get("sampling", {})
        unknown |= chunks.keys() - set(_CHUNK_FIELDS)
        unknown |= values.keys() - {field.name for field in dataclasses.fields(SamplingConfig)}
        if unknown:
            raise ValueError(
                f"{folder / SAMPLING_FILE} lacks or does not know {sorted(unknown)}: it was "
                "written by another version; convert the weights again"
            )
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return dict(chunks), SamplingConfig(**tuples)
    scheduler: dict[str, Any] = {"vis_sampler": config.get("scheduler_type", "")}
    if "inference_flow_shift" in config:
        scheduler["inference_flow_shift"] = config["inference_flow_shift"]
    elif (folder / "scheduler" / "scheduler_config.json").is_file():
        found = read_json(folder / "scheduler" / "scheduler_config.json")
        scheduler["inference_flow_shift"] = found.get("shift")
    return _of_yaml({"model": config, "scheduler": scheduler}, layout)


def _of_yaml(content: Mapping[str, Any], layout: Layout) -> tuple[dict[str, Any], SamplingConfig]:
    """Chunks and sampling of a config.yaml, which may be empty."""
    model, scheduler = content.get("model", {}), content.get("scheduler", {})
    text = content.get("text_encoder", {})
    mode: SamplingMode = "streaming" if layout.kind == "streaming" else "bidirectional"
    mode = _SAMPLERS.get(scheduler.get("vis_sampler", ""), mode)
    chunks: dict[str, Any] = {}
    for theirs, ours in (
        ("chunk_size", "chunk_size"), ("chunk_split_strategy", "chunk_split"),
        ("num_cached_blocks", "num_cached_chunks"), ("sink_token", "sink"),
    ):  # fmt: skip
        if model.get(theirs, scheduler.get(theirs)) is not None:
            chunks[ours] = model.get(theirs, scheduler.get(theirs))
    changes: dict[str, Any] = {}
    shift = scheduler.get("inference_flow_shift", scheduler.get("flow_shift"))
    if shift is not None:
        changes["shift"] = float(shift)
    steps = scheduler.get("denoising_step_list", model.get("denoising_step_list"))
    if steps is not None:
        changes["timesteps"] = tuple(float(step) for step in steps if step)
    if "chi_prompt" in text:
        changes["instruction"] = tuple(text["chi_prompt"] or ())
    if "model_max_length" in text:
        changes["max_tokens"] = int(text["model_max_length"])
    return chunks, dataclasses.replace(PRESETS[mode], **changes)


def _read_yaml(path: Path | None) -> dict[str, Any]:
    """Content of a yaml file; without one everything is as released.

    Raises:
        ValueError: If it is not a mapping.
    """
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid yaml: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected sections by name")
    return content
