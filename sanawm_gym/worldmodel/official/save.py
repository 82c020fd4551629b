"""Writes a network in the layout of diffusers, in shards, whole or not at all.

`transformer/config.json` and `transformer/diffusion_pytorch_model*.safetensors` are what
`SanaWMTransformer3DModel.from_pretrained(folder, subfolder="transformer")` reads. What that class
has no field for (chunks, sampling) goes into `sampling.json` beside the folder.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sanawm_gym.worldmodel.folder import write_json
from sanawm_gym.worldmodel.model import SanaWM

from .layout import SAMPLING_FILE, STEM
from .settings import OfficialSettings, behaviour_of, diffusers_config
from .tensors import TensorSource

FOLDER = "transformer"
MAX_SHARD_BYTES = 5_000_000_000
"""Bytes of one file, as the hub recommends."""


def save_network(
    folder: Path, network: SanaWM, settings: OfficialSettings, max_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a network; see `save_tensors`."""
    tensors = network.state_dict()
    tensors.pop("y_embedder.y_embedding", None)  # only training reads it
    source = TensorSource(
        origin="the network",
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        read=lambda name: tensors[name],
    )
    save_tensors(folder, source, settings, dtype=None, max_bytes=max_bytes)


def save_tensors(
    folder: Path,
    source: TensorSource,
    settings: OfficialSettings,
    *,
    dtype: torch.dtype | None,
    max_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write named tensors as a network, holding one shard in memory at a time.

    Args:
        folder: Gets `transformer/` and `sampling.json`; made if it is missing.
        source: The network's tensors.
        settings: The network and its sampling.
        dtype: What the tensors are cast to; None keeps what they have.
        max_bytes: Size of a shard that no further tensor is added to.

    Raises:
        ValueError: If the folder has a network already.
    """
    target, partial = folder / FOLDER, folder / f"{FOLDER}.partial"
    check_free(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards: list[list[str]] = []
    shard: dict[str, Tensor] = {}
    total = held = 0
    for name in source.shapes:
        tensor = source.read(name).detach().cpu()
        tensor = (tensor if dtype is None else tensor.to(dtype)).contiguous()
        num_bytes = tensor.numel() * tensor.element_size()
        if shard and held + num_bytes > max_bytes:
            shards.append(_write_shard(partial, len(shards), shard))
            shard, held = {}, 0
        shard[name] = tensor
        held, total = held + num_bytes, total + num_bytes
    shards.append(_write_shard(partial, len(shards), shard))
    _name_shards(partial, shards, total)
    write_json(partial / "config.json", diffusers_config(settings.network))
    # First what is read beside the weights, so that no network stands without its sampling.
    write_json(folder / SAMPLING_FILE, behaviour_of(settings))
    os.replace(partial, target)


def check_free(folder: Path) -> None:
    """Refuse to write where a network is.

    Raises:
        ValueError: If there is one.
    """
    if (folder / FOLDER).exists():
        raise ValueError(
            f"{folder / FOLDER} exists: expected a folder without a network; move it away or give "
            "another one"
        )


def _shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index}.safetensors"


def _write_shard(folder: Path, index: int, shard: dict[str, Tensor]) -> list[str]:
    save_file(shard, _shard_path(folder, index), metadata={"format": "pt"})
    return list(shard)


def _name_shards(folder: Path, shards: list[list[str]], total: int) -> None:
    """Rename the files once their number is known; several get an index."""
    if len(shards) == 1:
        os.replace(_shard_path(folder, 0), folder / f"{STEM}.safetensors")
        return
    where: dict[str, str] = {}
    for i, names in enumerate(shards):
        file = f"{STEM}-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        os.replace(_shard_path(folder, i), folder / file)
        where.update(dict.fromkeys(names, file))
    content = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")
