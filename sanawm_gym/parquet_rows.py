"""Rows of a parquet table as numpy arrays; only the row groups that hold them are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def read_rows(
    path: Path, names: Sequence[str] | None = None, start: int = 0, stop: int | None = None
) -> dict[str, np.ndarray]:
    """Columns of rows [start, stop).

    Args:
        path: Table.
        names: Columns; all by default.
        start: First row.
        stop: Row after the last; the end by default.

    Returns:
        Lists of fixed length as (rows, length), words as an object array.

    Raises:
        ValueError: If the table cannot be read or lacks rows or columns; the file is named.
    """
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            missing = [name for name in names or () if name not in known]
            if missing:
                raise ValueError(f"it has no column {', '.join(missing)}")
            stop = file.metadata.num_rows if stop is None else stop
            groups, first = _row_groups(file.metadata, start, stop)
            table = file.read_row_groups(groups, columns=None if names is None else list(names))
            table = table.slice(start - first, stop - start)
            if len(table) < stop - start:
                raise ValueError(f"it has {first + len(table)} rows, expected {stop}")
            return {name: _to_numpy(table[name].combine_chunks()) for name in table.column_names}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(
            f"dataset: cannot read {path} ({error}); delete it and record again"
        ) from error


def _row_groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that hold rows [start, stop), and the first row of them."""
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    firsts = np.cumsum([0, *sizes])
    groups = [i for i, size in enumerate(sizes) if firsts[i] < stop and firsts[i] + size > start]
    return groups, int(firsts[groups[0]]) if groups else 0


def _to_numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat.reshape(len(column), column.type.list_size))
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy(zero_copy_only=False))
