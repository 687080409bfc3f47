"""The way in: a data set from whatever holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from equilib_torch.data.builtin import DATASETS
from equilib_torch.data.cache import Cache, default_cache
from equilib_torch.data.dataset import Dataset
from equilib_torch.data.frames import is_frame, read_frame, read_parquet
from equilib_torch.data.kinds import read_declaration
from equilib_torch.data.media import MediaOptions
from equilib_torch.data.npz import read_mapping, read_npz
from equilib_torch.data.public import PUBLIC, find_public, in_order, read_public
from equilib_torch.data.public.jsonl import is_jsonl_set, read_folder
from equilib_torch.data.public.layout import PublicTable
from equilib_torch.data.rows import Table
from equilib_torch.data.table import TableOptions, make_dataset
from equilib_torch.data.textfiles import read_csv, read_jsonl
from equilib_torch.data.tree import read_tree
from equilib_torch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Source: TypeAlias = "str | Path | pd.DataFrame | Mapping[str, Any]"

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
"""What the names of files end in that are tables."""


def load_dataset(
    source: Source,
    *,
    label: str = "label",
    drop: Iterable[str] = (),
    data_root: str | Path | None = None,
    modalities: Mapping[str, str] | Iterable[str] | None = None,
    categorical: Iterable[str] = (),
    encoding: str | None = None,
    media: MediaOptions | None = None,
    cache: Cache | None = None,
    progress: bool = False,
    seed: int = 0,
) -> Dataset:
    """Load a data set by its name, a file or folder by its path, or take a DataFrame or arrays.

    What may be wrong with a table, such as files that cannot be read, is said in a warning on standard error.

    Args:
        source: One of

            - a name in `DATASETS`, which wins over a file called the same;
            - the name of a public set in `PUBLIC`, with parameters behind colons, such as "crema-d:split=speaker", of
              which data_root holds the files;
            - the path of an `.npz` file laid out as `read_npz` says, or a mapping of arrays with the same keys;
            - the path of a table, `.csv`, `.tsv`, `.parquet` or `.jsonl`, or a pandas DataFrame: a row per sample, a
              column `label`, optional columns `split` (train, val, test) and `group` (groups never straddle splits),
              and columns of paths, texts, numbers, dates and categories;
            - the path of a folder whose sub-folders are the classes, each with pictures, sounds or films, or one with
              `train.jsonl` and so on, as `data.public.jsonl` says.
        label: The column (or key) of the labels.
        drop: Columns, keys or modalities that are left out.
        data_root: The folder that paths in a table start from; default: that of the table's file, or the current one.
        modalities: Kinds of modalities that are not to be inferred: {"caption": "text", "vitals": "table:pulse,age"},
            or "NAME=KIND[:COLUMN,…]" each.
        categorical: Columns that are categories, whatever they look like.
        encoding: Of a text file; default: UTF-8, or what a byte order mark says.
        media: How files become arrays.
        cache: Where decoded files are kept; default: `default_cache()`.
        progress: Whether bars show how far decoding is.
        seed: Draws the splits the data do not bring, ≥ 0; the same seed gives the same data set.

    Returns:
        The data set, checked; its `schema` says how a table was read, its `notes` what could be meant otherwise.

    Raises:
        InputError: Unknown name or format, data that break the layout, or an option that the source has no use for.

    Example:
        >>> dataset = load_dataset("av-digits", seed=0)
        >>> dataset.names, {part: rows.size for part, rows in dataset.splits.items()}
        (('image', 'audio'), {'train': 2040, 'val': 360, 'test': 600})
    """
    declared = [f"{k}={v}" for k, v in modalities.items()] if isinstance(modalities, Mapping) else modalities or ()
    root = None if data_root is None else Path(data_root)
    options = TableOptions(label, tuple(drop), tuple(declared), tuple(categorical), root, progress=progress)
    if isinstance(source, str) and (entry := DATASETS.get(source)):
        _require_default(options, encoding, f"{source} is bundled", allowed=("drop",))
        return _without(entry.load(seed), options.drop)
    if isinstance(source, Mapping):
        _require_default(options, encoding, "these are arrays", allowed=("drop", "label"))
        return read_mapping(source, seed=seed, label=label, drop=options.drop)
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".npz":
        _require_default(options, encoding, "these are arrays", allowed=("drop", "label"))
        return read_npz(source, seed=seed, label=label, drop=options.drop)
    options = replace(options, media=media or MediaOptions(), cache=cache or default_cache())
    if isinstance(source, str) and find_public(source):
        _require_default(options, encoding, f"{source} is a public set", allowed=("drop", "data-root", "modality"))
        return _make_public(read_public(source, options.data_root), options, seed)
    if is_frame(source):
        if encoding is not None:
            raise InputError(f"encoding: only a text file has one, got {encoding!r} for a DataFrame; leave it out")
        return make_dataset(read_frame(source), options, seed)
    if not isinstance(source, str | Path):
        raise InputError(
            f"dataset: must be a name, a path, a pandas DataFrame or a mapping of arrays, got {type(source).__name__}"
        )
    path = Path(source)
    if not str(source).strip() or not (path.suffix.lower() in TABLES or _is_folder(path)):
        raise InputError(
            f"dataset: must be one of {', '.join([*DATASETS, *PUBLIC])}, a folder, or a path that ends in "
            f"{', '.join(TABLES)} or .npz; got {str(source)!r}"
        )
    if options.data_root is not None and not options.data_root.is_dir():
        raise InputError(f"data-root must be a folder, got {str(options.data_root)!r}")
    try:
        if is_jsonl_set(path):
            _require_default(options, encoding, f"{str(source)!r} has parts", allowed=("drop", "modality"))
            return _make_public(read_folder(path), options, seed)
        return make_dataset(read_table(path, encoding), options, seed)
    except InputError as error:
        raise InputError(f"{str(source)!r}: {error}") from error.__cause__


def _make_public(public: PublicTable, options: TableOptions, seed: int) -> Dataset:
    """Make a data set as its reader declares it, but for what the options say of its columns."""
    claimed = {column for spec in options.modalities for column in read_declaration(spec).columns} | set(options.drop)
    declared = [spec for spec in public.modalities if not claimed & set(read_declaration(spec).columns)]
    options = replace(options, modalities=(*options.modalities, *declared))
    return in_order(make_dataset(public.table, options, seed), public.classes)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name no file can have
        return False


def read_table(path: Path, encoding: str | None = None) -> Table:
    """Read a folder, or a file whose name ends as one of `TABLES`, as a table.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return read_tree(path)
        if not path.is_file():  # a pipe or a device could block for ever
            raise InputError("not a regular file" if path.exists() else "no such file")
        if suffix == ".parquet":
            return read_parquet(path)
        return (read_jsonl if suffix == ".jsonl" else read_csv)(path, encoding)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read ({error})") from error


