"""Modules on disk: a json of the configuration beside a safetensors file of the weights."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ConfigT = TypeVar("ConfigT", bound=DataclassInstance)
else:
    ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def save_module(folder: Path, name: str, module: nn.Module, config: Any) -> None:
    """Write ``name.json`` and ``name.safetensors`` into ``folder``, each replaced whole.

    Args:
        folder: Created if missing.
        name: Stem of both files.
        module: Its state dict is written in the dtype it has.
        config: Dataclass from which the module was built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
    weights = folder / f"{name}.safetensors"
    partial = weights.with_suffix(".partial")
    save_file(tensors, partial)
    os.replace(partial, weights)
    write_json(folder / f"{name}.json", dataclasses.asdict(config))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, replaced whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(partial, path)


def read_config(path: Path, config_class: type[ConfigT]) -> ConfigT:
    """Configuration written by :func:`save_module`; json's lists become tuples again.

    Raises:
        ValueError: If the file is missing, is not json or holds other fields.
    """
    content = read_json(path)
    known = {field.name for field in dataclasses.fields(config_class)}
    if not content.keys() <= known:
        raise ValueError(
            f"{path} holds the unknown fields {sorted(content.keys() - known)}: it was written by "
            f"another version of {config_class.__name__}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return config_class(**values)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a json file.

    Raises:
        ValueError: If the file is missing or is not a json object.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: expected a folder written by save_pretrained")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid json: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a json object")
    return content


def load_module(
    folder: Path, name: str, module_class: Callable[[ConfigT], ModuleT], config_class: type[ConfigT]
) -> ModuleT:
    """A module that :func:`save_module` wrote, in float32 on the CPU.

    Raises:
        ValueError: If a file is missing or the weights do not fit the configuration.
    """
    module = module_class(read_config(folder / f"{name}.json", config_class))
    load_weights(folder, name, module)
    return module


def load_weights(folder: Path, name: str, module: nn.Module) -> None:
    """Load ``name.safetensors`` into ``module``, casting to the module's dtype.

    Raises:
        ValueError: If the file is missing or its keys or shapes differ, listing every difference.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: expected a folder written by save_pretrained")
    found = load_file(path)
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected if key not in found]
    problems += [f"surplus {key}" for key in found if key not in expected]
    problems += [
        f"{key} has shape {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    if problems:
        raise ValueError(f"{path} does not fit its configuration: " + "; ".join(problems))
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(found[key])
