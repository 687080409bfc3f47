"""Reading tables from what has types of its own: pandas DataFrames and `.parquet` files."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from equilib_torch.data.cells import Cell
from equilib_torch.data.rows import Table, check_header, make_table
from equilib_torch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MAX_BYTES = 8 * 2**30
"""Most that the columns of a parquet file may take once unpacked."""


def is_frame(source: object) -> TypeGuard[pd.DataFrame]:
    """Tell whether something is a pandas DataFrame; if it is, pandas has been imported.

    Example:
        >>> is_frame({"a": [1]})
        False
    """
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def read_frame(frame: pd.DataFrame) -> Table:
    """Take a DataFrame as it is; its index does not count, and what pandas calls missing is missing.

    Raises:
        InputError: names of columns that are no single ones, or that occur twice.
    """
    if frame.columns.nlevels > 1:
        raise InputError("DataFrame: columns must have one name each, got several levels; join them")
    header = check_header([str(name) for name in frame.columns])
    columns = {}
    for k, name in enumerate(header):
        series = frame.iloc[:, k]
        missing = series.isna().to_numpy()
        cells = series.astype(object).tolist()
        columns[name] = [None if lacks else _cell(cell) for cell, lacks in zip(cells, missing, strict=True)]
    return make_table("table", columns, Path())


def read_parquet(path: Path) -> Table:
    """Read a `.parquet` file; an index that pandas has written is left out.

    Raises:
        InputError: the file is damaged, unpacks to more than 8 GiB, or has two columns of one name.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise InputError("a .parquet file needs the extra [media]; or save it as .csv") from error
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            size = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
            if size > MAX_BYTES:
                raise InputError(f"unpacks to {size / 2**30:.1f} GiB, more than the limit of {MAX_BYTES / 2**30:g} GiB")
            read = file.read()
        columns = [_pylist(column, pa) for column in read.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read as a .parquet file ({' '.join(str(error).split())[:200]})") from error
    index = (read.schema.pandas_metadata or {}).get("index_columns", [])
    header = check_header(read.column_names)
    return make_table(
        path.stem, {name: c for name, c in zip(header, columns, strict=True) if name not in index}, path.parent
    )


def _pylist(column: Any, pa: Any) -> list[Cell]:
    """Give the cells of a column of PyArrow's; Python's times end at microseconds."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return [_cell(cell) for cell in column.to_pylist()]


def _cell(cell: Cell) -> Cell:
    """Give a cell as Python has it: no scalars of NumPy's, no paths, nothing for NaN and for no text."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if isinstance(cell, Path):
        return str(cell)
    return None if isinstance(cell, str) and not cell else cell