def _require_default(options: TableOptions, encoding: str | None, what: str, allowed: tuple[str, ...]) -> None:
    """Refuse options of tables that would be ignored."""
    given = {
        "label": options.label != "label",
        "drop": bool(options.drop),
        "data-root": options.data_root is not None,
        "modality": bool(options.modalities),
        "categorical": bool(options.categorical),
        "encoding": encoding is not None,
    }
    useless = [name for name, is_given in given.items() if is_given and name not in allowed]
    if useless:
        raise InputError(f"{useless[0]} is for tables, and {what}; leave it out")


def _without(dataset: Dataset, drop: tuple[str, ...]) -> Dataset:
    for name in drop:
        if name not in dataset.names:
            raise InputError(f"drop: {dataset.name} has no modality {name!r}, only {', '.join(dataset.names)}")
    if not drop:
        return dataset
    return replace(dataset, modalities=tuple(m for m in dataset.modalities if m.name not in drop))


@dataclass(frozen=True)
class DataRequest:
    """Everything that says which data a run trains on, but the seed; see `load_dataset`."""

    source: str
    label: str = "label"
    drop: tuple[str, ...] = ()
    data_root: str | None = None
    modalities: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    encoding: str | None = None
    media: MediaOptions = MediaOptions()
    cache: Cache | None = None

    def load(self, seed: int, *, progress: bool = False) -> Dataset:
        """Load the data set for a seed.

        Raises:
            InputError: as `load_dataset`.

        Example:
            >>> DataRequest("mfeat-small").load(0).n_classes
            10
        """
        return load_dataset(
            self.source,
            label=self.label,
            drop=self.drop,
            data_root=self.data_root,
            modalities=self.modalities,
            categorical=self.categorical,
            encoding=self.encoding,
            media=self.media,
            cache=self.cache,
            progress=progress,
            seed=seed,
        )
