"""CUDA kernels of equilib: what `shapley_values` computes a table with that lives on a GPU.

    equilib.shapley_values(cupy array)   → entry point `cupy` of the group `equilib.kernels` → KERNELS → exact.cu
    equilib.shapley_values(torch tensor) → entry point `torch` → TORCH_KERNELS → the same, by DLPack: nothing is copied

Any build of cupy will do (`cupy-cuda12x`, `cupy-cuda13x`, conda's `cupy`): it is imported when first used.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

__all__ = ["KERNELS", "TORCH_KERNELS"]


class CupyKernels:
    """The entry point `cupy` of the group `equilib.kernels`."""

    def shapley_values(self, tables: Any, n: int) -> Any:
        """Compute the Shapley values `(batch, n)` of tables `(batch, 2**n)`, in their dtype and on their device."""
        from equilib_cupy.exact import shapley_values

        return shapley_values(tables, n)

    def checked_shapley_values(self, tables: Any, n: int) -> tuple[Any, Any]:
        """Compute the Shapley values, and a number `(1,)` that is not 0 if one of them is not finite."""
        from equilib_cupy.exact import checked_shapley_values

        return checked_shapley_values(tables, n)


class TorchKernels:
    """The entry point `torch` of the group `equilib.kernels`: the same kernels for tensors on a CUDA device."""

    def takes(self, tables: Any) -> bool:
        """Tell whether cupy is installed, and knows the dtype; without it, torch's own operations do as well."""
        return str(tables.dtype) in ("torch.float16", "torch.float32", "torch.float64") and _cupy_is_installed()

    def shapley_values(self, tables: Any, n: int) -> Any:
        """Compute the Shapley values `(batch, n)` of tables `(batch, 2**n)`, in their dtype and on their device."""
        return self.checked_shapley_values(tables, n)[0]

    def checked_shapley_values(self, tables: Any, n: int) -> tuple[Any, Any]:
        """Compute the Shapley values, and a number `(1,)` that is not 0 if one of them is not finite."""
        import cupy
        import torch
        import torch.utils.dlpack

        # On torch's stream: what made the table may still be under way there, and what follows waits for it.
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(tables.device).cuda_stream, tables.device.index)
        with cupy.cuda.Device(tables.device.index), stream:
            results = KERNELS.checked_shapley_values(cupy.from_dlpack(tables.detach()), n)
            shapley, bad = (torch.utils.dlpack.from_dlpack(result) for result in results)
        return shapley, bad


@functools.cache
def _cupy_is_installed() -> bool:
    return find_spec("cupy") is not None


KERNELS = CupyKernels()
TORCH_KERNELS = TorchKernels()
