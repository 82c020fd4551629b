"""The tensors of a nested value, apart from all else in it, and back.

States, prompts and cameras are frozen dataclasses of tensors. Whatever must treat their tensors
alike (memory that a graph reads, memory that several CUDA streams share) takes them apart into a
list of tensors and a *frame*: everything that is no tensor, with a gap where each of them was.
Frames are compared and hashed: calls of equal frames differ in numbers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """A value without its tensors.

    Attributes:
        kind: `tuple`, `list`, a dataclass; None of a gap, where a tensor was.
        names: Fields of a dataclass.
        parts: What it consists of.
    """

    kind: type | None
    names: tuple[str, ...] = ()
    parts: tuple[Hashable, ...] = ()


GAP = Frame(None)
"""Where a tensor was."""


def take_apart(value: Any) -> tuple[list[Tensor], Hashable]:
    """Tensors of a value in order, and its frame.

    Args:
        value: A tensor, or tuples, lists and dataclasses of tensors and of hashable constants.

    Raises:
        TypeError: If it holds something that is neither.
    """
    tensors: list[Tensor] = []
    frame = _walk(value, tensors)
    return tensors, frame


def put_together(tensors: Iterator[Tensor], frame: Hashable) -> Any:
    """The value of `take_apart`, with other tensors in its gaps.

    Args:
        tensors: As many as there are gaps, in order.
        frame: Of the value.
    """
    if not isinstance(frame, Frame):
        return frame
    if frame.kind is None:
        return next(tensors)
    parts = [put_together(tensors, part) for part in frame.parts]
    if frame.names:
        return frame.kind(**dict(zip(frame.names, parts, strict=True)))
    return frame.kind(parts)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors of a value, as `take_apart` finds them."""
    return take_apart(value)[0]


def _walk(value: Any, tensors: list[Tensor]) -> Hashable:
    if isinstance(value, Tensor):
        tensors.append(value)
        return GAP
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        before = len(tensors)
        names = tuple(field.name for field in dataclasses.fields(value))
        parts = tuple(_walk(getattr(value, name), tensors) for name in names)
        if len(tensors) == before:
            return cast(Hashable, value)  # a configuration stays whole
        return Frame(type(value), names, parts)
    if type(value) in (tuple, list):
        return Frame(type(value), (), tuple(_walk(part, tensors) for part in value))
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"got a {type(value).__name__}, expected tensors, tuples, lists, dataclasses or "
            "hashable constants"
        ) from error
    return cast(Hashable, value)
