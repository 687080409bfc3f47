"""Arrays that look like plain ones and are not: to compute with what they hold would answer another question."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def refuse_wrapped(x: Any, name: str) -> None:
    """Refuse masked, sparse and nested arrays, and lists with a masked item.

    Raises:
        ValueError: `x` is one of them.
    """
    if type(x) is np.ndarray:
        return
    kind = _masked(x) or _sparse(x) or _of_torch(x)
    if kind:
        raise ValueError(f"{name} must be a plain array, got {kind} {type(x).__name__}")


def _masked(x: Any) -> str | None:
    """Tell whether values of `x` are hidden: then what lies beneath is not to be used."""
    if isinstance(x, (list, tuple)):
        return "a masked item in a" if any(_masked(item) for item in x) else None
    # NumPy's, and those of the array API (marray). A pandas object has a method of that name.
    has_mask = isinstance(x, np.ma.MaskedArray) or (
        hasattr(x, "__array_namespace__") and not callable(getattr(x, "mask", callable))
    )
    return "a masked" if has_mask else None


def _sparse(x: Any) -> str | None:
    # SciPy, CuPy, jax, PyData sparse: all of them spell the way out like this.
    return "a sparse" if hasattr(x, "todense") else None


def _of_torch(x: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return None
    if x.is_nested:
        return "a nested"
    if x.layout != torch.strided:
        return "a sparse"
    return "a masked" if hasattr(x, "get_mask") else None
