"""Low-rank adapters: what is trained of a refiner or a network too large to train whole.

An adapted linear map is W x + (alpha / rank) U D x, with D (rank, in) drawn at random and U (out,
rank) zero at first, so that training begins at the given weights. [Hu et al. 2021, arXiv
2106.09685] The adapter is a module of its own; it is hooked onto a refiner, whose structure and
names stay.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sanawm_gym.worldmodel.folder import read_config, write_json

ADAPTER = "adapter"
"""Stem of the adapter's files."""
_PREFIX = "transformer."
"""Before every name in the file, as diffusers writes and reads adapters."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which layers get an adapter, and of which rank."""

    rank: int = 384
    """Inner width of every pair, >= 1."""
    alpha: float = 384.0
    """The pair's output is scaled by alpha / rank, > 0."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    """Ends of the names of adapted layers: queries, keys, values and output of both attentions and
    the feed-forward layer."""

    def __post_init__(self) -> None:
        """Refuse an empty adapter."""
        if self.rank < 1 or not self.alpha > 0:
            raise ValueError(
                f"got rank={self.rank} and alpha={self.alpha}, expected a rank of at least 1 and "
                "an alpha above 0"
            )


class LoraPair(nn.Module):
    """The two small matrices beside one layer."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """U D x."""
        narrow: Tensor = nn.functional.linear(x.to(self.down), self.down)
        return nn.functional.linear(narrow, self.up)


class LoraAdapter(nn.Module):
    """All pairs of a refiner, or of a network.

    Args:
        refiner: Whose layers are to be adapted; it is read, not changed.
        config: Layers and rank.

    Raises:
        ValueError: If no layer has one of the names.
    """

    def __init__(self, refiner: nn.Module, config: LoraConfig) -> None:
        super().__init__()
        self.config = config
        layers = dict(_targets(refiner, config.targets))
        if not layers:
            raise ValueError(f"no layer of its blocks ends with one of {list(config.targets)}")
        self.names = tuple(layers)
        self.pairs = nn.ModuleList(LoraPair(layer, config.rank) for layer in layers.values())

    @property
    def scale(self) -> float:
        """Weight of the pairs' output."""
        return self.config.alpha / self.config.rank

    def attach(self, refiner: nn.Module) -> list[RemovableHandle]:
        """Add the pairs' output to the refiner's layers until the handles are removed."""
        handles = []
        for name, pair in zip(self.names, self.pairs, strict=True):

            def hook(
                layer: nn.Module, inputs: tuple[Any, ...], out: Tensor, pair: nn.Module = pair
            ) -> Tensor:
                added: Tensor = self.scale * pair(inputs[0])
                return out + added.to(out.dtype)

            handles.append(refiner.get_submodule(name).register_forward_hook(hook))
        return handles

    @torch.no_grad()
    def merge(self, refiner: nn.Module) -> None:
        """Put the pairs into the refiner's own weights; do not attach them as well."""
        for name, pair in zip(self.names, self.pairs, strict=True):
            layer = refiner.get_submodule(name)
            assert isinstance(layer, nn.Linear) and isinstance(pair, LoraPair)
            up, down = pair.up.float(), pair.down.float()
            change = self.scale * (up @ down)
            layer.weight.copy_(layer.weight.float() + change.to(layer.weight.device))

    def save(self, folder: Path) -> None:
        """Write the pairs and their configuration."""
        tensors: dict[str, Tensor] = {}
        for name, pair in zip(self.names, self.pairs, strict=True):
            assert isinstance(pair, LoraPair)
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = pair.down
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = pair.up
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{ADAPTER}.partial"
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial)
        os.replace(partial, folder / f"{ADAPTER}.safetensors")
        write_json(folder / f"{ADAPTER}.json", dataclasses.asdict(self.config))


def load_adapter(folder: Path, refiner: nn.Module) -> LoraAdapter:
    """Adapter that :meth:`LoraAdapter.save` wrote.

    Raises:
        ValueError: If it belongs to a refiner of another form.
    """
    adapter = LoraAdapter(refiner, read_config(folder / f"{ADAPTER}.json", LoraConfig))
    found = load_file(folder / f"{ADAPTER}.safetensors")
    expected = {f"{_PREFIX}{n}.lora_{side}.weight" for n in adapter.names for side in "AB"}
    if found.keys() != expected:
        raise ValueError(
            f"{folder} holds an adapter for other layers: {sorted(found.keys() ^ expected)[:4]}"
        )
    with torch.no_grad():
        for name, pair in zip(adapter.names, adapter.pairs, strict=True):
            assert isinstance(pair, LoraPair)
            for side, parameter in (("A", pair.down), ("B", pair.up)):
                tensor = found[f"{_PREFIX}{name}.lora_{side}.weight"]
                if tensor.shape != parameter.shape:
                    raise ValueError(
                        f"{name} has shape {tuple(tensor.shape)}, expected "
                        f"{tuple(parameter.shape)}: the adapter is of another refiner"
                    )
                parameter.copy_(tensor)
    return adapter


def _targets(refiner: nn.Module, ends: Iterable[str]) -> Iterable[tuple[str, nn.Linear]]:
    wanted = tuple(f".{end}" for end in ends)
    blocks = "transformer_blocks" if hasattr(refiner, "transformer_blocks") else "blocks"
    for name, module in refiner.get_submodule(blocks).named_modules(prefix=blocks):
        if isinstance(module, nn.Linear) and name.endswith(wanted):
            yield name, module
