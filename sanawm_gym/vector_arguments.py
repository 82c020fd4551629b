"""Reading what a vector environment is given: counts, autoreset modes, reset masks and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode


def check_count(name: str, count: Any) -> int:
    """A number of rows or steps.

    Raises:
        ValueError: If it is not a whole number of at least 1.
    """
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(
            f"{name}: got {count!r}, expected a whole number of at least 1; count from 1"
        )
    return int(count)


def rows_to_reset(mask: Any, num_rows: int) -> list[int]:
    """Rows that a reset mask marks; all of them without a mask.

    Raises:
        ValueError: If it is not a boolean array of the rows with at least one True.
    """
    if mask is None:
        return list(range(num_rows))
    sound = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
    if not sound or mask.shape != (num_rows,) or not mask.any():
        raise ValueError(
            f"reset_mask: got {mask!r}, expected a boolean array of shape ({num_rows},) with at "
            "least one True; mark the rows to reset"
        )
    return [int(row) for row in np.flatnonzero(mask)]


def read_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """An autoreset mode, also by its value.

    Raises:
        ValueError: If it is unknown.
    """
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise ValueError(
            f"autoreset_mode: got {mode!r}, expected one of "
            f"{[known.value for known in AutoresetMode]}; choose one"
        ) from error


def spread_seeds(
    seed: int | np.integer[Any] | Sequence[int | None] | None, num_rows: int
) -> list[int | None]:
    """A seed for every row: a single one counts up from row 0, None leaves all rows without.

    Raises:
        ValueError: If a seed is not a whole number of at least 0, or their number is wrong.
    """
    if seed is None:
        return [None] * num_rows
    seeds: list[Any] = (
        [seed + row for row in range(num_rows)]
        if isinstance(seed, (int, np.integer))
        else list(seed)
    )
    whole = all(one is None or (isinstance(one, (int, np.integer)) and one >= 0) for one in seeds)
    if len(seeds) != num_rows or not whole:
        raise ValueError(
            f"seed: got {seed!r}, expected a whole number of at least 0, {num_rows} of them, or "
            "None; give one a row"
        )
    return [None if one is None else int(one) for one in seeds]
