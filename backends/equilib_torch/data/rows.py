"""A table in memory: named columns of cells, and where its rows stand in their file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilib_torch.data.cells import Cell
from equilib_torch.errors import InputError

RESERVED = ("split", "group")
"""Columns that are no data, beside the label."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length.

    Attributes:
        name: of the data set.
        columns: cells of each column, by its name, in order; None where there is nothing.
        root: the folder that paths in its cells start from, unless another is given.
        lines: (N,) line of the file on which each row begins, from 1; None if it has none.
        notes: how the file was read, where that leaves a doubt.
    """

    name: str
    columns: Mapping[str, Sequence[Cell]]
    root: Path
    lines: Sequence[int] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Say where a row is.

        Example:
            >>> Table("toy", {"x": ["1"]}, Path(), lines=[2]).place(0)
            'row 0 (line 2)'
        """
        return f"row {row}" if self.lines is None else f"row {row} (line {self.lines[row]})"

    def examples(self, column: str, rows: Sequence[int]) -> str:
        """Show the first of some cells, with its place, and how many more there are.

        Example:
            >>> Table("toy", {"x": ["a", "b", "c"]}, Path()).examples("x", [1, 2])
            "'b' in row 1 and 1 more"
        """
        more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        return f"{self.columns[column][rows[0]]!r:.80} in {self.place(rows[0])}{more}"


def make_table(
    name: str,
    columns: Mapping[str, Sequence[Cell]],
    root: Path,
    *,
    lines: Sequence[int] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Put a table together.

    Columns without a name are left out if they are empty, as spreadsheets write them behind the last one, or if they
    count the rows, as pandas writes its index.

    Raises:
        InputError: no rows, or another column without a name.
    """
    said = list(notes)
    kept: dict[str, Sequence[Cell]] = {}
    for k, (key, cells) in enumerate(columns.items()):
        if key.strip("\0"):
            kept[key] = cells
        elif [*map(str, range(len(cells)))] == [str(cell) for cell in cells]:
            said.append(f"column {k + 1} has no name and counts the rows: it is left out")
        elif any(cell is not None for cell in cells):
            raise InputError(f"column {k + 1} has no name in the header; give it one")
    table = Table(name, kept, root, lines, tuple(said))
    if not len(table):
        raise InputError("holds no rows")
    return table


def unnamed(k: int) -> str:
    """Give the key of column k where the header has no name for it."""
    return "\0" * (k + 1)


def check_header(names: Sequence[str]) -> list[str]:
    r"""Strip the names of columns, and refuse one that occurs twice.

    Example:
        >>> check_header(["a", " b ", ""])
        ['a', 'b', '\x00\x00\x00']
    """
    stripped = [name.strip() or unnamed(k) for k, name in enumerate(names)]
    for k, name in enumerate(stripped):
        if name in stripped[:k]:
            raise InputError(
                f"header: column names must be distinct, got {name[:80]!r} in columns {stripped.index(name) + 1} and "
                f"{k + 1}; rename one of them"
            )
    return stripped


def check_cells(table: Table, column: str) -> None:
    """Refuse what no column of a modality can hold: lists, structures, bytes, durations.

    Raises:
        InputError: names the column and the row.
    """
    from datetime import date
    from decimal import Decimal

    known = (str, bool, int, float, date, Decimal, type(None))
    wrong = {kind for kind in set(map(type, table.columns[column])) if not issubclass(kind, known)}
    if not wrong:
        return
    row = next(row for row, cell in enumerate(table.columns[column]) if type(cell) in wrong)
    cell = table.columns[column][row]
    remedy = "give the single values columns of their own"
    if isinstance(cell, bytes) or (isinstance(cell, Mapping) and "bytes" in cell):
        remedy = "save the pictures or sounds as files, and give their paths"
    elif not isinstance(cell, list | tuple | dict | np.ndarray):
        remedy = "write it as a text, number or date"
    raise InputError(
        f"column {column!r}: a cell must be a text, number or date, got {type(cell).__name__} in {table.place(row)}; "
        f"{remedy}, or leave the column out: --drop {column}"
    )
