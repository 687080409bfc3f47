"""CUDA kernels of equilib for arrays of cupy: what `shapley_values` computes a table with that lives on a GPU.

    equilib.shapley_values(cupy array) → entry point `cupy` of the group `equilib.kernels` → KERNELS → exact.cu

Any build of cupy will do (`cupy-cuda12x`, `cupy-cuda13x`, conda's `cupy`): it is imported when first used.
"""

from __future__ import annotations

from typing import Any

__all__ = ["KERNELS"]


class CupyKernels:
    """The entry point `cupy` of the group `equilib.kernels`."""

    def shapley_values(self, tables: Any, n: int) -> Any:
        """Compute the Shapley values `(batch, n)` of tables `(batch, 2**n)`, in their dtype and on their device."""
        from equilib_cupy.exact import shapley_values

        return shapley_values(tables, n)


KERNELS = CupyKernels()
