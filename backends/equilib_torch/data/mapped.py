"""Arrays in files: written in pieces, and mapped into memory, so that neither needs memory for all of them."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

Array: TypeAlias = npt.NDArray[Any]


class ArrayWriter:
    """Writes an `.npy` file row by row, as a context.

    Written with `write`, never through a memory map: on a full disk that would end the process without a word.

    Args:
        path: A new file.
        shape: (N, ...) of all rows together.
        dtype: Of the values.

    Raises:
        OSError: The disk is full or refuses.
        ValueError: Rows of another shape, or more or less than N of them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with ArrayWriter(Path(folder, "x.npy"), (3, 2), np.uint8) as writer:
        ...         writer.append(np.ones((2, 2), np.uint8))
        ...         writer.append(np.zeros((1, 2), np.uint8))
        ...     read_array(Path(folder, "x.npy")).tolist()
        [[1, 1], [1, 1], [0, 0]]
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._left = shape[0]
        self._file = path.open("xb")
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def append(self, rows: Array) -> None:
        """Write the next rows, (n, ...) in a dtype that fits."""
        if rows.shape[1:] != self._shape[1:] or len(rows) > self._left:
            raise ValueError(f"rows must have shape ({self._left} or less, {self._shape[1:]}), got {rows.shape}")
        self._left -= len(rows)
        flat = np.ascontiguousarray(rows.astype(self._dtype, casting="same_kind", copy=False)).reshape(-1)
        self._file.write(flat.view(np.uint8).data)

    def skip(self, n_rows: int) -> None:
        """Write rows of zeros."""
        row = bytes(self._dtype.itemsize * math.prod(self._shape[1:]))
        if n_rows > self._left:
            raise ValueError(f"there are {self._left} rows left, got {n_rows}")
        self._left -= n_rows
        for _ in range(n_rows):
            self._file.write(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._left:
            raise ValueError(f"{self._left} of {self._shape[0]} rows were not written")


def read_array(path: Path, *, mapped: bool = True) -> Array:
    """Read an `.npy` file, by default as a memory map that cannot be written to; never Python objects.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no such file.
    """
    values: Array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return values


def release(values: Array) -> None:
    """Let go of the memory in which parts of a mapped array were read, if it is one; the next to read gets them back.

    What has been read stays in the system's cache of files, so that reading it again costs little; but it no longer
    counts as memory of this process, which otherwise grows to the size of the file.

    Example:
        >>> release(np.ones(3))
    """
    found: object = values
    while isinstance(found, np.ndarray):
        # What was written to a private map would be lost.
        if isinstance(found, np.memmap) and found.mode != "r":
            return
        found = found.base
    if isinstance(found, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)
