"""Kernels for the arrays of one library, found by array type among the entry points of the group `equilib.kernels`.

The name of an entry point is the top-level module of the arrays it computes with: `cupy` for `cupy.ndarray`.
"""

from __future__ import annotations

import functools
from typing import Protocol

import numpy as np

from equilib._namespace import Array, is_torch_array

GROUP = "equilib.kernels"


class Kernels(Protocol):
    """What an entry point of the group `equilib.kernels` provides."""

    def shapley_values(self, tables: Array, n: int) -> Array:
        """Compute the Shapley values `(batch, n)` of tables `(batch, 2**n)`, in their dtype and on their device."""


def find_kernels(x: Array) -> Kernels | None:
    """Find the kernels for arrays like `x`; None where array-API calls are what there is.

    NumPy and torch have none: the first is the reference, and the second would trace this search when it compiles.

    Raises:
        ImportError: kernels for this library are installed, but cannot be loaded.
    """
    if isinstance(x, np.ndarray) or is_torch_array(x):
        return None
    return _load(type(x).__module__.partition(".")[0])


@functools.cache
def _load(library: str) -> Kernels | None:
    # Slow to import, and most programs never come here.
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=library):
        try:
            kernels: Kernels = entry.load()
        except (ImportError, AttributeError) as error:
            raise ImportError(f"the kernels {entry.value} for {library} arrays cannot be loaded: {error}") from error
        return kernels
    return None
