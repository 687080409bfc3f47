"""From a table of texts, numbers and paths to a data set, and from new rows to what its model reads.

    table → labels; columns → kinds → modalities → splits → statistics of the training rows → vectors

The schema is what a model needs to read raw rows, in what JSON can say: `label`, the column; `modalities`, each with
`name`, `kind` and `columns`, of a table with their statistics; `media`, how files are decoded; `columns`, the report
that `describe` shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.dtypes import StringDType

from equilib_torch.data.cache import Cache
from equilib_torch.data.cells import level, text, without_na_words
from equilib_torch.data.dataset import MAX_MODALITIES, Dataset
from equilib_torch.data.decoding import decode_column
from equilib_torch.data.kinds import (
    Column,
    Declared,
    assign,
    declarations,
    doubts,
    read_declaration,
    write_declaration,
)
from equilib_torch.data.labels import read_labels
from equilib_torch.data.media import MediaOptions
from equilib_torch.data.modality import Array, BoolArray, IntArray, Modality
from equilib_torch.data.report import shown_values
from equilib_torch.data.rows import RESERVED, Table, check_cells
from equilib_torch.data.split import drawn_parts, make_splits
from equilib_torch.data.vectors import Read, column_of, digest, fit_column, missing_cells, read_cells, vectors
from equilib_torch.errors import InputError
from equilib_torch.streams import warn

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class TableOptions:
    """How a table is read.

    Attributes:
        label: the column of the classes.
        drop: columns that are left out.
        modalities: NAME=KIND[:COLUMN,…] each; what they do not name is inferred.
        categorical: columns that are categories, whatever they look like.
        data_root: the folder that paths in cells start from; None: that of the file, or the current one.
        media: how files are decoded.
        cache: where what was decoded is kept; None: nowhere.
        progress: whether bars show how far decoding is.
    """

    label: str = "label"
    drop: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    data_root: Path | None = None
    media: MediaOptions = field(default_factory=MediaOptions)
    cache: Cache | None = None
    progress: bool = False


@dataclass(frozen=True, eq=False)
class _Source:
    """What was read of one modality, before there are splits.

    Attributes:
        declared: its name, kind and columns.
        reads: of a table, what its columns hold.
        modalities: of all other kinds, what became of its column; two of a film with sound.
        present: (N,) whether a row has any of it.
    """

    declared: Declared
    reads: Mapping[str, Read]
    modalities: tuple[Modality, ...]
    present: BoolArray


def make_dataset(table: Table, options: TableOptions, seed: int) -> Dataset:
    """Make a data set from a table.

    A row in which there is nothing at all is in no part of the data set; a warning says how many there are.

    Args:
        table: what was read.
        options: how to take it.
        seed: draws the splits that the table does not bring, ≥ 0.

    Raises:
        InputError: the table, or what the options say of it, is at fault; names column and row.

    Example:
        >>> columns = {"age": [*map(str, range(40))], "label": ["young", "old"] * 20}
        >>> dataset = make_dataset(Table("people", columns, Path()), TableOptions(), seed=0)
        >>> dataset.names, dataset.modalities[0].values.shape, dataset.classes
        (('table',), (40, 1), ('old', 'young'))
    """
    for name in options.drop:
        if name not in table.columns:
            raise InputError(f"drop: there is no column {name!r}, only {', '.join(table.columns)}")
    labels = read_labels(table, options.label)
    split, groups = (_reserved(table, name, options) for name in RESERVED)
    columns = _columns(table, options)
    sources = [_read(table, one, columns, options) for one in declarations(columns)]
    rows = _rows_with_something(table, sources)
    classes, codes = np.unique(labels.values[rows], return_inverse=True)
    if classes.size < 2:
        raise InputError(f"column {options.label!r}: needs two or more classes, got only {classes[0].item()!r}")
    for line in labels.warnings:
        warn(f"{table.name}: {line}")
    within = [None if x is None else x[rows] for x in (split, groups)]
    parts = make_splits(labels.values[rows], within[0], seed, groups=within[1])
    splits = {part: rows[chosen] for part, chosen in parts.items()}
    every = np.zeros(len(table), np.int64)
    every[rows] = codes
    specs = [_specify(source, columns, splits["train"]) for source in sources]
    schema = {
        "label": options.label,
        "modalities": specs,
        "media": asdict(options.media),
        "columns": [_report(table, column, sources) for column in columns],
    }
    return Dataset(
        table.name,
        tuple(m for source, spec in zip(sources, specs, strict=True) for m in _modalities(source, spec, len(table))),
        every,
        tuple(classes.tolist()),
        splits,
        drawn_parts(within[0]),
        schema,
        (*table.notes, *labels.notes, *doubts(table, columns)),
        {source.declared.name: digest(source.reads) for source in sources if source.reads},
        groups,
    )


def declared_by(schema: Schema) -> tuple[list[str], list[str]]:
    """Give the declarations by which a table is read in this way again: modalities, and categorical columns."""
    modalities = [
        write_declaration(Declared(m["name"], m["kind"], tuple(spec["column"] for spec in m["columns"])))
        for m in schema["modalities"]
    ]
    specs = [spec for m in schema["modalities"] for spec in m["columns"]]
    return modalities, [spec["column"] for spec in specs if spec["kind"] == "category"]


def read_new_rows(
    schema: Schema, table: Table, *, data_root: Path | None, cache: Cache | None, progress: bool = False
) -> tuple[Modality, ...]:
    """Make from new rows what a model reads that was trained on a table.

    Columns that are not there are missing in every row; columns that the schema does not know do not count.

    Args:
        schema: of the data set the model was trained on.
        table: the rows.
        data_root: the folder that paths start from; None: the table's.
        cache: where what was decoded is kept; None: nowhere.
        progress: whether bars show how far decoding is.

    Returns:
        The modalities that some row has.

    Raises:
        InputError: no column that the schema knows, or a cell that does not do; names column and row.
    """
    known = [spec["column"] for modality in schema["modalities"] for spec in modality["columns"]]
    if not set(known) & set(table.columns):
        raise InputError(
            f"columns: must be some of {', '.join(known)}, which the model knows, got {', '.join(table.columns)}"
        )
    options = TableOptions(data_root=data_root, media=MediaOptions(**schema["media"]), cache=cache, progress=progress)
    modalities: list[Modality] = []
    for spec in schema["modalities"]:
        columns = [column_of(one, spec["name"]) for one in spec["columns"] if one["column"] in table.columns]
        for column in columns:
            check_cells(table, column.name)
        if any(level(cell) is not None for column in columns for cell in _cells(table, column)):
            source = _read(
                table, Declared(spec["name"], spec["kind"], tuple(c.name for c in columns)), columns, options
            )
            modalities += _modalities(source, spec, len(table))
    return tuple(modalities)


def _reserved(table: Table, name: str, options: TableOptions) -> Array | None:
    """Read the column of splits or groups, if there is one and it is not dropped."""
    if name not in table.columns or name in options.drop or name == options.label:
        return None
    cells = [level(cell) for cell in table.columns[name]]
    if None in cells:
        raise InputError(
            f"column {name!r}: every row needs a value, {table.place(cells.index(None))} has none; fill it in, or "
            f"leave the column out: --drop {name}"
        )
    return np.array(cells, np.str_)


def _columns(table: Table, options: TableOptions) -> list[Column]:
    names = [name for name in table.columns if name not in (options.label, *options.drop, *RESERVED)]
    if not names:
        raise InputError(f"needs a column of data besides {options.label!r}, got only {', '.join(table.columns)}")
    for name in names:
        check_cells(table, name)
    columns = assign(table, names, [read_declaration(spec) for spec in options.modalities], options.categorical)
    found = [declared.name for declared in declarations(columns)]
    if len(found) > MAX_MODALITIES:
        raise InputError(
            f"modalities: must be {MAX_MODALITIES} at most, got {len(found)}: {', '.join(found)[:200]}; leave some out "
            "by --drop, or join numbers and categories by --modality NAME=table:COLUMN,…"
        )
    return columns


def _cells(table: Table, column: Column) -> Sequence[Any]:
    cells = table.columns[column.name]
    return cells if column.kind in ("text", "category") else without_na_words(cells)


def _read(table: Table, declared: Declared, columns: Sequence[Column], options: TableOptions) -> _Source:
    """Read the columns of one modality."""
    mine = [column for column in columns if column.modality == declared.name]
    if declared.kind == "table":
        reads = {column.name: read_cells(table, column) for column in mine}
        present = ~np.all([missing_cells(read) for read in reads.values()], axis=0)
        return _Source(declared, reads, (), present)
    (column,) = mine
    if declared.kind == "text":
        texts = np.array([text(cell) for cell in table.columns[column.name]], StringDType())
        modality = Modality(declared.name, "text", texts, None, texts != "")
        return _Source(declared, {}, (modality,), modality.present)
    decoded = decode_column(
        declared.name,
        declared.kind,
        [level(cell) for cell in _cells(table, column)],
        data_root=table.root if options.data_root is None else options.data_root,
        options=options.media,
        cache=options.cache,
        progress=options.progress,
    )
    modalities = tuple(Modality(name, d.kind, d.values, d.lengths, d.present) for name, d in decoded.items())
    return _Source(declared, {}, modalities, np.any([m.present for m in modalities], axis=0))


def _rows_with_something(table: Table, sources: Sequence[_Source]) -> IntArray:
    """Give the rows that have a modality, and warn of the others."""
    something = np.any([source.present for source in sources], axis=0)
    without = np.flatnonzero(~something)
    if without.size:
        warn(
            f"{table.name}: {without.size:,} of {len(table):,} rows have no modality at all and are left out, the "
            f"first is {table.place(int(without[0]))}"
        )
    if not something.any():
        raise InputError(f"no row of {len(table):,} has any modality")
    return np.flatnonzero(something)


def _specify(source: _Source, columns: Sequence[Column], rows: IntArray) -> dict[str, Any]:
    """Say how a modality is made from its columns, by the statistics of some rows."""
    mine = [column for column in columns if column.modality == source.declared.name]
    specs = [
        fit_column(column, source.reads[column.name], rows)
        if source.reads
        else {"column": column.name, "kind": column.kind}
        for column in mine
    ]
    return {"name": source.declared.name, "kind": source.declared.kind, "columns": specs}


def _modalities(source: _Source, spec: Mapping[str, Any], n_rows: int) -> tuple[Modality, ...]:
    if source.declared.kind != "table":
        return source.modalities
    values, present = vectors(spec["columns"], source.reads, n_rows)
    if not values.shape[1]:
        raise InputError(
            f"{spec['name']}: none of its columns has a value in the training part; leave them out by --drop"
        )
    return (Modality(spec["name"], "vector", values, None, present),)


def _report(table: Table, column: Column, sources: Sequence[_Source]) -> dict[str, Any]:
    """Describe a column for `describe`."""
    source = next(source for source in sources if source.declared.name == column.modality)
    read = source.reads.get(column.name)
    missing = int((missing_cells(read) if read is not None else ~source.present).sum())
    shown = shown_values(column, table.columns[column.name], read, len(table) - missing)
    return {
        "column": column.name,
        "kind": column.kind,
        "modality": column.modality,
        "values": shown,
        "missing": missing,
    }
