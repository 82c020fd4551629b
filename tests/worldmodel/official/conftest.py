"""Released folders of every layout, at tiny size and with random weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from sanawm_gym.worldmodel.config import SanaWMConfig

RELEASED = SanaWMConfig(
    in_channels=5,
    num_layers=4,
    hidden_size=64,
    num_attention_heads=2,
    caption_channels=7,
    plucker_channels=48,
    rope_dtype="float64",
)
"""As `SANA_WM_2B6`, but small; four blocks, so that the last one is a softmax block."""
YAML = {
    "model": {
        "model": "SanaMSVideoCamCtrl_tiny_P1_D4",
        "softmax_every_n": 4,
        "linear_head_dim": 32,
        "ffn_type": "GLUMBConvTemp",
        "mlp_acts": ["silu", "silu", None],
        "pos_embed_type": "wan_rope",
    },
    "scheduler": {
        "flow_shift": 9.95,
        "inference_flow_shift": 9.5,
        "vis_sampler": "flow_dpm-solver",
    },
    "text_encoder": {"model_max_length": 12, "chi_prompt": ["Say more.", "User Prompt: "]},
}


def shake(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights that all matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        size = 0.3 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        parameter.data = noise * size + (1.0 if "norm" in name else 0.0)


def reference_network(config: SanaWMConfig = RELEASED) -> SanaWMTransformer3DModel:
    """The same network in diffusers."""
    network = SanaWMTransformer3DModel(
        in_channels=config.in_channels,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        linear_head_dim=config.head_dim,
        softmax_every_n=config.softmax_every_n,
        chunk_plucker_channels=config.plucker_channels,
        chunk_plucker_post_attn_blocks=config.num_layers,
        caption_channels=config.caption_channels,
    )
    shake(network)
    return network.eval()


def original_tensors(network: torch.nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Tensors under the names of the original release."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("t_embedder.linear_1", "t_embedder.mlp.0")
        tensors[prefix + name.replace("t_embedder.linear_2", "t_embedder.mlp.2")] = tensor
    tensors[f"{prefix}pos_embed"] = torch.zeros(1, 3, 64)
    tensors[f"{prefix}y_embedder.y_embedding"] = torch.zeros(300, RELEASED.caption_channels)
    return tensors


def write_original(folder: Path, network: torch.nn.Module) -> None:
    (folder / "dit").mkdir(parents=True)
    save_file(original_tensors(network), folder / "dit" / "sana_wm_tiny.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(YAML))


def write_chunk_causal(folder: Path, network: torch.nn.Module) -> None:
    write_original(folder, network)
    model = {**YAML["model"], "ffn_type": "ChunkGLUMBConvTemp", "chunk_size": 3}
    model["chunk_split_strategy"] = "first_chunk_plus_one"
    scheduler = {**YAML["scheduler"], "vis_sampler": "chunk_flow_euler"}
    content = {**YAML, "model": model, "scheduler": scheduler}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


def write_streaming(folder: Path, network: torch.nn.Module) -> None:
    (folder / "sana_dit").mkdir(parents=True)
    checkpoint = {
        "generator": original_tensors(network, "model."),
        "critic": {"model.x_embedder.proj.bias": torch.zeros(64)},
        "generator_optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": []},
        "step": 3000,
    }
    torch.save(checkpoint, folder / "sana_dit" / "model.pt")


def write_diffusers(folder: Path, network: SanaWMTransformer3DModel) -> None:
    network.save_pretrained(folder / "transformer", max_shard_size="300KB")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"shift": 7.0}')


WRITERS: dict[str, Callable[[Path, SanaWMTransformer3DModel], None]] = {
    "original": write_original,
    "chunk_causal": write_chunk_causal,
    "streaming": write_streaming,
    "diffusers": write_diffusers,
}


@pytest.fixture(scope="session")
def theirs() -> SanaWMTransformer3DModel:
    """The network whose weights all folders hold."""
    return reference_network()


@pytest.fixture
def release(tmp_path: Path, theirs: SanaWMTransformer3DModel) -> Callable[[str], Path]:
    """Write a folder of one of the layouts."""

    def write(layout: str) -> Path:
        folder = tmp_path / layout
        WRITERS[layout](folder, theirs)
        return folder

    return write


@pytest.fixture
def as_in_diffusers() -> SanaWMConfig:
    """Switches that make the network compute what diffusers does."""
    return dataclasses.replace(
        RELEASED, ucpe_rms_clamp_gdn=True, ucpe_rms_clamp_softmax=True, rope_dtype="float32"
    )
