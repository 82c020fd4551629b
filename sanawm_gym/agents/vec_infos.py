"""Infos of a vector environment, one dictionary a row.

Gymnasium joins the infos of all rows into one dictionary of arrays, with a mask `_key` beside every
`key`. Drivers and SB3 want them apart again, as the scalar environment would have given them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def split_infos(infos: Mapping[str, Any], num_rows: int) -> list[dict[str, Any]]:
    """One info dictionary a row, as fresh dictionaries.

    Args:
        infos: What `reset` or `step` of a `gymnasium.vector.VectorEnv` returned.
        num_rows: Number of rows.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(num_rows)]
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        if isinstance(values, Mapping):
            values = split_infos(values, num_rows)
        mask = infos.get(f"_{key}")
        for row in range(num_rows):
            if mask is None or mask[row]:
                value = values[row]
                rows[row][key] = value.item() if isinstance(value, np.generic) else value
    return rows
