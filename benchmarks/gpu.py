"""Exact Shapley values on a GPU against a copy on the same device: `python benchmarks/gpu.py [n ...]`.

Needs cupy, a CUDA device and the entry points of an installed equilib: without these its kernels are not found, and
something else would be timed. Per n and dtype: the GB/s at which the table is read (its size over the median time of a
call, launches and checks included), those of a device-to-device copy (bytes read and written over its time), the ratio,
and the largest difference to NumPy's values in float64 (up to n = 28).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import equilib
from equilib._kernels import find_kernels
from equilib_cupy import KERNELS


def seconds(cupy: Any, call: Callable[[], Any], repeats: int = 20) -> float:
    """Measure the median time of a call on the device."""
    times = []
    for _ in range(repeats + 3):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return statistics.median(times[3:])


def copy_rate(cupy: Any) -> float:
    """Measure the GB/s that a copy on the device reads and writes."""
    source = cupy.ones(2**28, np.float32)
    target = cupy.empty_like(source)
    return 2 * source.nbytes / seconds(cupy, lambda: cupy.copyto(target, source)) / 1e9


def require_kernels(cupy: Any) -> None:
    """Stop unless arrays of cupy are computed by the CUDA kernels of this distribution.

    Raises:
        SystemExit: they are not found, or are somebody else's.
    """
    kernels = find_kernels(cupy.empty(0))
    if kernels is not KERNELS:
        raise SystemExit(
            f"the kernels of equilib_cupy are not used, but {kernels!r}: install equilib, entry points and all"
        )


def main(players: list[int]) -> int:
    """Print a line per n and dtype."""
    import cupy

    require_kernels(cupy)
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"{properties['name'].decode()}, cupy {cupy.__version__}")
    copy = copy_rate(cupy)
    print(f"copy of 1 GiB: {copy:.0f} GB/s, read and written")
    for n in players:
        for dtype in (np.float32, np.float64):
            free = cupy.cuda.Device().mem_info[0]
            if 2**n * np.dtype(dtype).itemsize * 1.2 > free:
                print(f"n = {n} {np.dtype(dtype).name}: does not fit {free / 2**30:.0f} GiB")
                continue
            table = cupy.random.default_rng(n).standard_normal(2**n, dtype=dtype)
            shapley = cupy.asnumpy(equilib.shapley_values(table))
            same = all(bool((cupy.asnumpy(equilib.shapley_values(table)) == shapley).all()) for _ in range(3))
            rate = table.nbytes / seconds(cupy, lambda table=table: equilib.shapley_values(table)) / 1e9
            line = f"n = {n} {np.dtype(dtype).name}: {rate:.0f} GB/s, {rate / copy:.0%} of the copy, same bits: {same}"
            if n <= 28:
                expected = equilib.shapley_values(cupy.asnumpy(table).astype(np.float64))
                line += f", largest difference to NumPy {abs(shapley - expected).max():.1e}"
            print(line, flush=True)
            del table
            cupy.get_default_memory_pool().free_all_blocks()
    return 0


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]] or [28, 30, 32]))
