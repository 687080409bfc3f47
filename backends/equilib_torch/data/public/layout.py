"""What the readers of public sets share: lists of samples, and where on the disk their files are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equilib_torch.data.rows import Table, make_table
from equilib_torch.data.textfiles import read_text_file
from equilib_torch.errors import InputError
from equilib_torch.streams import warn

Record = Mapping[str, str | None]
"""A sample: `label`, `split` if the set has one, and the cells of its modalities."""

_LOOKED_AT = 100  # samples of which it is looked where their files are


class PublicTable(NamedTuple):
    """A public set, as what reads tables takes it.

    Attributes:
        table: its samples.
        modalities: NAME=KIND of each column of data.
        classes: their order, where the set has one of its own.
    """

    table: Table
    modalities: tuple[str, ...]
    classes: tuple[str, ...] | None = None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines of a list that are not blank, stripped, with their numbers from 1; a byte order mark is left out.

    Raises:
        InputError: there is no such file, it is no text, or it has no such line.
    """
    if not path.is_file():
        raise InputError(f"looked for the list {path.name!r}, and there is none")
    lines = [(k, line.strip()) for k, line in enumerate(read_utf8(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"the list {path.name!r} is empty; it needs a line per sample")
    return iter(lines)


def read_utf8(path: Path) -> str:
    """Read a list as text; a byte order mark is left out.

    Raises:
        InputError: it is in another encoding; public sets have one, so that there is no option for it.
    """
    try:
        return read_text_file(path, None)
    except InputError as error:
        reason = str(error).partition(";")[0]
        raise InputError(f"the list {path.name!r} {reason}; save it as UTF-8") from error


def where(root: Path, patterns: Iterable[str], samples: Sequence[Mapping[str, str]], what: str) -> str:
    """Find out where files are: the pattern by which most of some samples have one.

    Args:
        root: data-root.
        patterns: paths below it, such as "AudioWAV/{id}.wav", filled in by samples.
        samples: what to fill in.
        what: what is looked for, in an error.

    Raises:
        InputError: no sample has a file by any of them; names what was looked for.
    """
    patterns = list(patterns)
    some = samples[:: max(1, len(samples) // _LOOKED_AT)]
    counts = [sum((root / pattern.format_map(sample)).exists() for sample in some) for pattern in patterns]
    if not any(counts):
        looked = ", ".join(repr(pattern.format_map(some[0])) for pattern in patterns[:3])
        more = f" and {len(patterns) - 3} other places" if len(patterns) > 3 else ""
        raise InputError(f"looked for {what}, such as {looked}{more}, and found none; check --data-root")
    return patterns[counts.index(max(counts))]


def put_together(
    name: str,
    root: Path,
    records: Sequence[Record],
    *,
    notes: Iterable[str] = (),
    identity: str | None = None,
    classes: Sequence[str] = (),
) -> Table:
    """Make a table of samples, and say how many there are.

    Args:
        name: of the set.
        root: data-root.
        records: the samples, all with the same keys.
        notes: what else is to be said of them.
        identity: the column that tells samples apart; who is in two parts is warned of.
        classes: in what order to show them.
    """
    columns = {key: [record[key] for record in records] for key in records[0]}
    order = {label: k for k, label in enumerate(classes)}
    labels = sorted({str(label) for label in columns["label"]}, key=lambda label: (order.get(label, 0), label))
    shown = f": {', '.join(labels)}" if len(labels) <= 10 else ""
    parts = columns.get("split", [])
    counted = ", ".join(f"{parts.count(part):,} {part}" for part in ("train", "val", "test") if part in parts)
    said = f"{len(records):,} samples{f' ({counted})' if counted else ''}, {len(labels)} classes{shown}"
    if identity is not None and parts:
        _warn_of_twins(name, columns[identity], parts)
    return make_table(name, columns, root, notes=[said, *notes])


def _warn_of_twins(name: str, cells: Sequence[str | None], parts: Sequence[str | None]) -> None:
    names, codes = np.unique([cell or "" for cell in cells], return_inverse=True)
    test = np.array([part == "test" for part in parts])
    twins = np.intersect1d(codes[test], codes[~test])
    if twins.size:
        warn(f"{name}: {twins.size:,} samples are listed for training and for test, such as {str(names[twins[0]])!r}")
