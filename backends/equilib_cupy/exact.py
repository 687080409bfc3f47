"""Launch the kernels of exact.cu: exact Shapley values of complete tables on a GPU, every value read once.

Sums are kept in float64 whatever the dtype, v(∅) is subtracted first, and the order of the additions depends on n, the
dtype and the number of tables alone: the same tables give the same bits at every run, large ones (above
`PRODUCT_PLAYERS`) on every device. Working memory is 0.6 % of a table of 2**12 values and less of larger ones.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from equilib._weights import size_weights, weight_matrix

Array: TypeAlias = Any
"""A cupy array: cupy ships no types."""

PRODUCT_PLAYERS = 11
"""Up to here a table is multiplied by the matrix of all weights; it is smaller than two tiles of the kernel."""

_THREADS = 256
_CHUNK = 2**22
"""Values of a batch that are multiplied at a time: their differences to v(∅) take 32 MiB."""


class BitLayout(NamedTuple):
    """How the bits of a coalition's index are divided: `low` in a tile, `mid` among a block's tiles, `block`."""

    low: int
    mid: int
    block: int

    @property
    def columns(self) -> int:
        """Partial sums of a block: one per player inside it, and one of all terms."""
        return self.low + self.mid + 1

    @property
    def lanes(self) -> int:
        """Bits of the threads that share the sum of a column over the blocks."""
        return min(8, self.block)


def divide_bits(n: int, itemsize: int, batch: int = 1) -> BitLayout:
    """Divide the n bits of `batch` tables, for values of 4 or 8 bytes, n > `PRODUCT_PLAYERS`.

    A block of 256 threads takes up to 64 tiles, in which each thread has 64 bytes: the more, the less its closing
    sums weigh. At least 4096 blocks, where there are as many tiles, keep the multiprocessors evenly busy; the tables
    of a batch provide them together.
    """
    low = 12 if itemsize == 4 else 11
    mid = min(6, n - low, max(0, n - low - 12 + batch.bit_length() - 1))
    return BitLayout(low, mid, n - low - mid)


def term_weights(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """List w(s−1) + w(s) for s = 0..n: the weight of v(S) in the sums of the players in S."""
    inside, outside = size_weights(n)
    return np.add(inside, outside, dtype=np.float64)


def shapley_values(tables: Array, n: int) -> Array:
    """Compute Shapley values on the device of the tables, in its current stream.

    Args:
        tables: `(batch, 2**n)` cupy array of a floating dtype. Tables that are not contiguous, or not aligned to 16
            bytes, are copied first; so are those of other dtypes than float32 and float64, as float32.
        n: number of players.

    Returns:
        `(batch, n)` in the dtype of `tables`. A value that is not finite makes all n results of its table so.

    Source:
        `equilib._exact`; exact.cu says how the sums are divided.
    """
    return checked_shapley_values(tables, n)[0]


def checked_shapley_values(tables: Array, n: int) -> tuple[Array, Array]:
    """Compute Shapley values as `shapley_values` does, and a number `(1,)` that is not 0 if one is not finite."""
    import cupy

    with tables.device:
        if n <= PRODUCT_PLAYERS:
            shapley = _multiply(tables, n, cupy)
            return shapley, ~cupy.isfinite(shapley).all().reshape(1)
        dtype = tables.dtype
        if dtype not in (np.float32, np.float64):
            tables = tables.astype(np.float32)
        tables = cupy.ascontiguousarray(tables)
        if tables.data.ptr % 16:
            tables = tables.copy()
        shapley, bad = _launch(tables, n, cupy)
        if dtype != shapley.dtype:  # rounded to a smaller range
            shapley = shapley.astype(dtype)
            bad = ~cupy.isfinite(shapley).all().reshape(1)
        return shapley, bad


def _launch(tables: Array, n: int, cupy: Any) -> tuple[Array, Array]:
    batch, name = len(tables), tables.dtype.name
    layout = divide_bits(n, tables.dtype.itemsize, batch)
    partials = cupy.empty((batch, layout.columns, 2**layout.block), np.float64)
    sums = cupy.empty((batch, n), np.float64)
    shapley, bad = cupy.empty((batch, n), tables.dtype), cupy.empty(1, np.int32)
    if not batch:
        bad.fill(0)
        return shapley, bad
    device = cupy.cuda.Device().id
    weights = _on_device(term_weights, n, device)

    def run(kernel: str, threads: int, *arguments: Any) -> None:
        _function(kernel, device)((-(-threads // _THREADS),), (_THREADS,), arguments)

    # The kernels' integers are an int or a long long: NumPy scalars keep their width.
    n_, mid, block, lanes = np.int32(n), np.int32(layout.mid), np.int32(layout.block), np.int32(layout.lanes)
    run(f"sum_tiles_{name}", (batch << layout.block) * _THREADS, tables, weights, partials, n_, mid)
    run("sum_blocks", (batch * n) << layout.lanes, partials, sums, bad, n_, block, lanes, np.int64(batch * n))
    run(f"finish_{name}", batch * n, tables, sums, shapley, bad, n_, np.int64(batch * n))
    return shapley, bad


def _multiply(tables: Array, n: int, cupy: Any) -> Array:
    matrix, step = _on_device(weight_matrix, n, cupy.cuda.Device().id), _CHUNK >> n
    shapley = cupy.empty((len(tables), n), tables.dtype)
    for start in range(0, len(tables), step):
        rows = tables[start : start + step]
        shapley[start : start + step] = cupy.subtract(rows, rows[:, :1], dtype=np.float64) @ matrix
    return shapley


@functools.lru_cache(maxsize=64)
def _on_device(make: Any, n: int, device: int) -> Array:
    """Copy the weights `make(n)` to the current device, whose id is `device`."""
    import cupy

    weights = cupy.asarray(make(n))
    cupy.cuda.get_current_stream().synchronize()  # other streams will use them, too
    return weights


@functools.cache
def _function(name: str, device: int) -> Any:
    """Return a kernel for the current device, whose id is `device`: looking it up takes longer than a small launch."""
    return compile_module(()).get_function(name)


@functools.cache
def compile_module(options: tuple[str, ...]) -> Any:
    """Return exact.cu, compiled with the given options; cupy keeps the result on disk."""
    import cupy

    return cupy.RawModule(code=read_source(), options=("-std=c++17", *options))


def read_source() -> str:
    """Return the text of exact.cu."""
    return files("equilib_cupy").joinpath("exact.cu").read_text(encoding="utf-8")
