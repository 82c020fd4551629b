"""The state of any world as named tensors, and back.

States are frozen dataclasses of tensors, tuples of them, and constants of their network. Where a
tuple is longer than in the state that is taken as a pattern (a decoder's memory is empty before
the first step), its tensors go to the device of the others.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor


def tensors_of(state: Any, name: str = "state") -> dict[str, Tensor]:
    """All tensors of a state under the names of their fields."""
    if isinstance(state, Tensor):
        return {name: state}
    if dataclasses.is_dataclass(state):
        parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    elif isinstance(state, tuple):
        parts = {str(index): part for index, part in enumerate(state)}
    else:
        return {}
    return {
        key: tensor
        for part, value in parts.items()
        for key, tensor in tensors_of(value, f"{name}.{part}").items()
    }


def with_tensors(pattern: Any, tensors: dict[str, Tensor]) -> Any:
    """A state like another one, of the same world, that holds what `tensors_of` once gave."""
    known = tensors_of(pattern)
    device = next((str(t.device) for t in known.values() if t.device.type != "cpu"), "cpu")
    return _rebuilt(pattern, tensors, "state", device)


def _rebuilt(pattern: Any, tensors: dict[str, Tensor], name: str, device: str) -> Any:
    if isinstance(pattern, Tensor):
        return tensors[name].to(pattern.device)
    if dataclasses.is_dataclass(pattern) and not isinstance(pattern, type):
        return dataclasses.replace(
            pattern,
            **{
                field.name: _rebuilt(
                    getattr(pattern, field.name), tensors, f"{name}.{field.name}", device
                )
                for field in dataclasses.fields(pattern)
            },
        )
    if isinstance(pattern, tuple):
        parts = [
            _rebuilt(part, tensors, f"{name}.{index}", device) for index, part in enumerate(pattern)
        ]
        while f"{name}.{len(parts)}" in tensors:
            parts.append(tensors[f"{name}.{len(parts)}"].to(device))
        return tuple(parts)
    return pattern
