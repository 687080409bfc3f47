"""Reading a data set from an `.npz` file that nobody has vouched for.

The archive's own numbers are checked against each other before anything is unpacked, and nothing is ever unpickled:
a file can be wrong, but it cannot run code or fill the memory.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy

from equilib_torch.data.dataset import MAX_MODALITIES, SUFFIXES, Dataset
from equilib_torch.data.modality import Array, Kind, Modality, as_array, check_name
from equilib_torch.data.split import as_labels, drawn_parts, make_splits
from equilib_torch.errors import InputError

MAX_BYTES = 8 * 2**30
"""Most that the arrays of a file may take once unpacked."""

MAPPED_BYTES = 2**30
"""Size from which a stored array stays in the file, and is read where it is needed."""

_MAX_HEADER = 10_000  # bytes; NumPy's own limit, which it checks only after it has read the header
_LOCAL_HEADER = 30  # bytes before the name of a member of a zip archive
_PIECE = 2**22  # bytes read at once
_RESERVED = ("label", "split", "group")
T = TypeVar("T")


def read_npz(path: str | Path, *, seed: int, label: str = "label", drop: Iterable[str] = ()) -> Dataset:
    """Read a data set from an `.npz` file.

    Keys of the file, where N is the number of samples:

    - `label`: (N,) integers or strings; booleans count as 0 and 1. Classes are the distinct labels in ascending order.
    - `split`, optional: (N,) strings "train", "val", "test"; see `make_splits` for what happens without.
    - `group`, optional: (N,) integers or strings; samples of one group are in the same part.
    - every other key: a modality with N rows, in the file's order, except
    - `<modality>_length`, optional: (N,) integers, the valid frames of each row, 1..T. All T without it.
    - `<modality>_present`, optional: (N,) bool (or 0 and 1), False where a sample lacks the modality.

    The shape tells the kind of a modality: 1-D, of strings, is texts, where "" is none; 2-D is a vector, 4-D an image.
    3-D is a sequence if it has a `<modality>_length`; without, it is an image if its dtype is uint8, and a sequence if
    not. Where that could be meant otherwise, the data set's `notes` say how it was read.

    An array of 1 GiB or more that is not compressed (`np.savez`, not `np.savez_compressed`) stays in the file, which
    must then be left as it is for as long as the data set is used.

    Args:
        path: The file.
        seed: Draws the splits the file does not bring, ≥ 0.
        label: The key of the labels, if it is another.
        drop: Keys that are not read; a modality's, with those that describe it.

    Returns:
        The data set, named after the file.

    Raises:
        InputError: The file is missing, damaged, larger than 8 GiB unpacked, or breaks the layout.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "toy.npz"
        ...     np.savez(file, label=np.arange(40) % 2, sensor=np.ones((40, 3)), photo=np.zeros((40, 8, 8), np.uint8))
        ...     dataset = read_npz(file, seed=0)
        >>> dataset.name, [(modality.name, modality.kind) for modality in dataset.modalities]
        ('toy', [('sensor', 'vector'), ('photo', 'image')])
    """
    path = Path(path)
    try:
        return _dataset(path.stem, _read_arrays(path, label, tuple(drop)), seed)
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from error.__cause__


def read_mapping(arrays: Mapping[str, Any], *, seed: int, label: str = "label", drop: Iterable[str] = ()) -> Dataset:
    """Make a data set of arrays, by the keys that `read_npz` knows; they are not copied.

    Raises:
        InputError: Keys or arrays that break the layout.

    Example:
        >>> read_mapping({"label": [0, 1] * 10, "sensor": np.ones((20, 3)), "note": ["a", "b"] * 10}, seed=0).names
        ('sensor', 'note')
    """
    chosen = _chosen(arrays, label, tuple(drop))
    _modality_keys(list(chosen))
    return _dataset("arrays", {key: as_array(key, array) for key, array in chosen.items()}, seed)


def _chosen(entries: Mapping[str, T], label: str, drop: tuple[str, ...]) -> dict[str, T]:
    """Give the entries without what is dropped, the labels under the key `label`."""
    for name in (*drop, label):
        if name not in entries and (name != "label" or name in drop):
            option = "drop" if name in drop else "label"
            raise InputError(f"{option}: there is no key {name!r}, only {', '.join(map(repr, list(entries)[:20]))}")
    left_out = {*drop, *(f"{name}{suffix}" for name in drop for suffix in SUFFIXES)} | {"label"} - {label}
    return {"label" if key == label else key: entry for key, entry in entries.items() if key not in left_out}


def _dataset(name: str, arrays: Mapping[str, Array], seed: int) -> Dataset:
    label = as_labels(arrays["label"])
    modalities = tuple(_modality(key, arrays, label.size) for key in _modality_keys(list(arrays)))
    classes, labels = np.unique(label, return_inverse=True)
    if classes.size < 2:
        raise InputError(f"label: needs two or more classes, got only {classes[0].item()!r}")
    split, group = arrays.get("split"), arrays.get("group")
    if group is not None and group.shape != label.shape:
        raise InputError(f"group: needs one per label, {label.size}, got shape {group.shape}")
    splits = make_splits(label, split, seed, groups=group)
    return Dataset(
        name,
        modalities,
        labels.astype(np.int64),
        tuple(classes.tolist()),
        splits,
        drawn_parts(split),
        groups=group,
    )


def _modality(name: str, arrays: Mapping[str, Array], n_rows: int) -> Modality:
    values, lengths, present = arrays[name], arrays.get(f"{name}_length"), arrays.get(f"{name}_present")
    if values.ndim == 1 and values.dtype.kind in "UTO" and len(values) == n_rows:
        return Modality(name, "text", values, lengths, values != "" if present is None else present)
    if values.ndim not in (2, 3, 4):
        raise InputError(f"{name}: needs 2 (vectors), 3 (sequences) or 3 to 4 (images) dimensions, got {values.shape}")
    if len(values) != n_rows:
        raise InputError(f"{name}: needs a row per label, {n_rows}, got {len(values)}")
    kind: Kind = "vector" if values.ndim == 2 else "image"
    if values.ndim == 3 and (lengths is not None or values.dtype != np.uint8):
        kind = "sequence"
        lengths = np.full(n_rows, values.shape[1]) if lengths is None else lengths
    present = np.ones(n_rows, np.bool_) if present is None else present
    return Modality(name, kind, values, lengths, present)


def _modality_keys(keys: list[str]) -> list[str]:
    """Give the keys that are modalities, in order; refuse a file whose keys make no data set."""
    if "label" not in keys:
        raise InputError(f"label: this key is required, got {', '.join(map(repr, keys[:20])) or 'no keys'}")
    names = [key for key in keys if key not in _RESERVED and not key.endswith(SUFFIXES)]
    for key in keys:
        if key.endswith(SUFFIXES) and key.rpartition("_")[0] not in names:
            raise InputError(
                f"{key[:80]!r}: there is no modality {key.rpartition('_')[0][:80]!r} for it to describe; "
                "rename the key if it is a modality itself"
            )
    if not 1 <= len(names) <= MAX_MODALITIES:
        raise InputError(f"modalities: needs 1 to {MAX_MODALITIES} keys besides label and split, got {len(names)}")
    for name in names:
        check_name(name)
    return names


def _read_arrays(path: Path, label: str, drop: tuple[str, ...]) -> dict[str, Array]:
    """Read every array of an archive once its sizes are known to be honest and bearable."""
    try:
        if path.is_dir():
            raise InputError("must be an .npz file, got a directory")
        if not path.is_file():  # a pipe or a device could block for ever
            raise InputError("not a regular file" if path.exists() else "no such file")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _chosen(_members(archive), label, drop)
            _modality_keys(list(members))
            headers = {key: _read_header(archive, key, member) for key, member in members.items()}
            for key, member in members.items():
                _check_size(key, member, headers[key])
            arrays: dict[str, Array] = {}
            for key, member in members.items():
                with archive.open(member) as stream:
                    if _can_be_mapped(member, headers[key]):
                        while stream.read(_PIECE):  # to its end, where its checksum is compared
                            pass
                        arrays[key] = _map(path, member, headers[key])
                    else:
                        arrays[key] = npy.read_array(stream, allow_pickle=False)
            return arrays
    except InputError:
        raise
    except Exception as error:  # damaged bytes make zipfile, zlib and NumPy raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot be read as an .npz file ({reason})") from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Give the members by key, if NumPy could have written them and unpacked they fit the limit."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key == member.filename:
            raise InputError(f"must hold .npy arrays only, got {key[:80]!r}")
        if key in members:
            raise InputError(f"{key[:80]!r}: a key must occur once, got it twice")
        # NumPy stores or deflates; the readers of other methods unpack without a bound.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 0x1:
            raise InputError(f"{key[:80]!r}: must be stored or deflated and not encrypted")
        members[key] = member
    total = sum(member.file_size for member in members.values())
    if total > MAX_BYTES:
        raise InputError(f"unpacks to {total / 2**30:.1f} GiB, more than the limit of {MAX_BYTES / 2**30:g} GiB")
    return members


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    in_order: bool  # the last axis varies fastest
    dtype: np.dtype[np.generic]
    size: int  # bytes before the data


def _read_header(archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> _Header:
    with archive.open(member) as stream:
        head = BytesIO(stream.read(_MAX_HEADER))
    try:
        # Version 3 differs in the names of structured dtypes alone, which are no modality.
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(head)]
        shape, is_fortran, dtype = read(head)
    except Exception as error:  # the header is a Python literal: a hostile one raises nearly anything
        raise InputError(f"{key[:80]!r}: its .npy header cannot be read") from error
    return _Header(shape, not is_fortran, dtype, head.tell())


def _can_be_mapped(member: zipfile.ZipInfo, header: _Header) -> bool:
    stored = member.compress_type == zipfile.ZIP_STORED
    return stored and header.in_order and member.file_size >= MAPPED_BYTES


def _map(path: Path, member: zipfile.ZipInfo, header: _Header) -> Array:
    """Map a stored array into memory, read-only: only what is looked at is read."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER)
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")  # of name and extra field
    offset = member.header_offset + _LOCAL_HEADER + lengths + header.size
    return np.memmap(path, header.dtype, "r", offset, header.shape)


def _check_size(key: str, member: zipfile.ZipInfo, header: _Header) -> None:
    if header.dtype.hasobject and key in _RESERVED:
        raise InputError(f"{key}: must be integers or strings, got Python objects; save them with .astype(str)")
    if header.dtype.hasobject:
        raise InputError(
            f"{key[:80]!r}: must be one regular array, got an object array (rows of unequal shape, or Python objects); "
            "pad sequences and give <modality>_length"
        )
    size = header.size + math.prod(header.shape) * header.dtype.itemsize
    if size != member.file_size or min(header.shape, default=0) < 0:
        raise InputError(f"{key[:80]!r}: its header announces {size} bytes, the archive {member.file_size}")
