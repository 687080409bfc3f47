"""From columns of numbers, dates and categories to one vector per row, by statistics of the training rows alone.

A number or date x becomes (x - mean) / sd, and 0 where it is missing; a category becomes 1 at its place among the
categories of the training rows, and 0 at all others, so that an unknown one is 0 everywhere. A column of which training
rows lack cells has one more number, 1 where the cell is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from equilib_torch.data.cells import Floats, levels, parse_dates, parse_numbers
from equilib_torch.data.kinds import MAX_LEVELS, Column
from equilib_torch.data.modality import Array, BoolArray, IntArray
from equilib_torch.data.rows import Table
from equilib_torch.errors import InputError

Read: TypeAlias = Floats | list[str | None]
Spec: TypeAlias = dict[str, Any]
"""How one column becomes numbers, in what JSON can say."""

_FARTHEST = 1e4  # sd; no training value is as far: that would take 1e8 rows


def read_cells(table: Table, column: Column) -> Read:
    """Read a column of numbers or dates as (N,) numbers, one of categories as N names.

    Raises:
        InputError: a cell is none; names column and row.
    """
    cells = table.columns[column.name]
    if column.kind == "category":
        return levels(cells)
    number = column.kind == "number"
    parsed = parse_numbers(cells, column.decimal) if number else parse_dates(cells, column.form)
    if parsed.wrong:
        what = "must be finite numbers" if number else f"must be dates like {column.form or '2024-01-31'}"
        raise InputError(
            f"column {column.name!r}: cells {what} or empty, got {table.examples(column.name, parsed.wrong)}; mend "
            f"these cells, or say what the column is: --categorical {column.name}, --modality {column.name}=text"
        )
    return parsed.values


def missing_cells(read: Read) -> BoolArray:
    """Tell in which rows a cell is missing, (N,)."""
    if isinstance(read, np.ndarray):
        return np.isnan(read)
    return np.array([cell is None for cell in read], np.bool_)


def fit_column(column: Column, read: Read, rows: IntArray) -> Spec:
    """Take the statistics of some rows of a column.

    Raises:
        InputError: more than `MAX_LEVELS` categories.

    Example:
        >>> fit_column(Column("age", "number", "table"), np.array([1.0, 3.0, np.nan, 90.0]), np.arange(3))
        {'column': 'age', 'kind': 'number', 'decimal': '.', 'mean': 2.0, 'sd': 1.0, 'indicator': True}
    """
    spec: Spec = {"column": column.name, "kind": column.kind}
    indicator = bool(missing_cells(read)[rows].any())
    if not isinstance(read, np.ndarray):
        names = sorted({name for row in rows.tolist() if (name := read[row]) is not None})
        if len(names) > MAX_LEVELS:
            raise InputError(
                f"column {column.name!r}: categories must be {MAX_LEVELS:,} at most, got {len(names):,} in the "
                f"training rows; join some, or leave it out: --drop {column.name}"
            )
        return {**spec, "levels": names, "indicator": indicator}
    spec |= {"decimal": column.decimal} if column.kind == "number" else {"form": column.form}
    values = read[rows][~np.isnan(read[rows])]
    mean, sd = 0.0, 1.0
    if values.size:
        size = float(np.abs(values).max()) or 1.0  # divided by first: squares stay within float64 in any unit
        mean, spread = float((values / size).mean()), float((values / size).std())
        # The mean of a constant is rounded, so its sd may come out as something above 0.
        mean, sd = mean * size, spread * size if spread > 1e-12 else 1.0
    return {**spec, "mean": mean, "sd": sd, "indicator": indicator}


def vectors(specs: Sequence[Spec], reads: Mapping[str, Read], n_rows: int) -> tuple[Array, BoolArray]:
    """Make the vector of every row; a column that is not among those read is missing in all rows.

    Returns:
        (N, D) float32, and (N,) whether any cell of the row is there.

    Example:
        >>> specs = [{"column": "code", "kind": "category", "levels": ["007", "010"], "indicator": True}]
        >>> vectors(specs, {"code": ["010", "100", None]}, 3)
        (array([[0., 1., 0.],
                [0., 0., 0.],
                [0., 0., 1.]], dtype=float32), array([ True,  True, False]))
    """
    parts: list[npt.NDArray[np.floating[Any]]] = [np.zeros((n_rows, 0), np.float32)]
    present = np.zeros(n_rows, np.bool_)
    for spec in specs:
        read = reads.get(spec["column"])
        missing = np.ones(n_rows, np.bool_) if read is None else missing_cells(read)
        present |= ~missing
        if spec["kind"] == "category":
            parts.append(_one_hot(spec["levels"], read, n_rows))
        else:
            parts.append(_standardised(spec, read, n_rows)[:, None])
        if spec["indicator"]:
            parts.append(missing[:, None].astype(np.float32))
    return np.concatenate(parts, axis=1, dtype=np.float32), present


def _standardised(spec: Spec, read: Read | None, n_rows: int) -> Floats:
    if not isinstance(read, np.ndarray):
        return np.zeros(n_rows)
    with np.errstate(over="ignore"):
        standardised = np.clip((read - spec["mean"]) / spec["sd"], -_FARTHEST, _FARTHEST)
    return np.where(np.isnan(standardised), 0.0, standardised)


def _one_hot(names: Sequence[str], read: Read | None, n_rows: int) -> npt.NDArray[np.float32]:
    hot = np.zeros((n_rows, len(names)), np.float32)
    if isinstance(read, list):
        places = {name: k for k, name in enumerate(names)}
        codes = np.array([-1 if name is None else places.get(name, -1) for name in read])
        rows = np.flatnonzero(codes >= 0)
        hot[rows, codes[rows]] = 1
    return hot


def column_of(spec: Spec, modality: str) -> Column:
    """Give the column that a specification was made from.

    Example:
        >>> column_of({"column": "age", "kind": "number", "decimal": ","}, "table").decimal
        ','
    """
    return Column(spec["column"], spec["kind"], modality, spec.get("decimal", "."), spec.get("form"))


def digest(reads: Mapping[str, Read]) -> str:
    """SHA-256 of what columns hold, before any statistics: the same for every seed."""
    sha = hashlib.sha256()
    for name, read in reads.items():
        content = read.tobytes() if isinstance(read, np.ndarray) else repr(read).encode("utf-8", "surrogatepass")
        sha.update(f"{len(name)} {name} {len(content)} ".encode("utf-8", "surrogatepass"))
        sha.update(content)
    return sha.hexdigest()
