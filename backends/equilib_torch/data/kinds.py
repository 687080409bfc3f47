"""What the columns of a table are: inferred from their names and cells, or declared.

A modality is declared as NAME=KIND[:COLUMN,…], KIND being one of `KINDS`; without columns, that of its name is meant.
What is not declared is inferred: `infer` says how; frames, paths of folders of pictures, and array, paths of `.npy`
files, never are.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from equilib_torch.data.cells import (
    DATE_FORMATS,
    Cell,
    level,
    levels,
    na_words,
    parse_dates,
    parse_numbers,
    without_na_words,
)
from equilib_torch.data.modality import check_name
from equilib_torch.data.rows import Table
from equilib_torch.errors import InputError

Media = Literal["image", "audio", "video"]
ModalityKind = Literal["image", "audio", "video", "frames", "array", "text", "table"]
ColumnKind = Literal["image", "audio", "video", "frames", "array", "text", "number", "date", "category"]

MEDIA: tuple[Media, ...] = ("image", "audio", "video")
KINDS: tuple[ModalityKind, ...] = (*MEDIA, "frames", "array", "text", "table")
EXTENSIONS: Mapping[Media, frozenset[str]] = {
    "image": frozenset(
        [
            ".png",
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".gif",
            ".bmp",
            ".tif",
            ".tiff",
            ".webp",
            ".avif",
            ".jp2",
            ".ppm",
            ".pgm",
        ]
    ),
    "audio": frozenset([".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".m4a", ".aac"]),
    "video": frozenset([".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".flv", ".wmv", ".ogv"]),
}
"""By what a cell ends that names a file of each kind; upper and lower case alike."""

_OF_MODALITY: Mapping[ColumnKind, ModalityKind] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "frames": "frames",
    "array": "array",
    "text": "text",
    "number": "table",
    "date": "table",
    "category": "table",
}

TABLE = "table"
"""The modality of all numbers, dates and categories that are not declared otherwise."""

MAX_LEVELS = 1000
"""Most categories of a column."""

_MOST = 0.8  # part of the cells that make a column what they are, so that the others are faults
_SAMPLE = 2000  # cells, evenly spaced, that tell what most of a column are
_FEW = 100  # most categories that are taken for such
_TEXT_NAMES = re.compile(r"text|caption|title|sentence|comment|description|review|body|transcript|keywords|tweet", re.I)
_LEADING_ZERO = re.compile(r"0\d+")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_IDENTIFIER = re.compile(r"(.*[_ ])?(id|index|uuid|key)|id", re.I)


@dataclass(frozen=True)
class Column:
    """What one column is.

    Attributes:
        name: of the column.
        kind: of its cells.
        modality: which it belongs to.
        decimal: what stands before the decimals of its numbers.
        form: of its dates, as `strptime` has it; None: ISO 8601.
    """

    name: str
    kind: ColumnKind
    modality: str
    decimal: str = "."
    form: str | None = None


@dataclass(frozen=True)
class Declared:
    """A modality as it was declared.

    Attributes:
        name: of the modality.
        kind: of it.
        columns: that belong to it; one, unless its kind is table.
    """

    name: str
    kind: ModalityKind
    columns: tuple[str, ...]


def read_declaration(text: str) -> Declared:
    """Read NAME=KIND[:COLUMN,…]; a column whose name holds a comma is quoted.

    Raises:
        InputError: another form, or an unknown kind.

    Example:
        >>> read_declaration("vitals=table:pulse,age").columns
        ('pulse', 'age')
    """
    name, equals, rest = text.partition("=")
    kind, colon, listed = rest.partition(":")
    if not equals or kind not in KINDS:
        raise InputError(
            f"modality must be NAME=KIND or NAME=KIND:COLUMN,…, KIND one of {', '.join(KINDS)}, got {text[:200]!r}"
        )
    check_name(name)
    columns = [column.strip() for column in next(csv.reader([listed]), [])] if colon else [name]
    if not all(columns) or len(set(columns)) < len(columns) or (len(columns) > 1 and kind != "table"):
        rule = "name distinct columns" if kind == "table" else "name one column"
        raise InputError(f"modality {name}: must {rule}, got {listed[:200]!r}")
    return Declared(name, kind, tuple(columns))


def write_declaration(declared: Declared) -> str:
    """Write a declaration; `read_declaration` is the inverse.

    Example:
        >>> write_declaration(Declared("vitals", "table", ("pulse", "age, years")))
        'vitals=table:pulse,"age, years"'
        >>> write_declaration(Declared("caption", "text", ("caption",)))
        'caption=text'
    """
    if declared.columns == (declared.name,):
        return f"{declared.name}={declared.kind}"
    listed = io.StringIO()
    csv.writer(listed, lineterminator="").writerow(declared.columns)
    return f"{declared.name}={declared.kind}:{listed.getvalue()}"


def assign(
    table: Table, columns: Sequence[str], declared: Sequence[Declared], categorical: Iterable[str]
) -> list[Column]:
    """Say what each column is, and to which modality it belongs.

    Args:
        table: with the columns.
        columns: names of those that are data.
        declared: modalities; what they do not name is inferred.
        categorical: columns that are categories, whatever they look like.

    Returns:
        The columns in order.

    Raises:
        InputError: a declaration that does not fit, or a column that has no value or leaves a doubt.
    """
    owners: dict[str, Declared] = {}
    for one in declared:
        for name in one.columns:
            _require_known("modality", name, columns)
            if name in owners:
                raise InputError(
                    f"modality: a column belongs to one only, got {name!r} in {owners[name].name} and {one.name}"
                )
            owners[name] = one
    names = [one.name for one in declared]
    if len(set(names)) < len(names):
        raise InputError(f"modality: names must be distinct, got {', '.join(names)}")
    chosen = list(categorical)
    for name in chosen:
        _require_known("categorical", name, columns)
        if name in owners and owners[name].kind != "table":
            raise InputError(
                f"categorical: column {name!r} is declared to be of kind {owners[name].kind}; leave one out"
            )
    return [_column(table, name, owners.get(name), name in chosen) for name in columns]


def _require_known(option: str, name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        raise InputError(f"{option}: there is no column {name!r} of data, only {', '.join(columns)}")


def _column(table: Table, name: str, owner: Declared | None, categorical: bool) -> Column:
    if all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in table.columns[name]):
        raise InputError(f"column {name!r} has no value: all {len(table)} cells are empty; leave it out: --drop {name}")
    if owner is not None and owner.kind != "table":
        return Column(name, owner.kind, owner.name)
    column = Column(name, "category", TABLE) if categorical else infer(table, name, vector=owner is not None)
    if owner is not None:
        return replace(column, modality=owner.name)
    if column.modality != TABLE:
        check_name(name)
    return column


def infer(table: Table, name: str, *, vector: bool = False) -> Column:
    """Say what a column is by its cells, and where these leave a doubt by its name.

    In this order, where "most" is 80 % of the cells that are not missing, of 2,000 of them, evenly spaced, if there are
    more. Most end like the name of a picture, sound or film: paths. Whole numbers some of which begin with 0:
    categories. Most are numbers (or dates): numbers (or dates), and the others faults. A name such as `caption`: text.
    Few values, of few words: categories. Else text.

    Args:
        table: with the column.
        name: of the column.
        vector: it can be a number, date or category only.

    Raises:
        InputError: it can be read in two ways.

    Example:
        >>> from pathlib import Path
        >>> columns = {"x": ["1", "2.5", None], "y": ["07", "10", "07"], "z": ["a.PNG", "b.jpg", "NA"]}
        >>> table = Table("toy", columns, Path())
        >>> [infer(table, name).kind for name in table.columns]
        ['number', 'category', 'image']
    """
    cells = [cell for cell in without_na_words(table.columns[name]) if cell is not None]
    if not cells:
        raise InputError(
            f"column {name!r} has no value but words for nothing such as 'none'; leave it out: --drop {name}"
        )
    whole, step = cells, max(1, len(cells) // _SAMPLE)
    cells = cells[::step]
    enough = _MOST * len(cells)
    texts = [cell for cell in cells if isinstance(cell, str)]
    if not vector and len(texts) >= enough:
        suffixes = Counter(f".{path.rstrip().rpartition('.')[2][:5].lower()}" for path in texts if len(path) < 4096)
        counts = {kind: sum(suffixes[end] for end in ends) for kind, ends in EXTENSIONS.items()}
        if sum(counts.values()) >= enough:
            most = max(MEDIA, key=lambda kind: counts[kind])
            return Column(name, most, name)
    # Whole numbers never begin with 0: these are codes.
    coded = all((level(cell) or "").isdecimal() for cell in cells) and any(
        _LEADING_ZERO.fullmatch(cell.strip()) for cell in set(whole) if isinstance(cell, str)
    )
    if coded or {type(cell) for cell in cells} == {bool}:
        return Column(name, "category", TABLE)
    if parse_numbers(cells).like >= enough:
        return Column(name, "number", TABLE)
    if sum(_COMMA.fullmatch(text.strip()) is not None for text in texts) >= enough / 2 and (
        parse_numbers(cells, ",").like >= enough
    ):
        _require_decimals(table, name, texts)
        return Column(name, "number", TABLE, decimal=",")
    if (form := _date_form(table, name, cells, enough)) != "":
        return Column(name, "date", TABLE, form=form)
    return Column(name, "category", TABLE) if vector or _are_categories(name, whole) else Column(name, "text", name)


def _require_decimals(table: Table, name: str, texts: Sequence[str]) -> None:
    if all(len(text.strip().rpartition(",")[2]) == 3 for text in texts if "," in text):
        row = next(row for row, cell in enumerate(table.columns[name]) if isinstance(cell, str) and "," in cell)
        raise InputError(
            f"column {name!r}: {table.columns[name][row]!r:.40} in {table.place(row)} can mean thousands or decimals; "
            "write numbers without separators of thousands, and with a decimal point"
        )


def _date_form(table: Table, name: str, cells: Sequence[Cell], enough: float) -> str | None:
    """Find the form of dates that most cells have: None for ISO 8601, "" if they are no dates."""
    if not any(isinstance(cell, date) or (isinstance(cell, str) and re.match(r"\s*\d", cell)) for cell in cells[:100]):
        return ""
    if parse_dates(cells).like >= enough:
        return None
    head = cells[:100]
    likely = [form for form in DATE_FORMATS if parse_dates(head, form).like >= _MOST * len(head)]
    forms = [form for form in likely if parse_dates(cells, form).like >= enough]
    whole = [form for form in forms if parse_dates(cells, form).like == len(cells)]
    forms = whole or forms
    if len(forms) > 1:
        raise InputError(
            f"column {name!r}: dates such as {table.examples(name, [0])} can mean day/month or month/day; write them "
            "as 2024-01-31, or leave the column out"
        )
    return forms[0] if forms else ""


def _are_categories(name: str, cells: Sequence[Cell]) -> bool:
    """Tell few values of few words, which categories have, from texts."""
    if not all(isinstance(cell, str) for cell in cells):
        return True
    if _TEXT_NAMES.search(name):
        return False
    distinct = set(cells)
    words = sum(len(cell.split()) for cell in distinct) / len(distinct)
    return len(distinct) <= min(_FEW, max(2, len(cells) // 2)) and words <= 3


def doubts(table: Table, columns: Sequence[Column]) -> list[str]:
    """Say what in columns of texts, categories and numbers may be meant otherwise, a line for each column."""
    said = []
    for column in columns:
        cells = table.columns[column.name]
        if column.kind in ("text", "category"):
            rows = na_words(cells)
            if rows:
                said.append(
                    f"column {column.name!r}: {len(rows):,} cells such as {table.examples(column.name, rows[:1])} are "
                    "kept as they are; only an empty cell is missing here"
                )
        if column.kind in ("text", "number") and _IDENTIFIER.fullmatch(column.name):
            distinct = len(set(levels(cells)))
            if distinct == len(cells):
                said.append(
                    f"column {column.name!r}: no two rows are alike, as in an identifier; leave it out by --drop "
                    f"{column.name}"
                )
        if column.decimal == ",":
            said.append(f"column {column.name!r}: decimal commas")
    return said


def declarations(columns: Sequence[Column]) -> list[Declared]:
    """Give the modalities that columns belong to, in order of their first columns."""
    found: dict[str, Declared] = {}
    for column in columns:
        kind = _OF_MODALITY[column.kind]
        before = found.get(column.modality, Declared(column.modality, kind, ()))
        if before.kind != kind or (before.columns and kind != "table"):
            raise InputError(
                f"modality: there are two of the name {column.modality!r}; name one otherwise, such as "
                f"--modality other={kind}:{column.name}"
            )
        found[column.modality] = replace(before, columns=(*before.columns, column.name))
    return list(found.values())
