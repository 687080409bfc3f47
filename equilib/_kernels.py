"""Kernels for the arrays of one library, found by array type among the entry points of the group `equilib.kernels`.

The name of an entry point is the top-level module of the arrays it computes with: `cupy` for `cupy.ndarray`.
"""

from __future__ import annotations

import functools
import warnings
from typing import Protocol

import numpy as np

from equilib._namespace import Array, is_torch_array, is_traced

GROUP = "equilib.kernels"

EXPECTED = ("cupy",)
"""Libraries that kernels come for with this distribution: without them, something is wrong with how it is installed."""


class Kernels(Protocol):
    """What an entry point of the group `equilib.kernels` provides.

    It may have two methods more: `takes(x) -> bool`, if it is not for all arrays of its library; and those of
    :class:`CheckedKernels`.
    """

    def shapley_values(self, tables: Array, n: int) -> Array:
        """Compute the Shapley values `(batch, n)` of tables `(batch, 2**n)`, in their dtype and on their device."""


class CheckedKernels(Kernels, Protocol):
    """Kernels that find out on the way whether all is finite, which spares another look at the results."""

    def checked_shapley_values(self, tables: Array, n: int) -> tuple[Array, Array]:
        """Compute the Shapley values, and a number `(1,)` beside them that is not 0 if one of them is not finite."""


def find_kernels(x: Array) -> Kernels | None:
    """Find the kernels for arrays like `x`; None where array-API calls are what there is.

    NumPy has none: it is the reference; nor have arrays without values yet. Of torch's tensors, only those on CUDA
    devices are looked up, and not those that need a gradient, which the calls have.

    Raises:
        ImportError: kernels for this library are installed, but cannot be loaded.
    """
    if isinstance(x, np.ndarray) or (is_torch_array(x) and (not x.is_cuda or x.requires_grad)) or is_traced(x):
        return None
    kernels = _load(type(x).__module__.partition(".")[0] if not is_torch_array(x) else "torch")
    if kernels is None or (hasattr(kernels, "takes") and not kernels.takes(x)):
        return None
    return kernels


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
    if library in EXPECTED:
        warnings.warn(
            f"no kernels for {library} arrays were found, and slower array operations are used: install the "
            f"distribution equilib-multimodal, whose entry points in the group {GROUP} name them; sources on the path "
            "are not enough",
            RuntimeWarning,
            stacklevel=2,
        )
    return None
