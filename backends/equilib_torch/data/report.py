"""What is said of a table before it trains: a line per column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from equilib_torch.data.cells import Cells
from equilib_torch.data.kinds import Column
from equilib_torch.data.vectors import Read

_WIDTH = 48  # letters of what is shown of a column's values


def shown_values(column: Column, cells: Cells, read: Read | None, n_present: int) -> str:
    """Say in a few words what a column holds.

    Example:
        >>> shown_values(Column("age", "number", "table"), ["1", "2.5"], np.array([1, 2.5]), 2)
        '1 to 2.5'
        >>> shown_values(Column("code", "category", "table"), ["007", "010"], ["007", "010"], 2)
        '2 levels: 007, 010'
    """
    if isinstance(read, np.ndarray):
        ends = (float(np.nanmin(read)), float(np.nanmax(read)))
        return " to ".join(map(_day, ends) if column.kind == "date" else (f"{end:g}" for end in ends))
    if read is not None:
        levels = sorted({name for name in read if name is not None})
        return _cut(f"{len(levels):,} {'level' if len(levels) == 1 else 'levels'}: {', '.join(levels)}")
    if column.kind == "text":
        distinct = len({cell for cell in cells if cell is not None})
        return f"{n_present:,} texts, {distinct:,} different"
    return f"{n_present:,} files"


def describe(schema: Mapping[str, Any]) -> str:
    """Show the columns of a table, their kinds and modalities, in lines.

    Example:
        >>> print(describe({"columns": [
        ...     {"column": "age", "kind": "number", "modality": "table", "values": "1 to 9", "missing": 2}]}))
        column  kind    modality  missing  values
        age     number  table           2  1 to 9
    """
    titles = ("column", "kind", "modality", "missing", "values")
    rows = [titles, *(tuple(_cut(str(column[title])) for title in titles) for column in schema["columns"])]
    widths = [max(len(row[k]) for row in rows) for k in range(len(titles))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if title == "missing" else cell.ljust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _cut(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 1]}…"


def _day(days: float) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        return f"day {days:g}"
    return moment.date().isoformat()
