"""Checks of shapes and types while testing: in every test the first calls of a function, then some.

jaxtyping's import hook has every function of the package checked at every call, which took four
tenths of a training test's time: most of it in small functions of the renderer, called a hundred
thousand times with the same shapes. To import this file puts a counter before the hook's decorator,
for what is imported later.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping

FIRST = 8
"""Calls of a function that are checked at the beginning of every test."""
EVERY = 16
"""From then on, calls to one that is checked; 1 checks all."""

_jaxtyped = jaxtyping.jaxtyped
_test = 0


def begin_test() -> None:
    """Look closely again."""
    global _test
    _test += 1


def sparing(checkable: Any = None, *, typechecker: Any) -> Any:
    """`jaxtyping.jaxtyped`, spared where it has just looked.

    Args:
        checkable: A function, or a dataclass, which is checked where it is made.
        typechecker: As jaxtyping wants it.
    """
    if checkable is None:
        return functools.partial(sparing, typechecker=typechecker)
    if not inspect.isclass(checkable):
        return _counted(checkable, typechecker)
    made = vars(checkable).get("__init__")
    # A method written by hand has been decorated already.
    if dataclasses.is_dataclass(checkable) and made and not hasattr(made, "__wrapped__"):
        checkable.__init__ = _counted(made, typechecker)  # type: ignore[misc]
    return checkable


def _counted(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    checked: Callable[..., Any] | None = None
    test, calls = -1, 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked, test, calls
        if test != _test:
            test, calls = _test, 0
        calls += 1
        if calls > FIRST and calls % EVERY:
            return function(*args, **kwargs)
        if checked is None:
            # Only now: many functions are imported, few are called.
            checked = _jaxtyped(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call


# The import hook writes this name above the functions of a module.
jaxtyping.jaxtyped = sparing
