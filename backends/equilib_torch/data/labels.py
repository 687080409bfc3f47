"""The label column of a table: one class per row."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from equilib_torch.data.cells import Cell, Cells, level, levels, na_words, number
from equilib_torch.data.modality import Array
from equilib_torch.data.rows import Table
from equilib_torch.errors import InputError


class Labels(NamedTuple):
    """Labels and what is to be said of them.

    Attributes:
        values: (N,) int64 or strings.
        notes: how they were read.
        warnings: what may be wrong with them.
    """

    values: Array
    notes: list[str]
    warnings: list[str]


def read_labels(table: Table, label: str) -> Labels:
    """Read the label column: whole numbers become integers, all else strings without blanks around them.

    Labels that differ by case stay different.

    Raises:
        InputError: there is no such column, a row has no label, or the labels are no classes but measurements.

    Example:
        >>> from pathlib import Path
        >>> read_labels(Table("toy", {"label": ["1", "2", "1"]}, Path()), "label").values
        array([1, 2, 1])
    """
    if label not in table.columns:
        raise InputError(
            f"label: there is no column {label!r}, only {', '.join(table.columns)}; say which it is: --label COLUMN"
        )
    cells = table.columns[label]
    names = levels(cells)
    missing = [row for row, name in enumerate(names) if name is None]
    if missing:
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise InputError(
            f"column {label!r}: every row needs a label, {table.place(missing[0])}{more} has none; fill it in, or "
            "remove the row"
        )
    values = label_values(cells)
    notes, warnings = [], []
    blank = [row for row, cell in enumerate(cells) if isinstance(cell, str) and cell != cell.strip()]
    if blank:
        notes.append(f"column {label!r}: blanks around labels are left out, as in {table.examples(label, blank)}")
    words = na_words(cells)
    if words:
        notes.append(f"column {label!r}: {table.examples(label, words)} is taken as the name of a class")
    if values.dtype.kind != "i":
        _require_classes(table, label)
        warnings += _alike(label, {name for name in names if name is not None})
    single = [name for name, count in Counter(names).items() if count == 1]
    if single:
        shown = ", ".join(map(repr, single[:3])) + (f" and {len(single) - 3:,} more" if len(single) > 3 else "")
        warnings.append(
            f"column {label!r}: {len(single):,} of {len(set(names)):,} classes have one row only ({shown}), which can "
            "train but not test them"
        )
    return Labels(values, notes, warnings)


def label_values(cells: Cells) -> Array:
    """Give labels as (N,) integers if all are whole numbers as Python writes them, else as strings.

    Example:
        >>> label_values(["1", "2"]), label_values(["01", "2"]), label_values([True, False]), label_values([1.0, 2.0])
        (array([1, 2]), array(['01', '2'], dtype='<U2'), array([1, 0]), array([1, 2]))
    """
    whole = [_whole(cell) for cell in cells]
    if all(value is not None for value in whole):
        return np.array(whole, np.int64)
    return np.array([level(cell) or "" for cell in cells], np.str_)


def _whole(cell: Cell) -> int | None:
    if isinstance(cell, float) and not cell.is_integer():
        return None
    if isinstance(cell, str):
        text = cell.strip()
        if not (len(text) < 20 and text.lstrip("-").isdecimal() and str(int(text)) == text):
            return None
        cell = text
    elif not isinstance(cell, bool | int | float):
        return None
    value = int(cell)
    return value if -(2**63) <= value < 2**63 else None


def _require_classes(table: Table, label: str) -> None:
    cells = table.columns[label]
    numbers = [number(name) for name in levels(cells)]
    fractions = [row for row, x in enumerate(numbers) if x is not None and x == x and not x.is_integer()]
    if fractions and all(x is not None for x in numbers):
        raise InputError(
            f"column {label!r}: labels must be whole numbers or names of classes, got "
            f"{table.examples(label, fractions)}; divide the range into classes, or say which column is the label by "
            "--label COLUMN"
        )


def _alike(label: str, names: set[str]) -> list[str]:
    """Warn of names that differ by nothing but case."""
    by_fold: dict[str, list[str]] = {}
    for name in sorted(names):
        by_fold.setdefault(name.casefold(), []).append(name)
    return [
        f"column {label!r}: {' and '.join(map(repr, alike))} are different classes; write them alike if they are one"
        for alike in by_fold.values()
        if len(alike) > 1
    ]
