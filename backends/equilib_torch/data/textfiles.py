"""Reading tables from text files: `.csv`, `.tsv` and `.jsonl`.

Every cell of a `.csv` or `.tsv` file is the text that stands there, so that 007 stays 007; an empty one is missing.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equilib_torch.data.cells import Cell
from equilib_torch.data.rows import Table, check_header, make_table
from equilib_torch.errors import InputError

SEPARATORS = (",", ";", "\t", "|")
_SHOWN = {"\t": "tab"}
_SAMPLE = 50  # records that are looked at for the separator
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text_file(path: Path, encoding: str | None) -> str:
    """Read a file as text: in the encoding given, else as its byte order mark says, else as UTF-8.

    Args:
        path: a regular file.
        encoding: such as "cp1252".

    Raises:
        InputError: an unknown encoding, or bytes that are no text in it; names the first of them by its offset.
    """
    content = path.read_bytes()
    marked = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    chosen = marked if encoding is None or codecs_equal(encoding, "utf-8") else encoding
    try:
        return content.decode(chosen)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remedy = "give the right one by --encoding" if encoding else "if it is from Windows: --encoding cp1252"
        raise InputError(
            f"must be text in the encoding {chosen}, got byte 0x{content[error.start]:02x} at offset {error.start} "
            f"(line {line}); {remedy}"
        ) from error
    except (LookupError, ValueError) as error:  # no encoding of texts, or none at all
        raise InputError(
            f"encoding must be one that Python knows, such as utf-8 or cp1252, got {encoding!r}"
        ) from error


def codecs_equal(one: str, other: str) -> bool:
    """Tell whether two names are of the same encoding.

    Example:
        >>> codecs_equal("UTF8", "utf-8"), codecs_equal("no such", "utf-8")
        (True, False)
    """
    try:
        return codecs.lookup(one).name == codecs.lookup(other).name
    except LookupError:
        return False


def read_csv(path: Path, encoding: str | None) -> Table:
    """Read a `.csv` or `.tsv` file with a header.

    The separator of a `.csv` file is found: it is the one of comma, semicolon, tab and | by which the most records have
    as many cells as the header. Cells may be quoted; lines with nothing in them are skipped.

    Raises:
        InputError: no header, a name twice, a record with more or fewer cells than the header, a quote without its end.
    """
    text = read_text_file(path, encoding)
    separator = "\t" if path.suffix.lower() == ".tsv" else find_separator(text)
    with _long_fields():
        records = _records(text, separator)
        first = next(records, None)
        if first is None:
            raise InputError("the file is empty; it needs a header, and a row per sample")
        header = check_header(first[1])
        lines: list[int] = []
        rows: list[list[str]] = []
        for line, record in records:
            if len(record) != len(header):
                raise InputError(
                    f"line {line} has {len(record)} cells, the header has {len(header)} (separator "
                    f"{_SHOWN.get(separator, separator)!r}); quote cells that hold the separator"
                )
            lines.append(line)
            rows.append(record)
    cells = zip(*rows, strict=True) if rows else ((),) * len(header)
    columns = {name: [cell or None for cell in column] for name, column in zip(header, cells, strict=True)}
    notes = (
        [] if separator == "," or path.suffix.lower() == ".tsv" else [f"separator {_SHOWN.get(separator, separator)!r}"]
    )
    return make_table(path.stem, columns, path.parent, lines=lines, notes=notes)


def find_separator(text: str) -> str:
    r"""Find the separator of a `.csv` file.

    Example:
        >>> find_separator('"a,b";c\n1,5;2\n')
        ';'
    """

    def fit(separator: str) -> tuple[float, int]:
        sample = []
        try:
            for _, record in _records(text, separator):
                sample.append(len(record))
                if len(sample) == _SAMPLE:
                    break
        except InputError:  # a quote that is none with this separator: judged by what came before
            pass
        if not sample or sample[0] < 2:
            return 0.0, 0
        return sum(size == sample[0] for size in sample) / len(sample), sample[0]

    with _long_fields():
        return max(SEPARATORS, key=fit)  # the first of equals


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give every record with something in it, and the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"line {line}: the record that begins here is broken ({error}); a quote in a quoted cell is doubled"
            ) from error
        if any(cell.strip() for cell in record):
            yield line, record


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let cells be as long as they are."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_jsonl(path: Path, encoding: str | None) -> Table:
    """Read a `.jsonl` file: an object on each line, whose keys are the columns; a key that is left out is missing.

    Raises:
        InputError: a line that is no object, or an object with a key twice.
    """
    lines, records = [], []
    for line, text in enumerate(read_text_file(path, encoding).split("\n"), 1):
        if text.strip():
            lines.append(line)
            records.append(_object(text, line))
    if not records:
        raise InputError("the file is empty; it needs an object on each line")
    keys = list(dict.fromkeys(key for record in records for key in record))
    header = check_header(keys)
    cells = ([_missing_as_none(record.get(key)) for record in records] for key in keys)
    return make_table(path.stem, dict(zip(header, cells, strict=True)), path.parent, lines=lines)


def _object(text: str, line: int) -> dict[str, Any]:
    try:
        record = json.loads(text, object_pairs_hook=_distinct)
        json.dumps(record, ensure_ascii=False).encode()  # an escape may say half a character, which no text can hold
    except InputError as error:
        raise InputError(f"line {line}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"line {line}: must be a JSON object ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"line {line}: must be a JSON object, got {type(record).__name__}")
    return record


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for key in record if sum(key == other for other, _ in pairs) > 1)
        raise InputError(f"keys must be distinct, got {twice[:80]!r} twice")
    return record


def _missing_as_none(cell: Cell) -> Cell:
    return None if cell == "" or (isinstance(cell, float) and math.isnan(cell)) else cell
