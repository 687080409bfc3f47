"""What the cells of a column hold: nothing, a number, a date, a category or a text.

A cell is whatever came out of a file or a DataFrame: a string, a number, a date, or None where there is nothing. A
column is a list of them. A column of numbers, dates or paths may also say in words that there is nothing (`NA_WORDS`);
in texts and categories these words are honest values, such as the country NA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Cell: TypeAlias = Any
Cells: TypeAlias = Sequence[Cell]
Floats: TypeAlias = npt.NDArray[np.float64]

NA_WORDS = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "-nan", "none", "null"})
"""Words for nothing in columns of numbers, dates and paths; upper and lower case alike."""

DATE_FORMATS = ("%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y")
"""Forms of dates beside ISO 8601."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86400.0


def is_na_word(cell: Cell) -> bool:
    """Tell whether a cell says in a word that there is nothing.

    Example:
        >>> is_na_word("NaN"), is_na_word("nano"), is_na_word(None)
        (True, False, False)
    """
    return isinstance(cell, str) and len(cell) < 12 and cell.strip().lower() in NA_WORDS


def without_na_words(cells: Cells) -> list[Cell]:
    """Replace blank cells and words for nothing by None.

    Example:
        >>> without_na_words(["a.png", " ", "NA", None])
        ['a.png', None, None, None]
    """
    # By the distinct ones: few are such words, and most columns have none.
    words = {cell for cell in set(cells) if isinstance(cell, str) and (is_na_word(cell) or not cell.strip())}
    return [None if cell in words else cell for cell in cells] if words else list(cells)


def na_words(cells: Cells) -> list[int]:
    """Give the rows that say in a word that there is nothing.

    Example:
        >>> na_words(["NA", "Namibia", None, "none"])
        [0, 3]
    """
    words = {cell for cell in set(cells) if is_na_word(cell)}
    return [row for row, cell in enumerate(cells) if cell in words] if words else []


def levels(cells: Cells) -> list[str | None]:
    """Write the cells of a column as names of categories; see `level`.

    Example:
        >>> levels([True, 1, "1 "])
        ['True', '1', '1']
    """
    if all(cell is None or type(cell) is str for cell in set(cells)):  # or True and 1 would be one
        names = {cell: level(cell) for cell in set(cells)}
        return [names[cell] for cell in cells]
    return [level(cell) for cell in cells]


@dataclass(frozen=True)
class Parsed:
    """A column read as numbers.

    Attributes:
        values: (N,) numbers, NaN where the cell is missing or wrong.
        wrong: rows whose cell is there and is no finite number.
        like: how many cells are numbers, infinite ones included.
    """

    values: Floats
    wrong: list[int]
    like: int


def parse_numbers(cells: Cells, decimal: str = ".") -> Parsed:
    """Read a column of numbers; booleans count as 0 and 1.

    Args:
        cells: the column.
        decimal: what stands before the decimals, "." or ",".

    Example:
        >>> parse_numbers(["1.5", "NA", "7", "x", "inf"])
        Parsed(values=array([1.5, nan, 7. , nan, nan]), wrong=[3, 4], like=3)
    """
    cells = without_na_words(cells)
    quick = _parsed_at_once(cells) if decimal == "." else None
    return _parsed(cells, lambda cell: number(cell, decimal)) if quick is None else quick


def parse_dates(cells: Cells, form: str | None = None) -> Parsed:
    """Read a column of dates, as days since 1970 began; a time without a zone counts as UTC.

    Args:
        cells: the column.
        form: of the dates that are text, as `strptime` has it; None: ISO 8601.

    Example:
        >>> parse_dates(["1970-01-02", "1970-01-01 12:00", "yesterday"])
        Parsed(values=array([1. , 0.5, nan]), wrong=[2], like=2)
    """
    return _parsed(without_na_words(cells), lambda cell: days(cell, form))


def _parsed_at_once(cells: Cells) -> Parsed | None:
    """Read a column of nothing but finite numbers, many times faster; None if it is another."""
    if not {type(cell) for cell in cells} <= {str, int, float, bool, type(None)}:
        return None
    if any("_" in cell for cell in cells if type(cell) is str):  # Python would skip it
        return None
    try:
        values = np.array(cells, dtype=object).astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    if np.isinf(values).any():
        return None
    return Parsed(values, [], int(np.count_nonzero(~np.isnan(values))))


def _parsed(cells: Cells, read: Callable[[Cell], float | None]) -> Parsed:
    values = np.full(len(cells), math.nan)
    wrong, like = [], 0
    for row, cell in enumerate(cells):
        if cell is None:
            continue
        x = read(cell)
        like += x is not None
        if x is None or not math.isfinite(x):
            wrong.append(row)
        else:
            values[row] = x
    return Parsed(values, wrong, like)


def number(cell: Cell, decimal: str = ".") -> float | None:
    """Read one number; None if it is none.

    Example:
        >>> number("-1e3"), number("1,5", ","), number("1_000"), number(10**400)
        (-1000.0, 1.5, None, inf)
    """
    if isinstance(cell, str):
        if "_" in cell:  # Python would skip it
            return None
        cell = cell.replace(",", ".") if decimal == "," and cell.count(",") == 1 and "." not in cell else cell
    elif not isinstance(cell, bool | int | float | Decimal):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except ValueError:
        return None


def days(cell: Cell, form: str | None = None) -> float | None:
    """Read one date, as days since 1970 began; None if it is none.

    Example:
        >>> days("31.01.1970", "%d.%m.%Y")
        30.0
    """
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell.strip()) if form is None else datetime.strptime(cell.strip(), form)
        except ValueError:
            return None
    if isinstance(cell, datetime):
        moment = cell if cell.tzinfo else cell.replace(tzinfo=UTC)
        return (moment - _EPOCH).total_seconds() / _DAY
    if isinstance(cell, date):
        return float(cell.toordinal() - _EPOCH.toordinal())
    return None


def level(cell: Cell) -> str | None:
    """Write a cell as the name of a category, without blanks around it; None if it is empty.

    Example:
        >>> level(" 007 "), level(7.0), level(True), level("")
        ('007', '7', 'True', None)
    """
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return None if cell is None else str(cell).strip() or None


def text(cell: Cell) -> str:
    """Write a cell as a text, "" if it is empty or blank.

    Example:
        >>> text("NA"), text("  "), text(3)
        ('NA', '', '3')
    """
    written = "" if cell is None else str(cell)
    return written if written.strip() else ""
