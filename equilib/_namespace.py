"""The public edge: which array library to compute in, and what may come in."""

from __future__ import annotations

import contextlib
import operator
import sys
from numbers import Real
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

Array: TypeAlias = Any
"""An array of any array-API library: no shared type covers their operators and namespaces."""
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Namespace: TypeAlias = Any
"""A module (or object) with the functions of the array API standard."""


def get_namespace(xp: Namespace | None) -> Namespace:
    """Turn a module such as `torch` into its array-API namespace; None is NumPy.

    Raises:
        ValueError: `xp` makes no arrays.
    """
    if xp is None:
        import array_api_compat.numpy as numpy_namespace

        return numpy_namespace
    try:
        return array_api_compat.array_namespace(xp.empty(0))
    except (AttributeError, TypeError) as error:
        raise ValueError(f"xp must be an array module such as numpy, torch or jax.numpy, got {xp!r}") from error


def as_floating(x: Any, name: str, *, allow_bool: bool = False) -> tuple[Array, Namespace]:
    """Read an argument as a real floating array, with the namespace to compute in.

    Arrays stay in their library, on their device and in their floating dtype; integers, and truth values where they are
    allowed, become the library's default float. Anything else (lists, scalars) becomes a NumPy array.

    Raises:
        ValueError: `x` holds something else than real numbers.
    """
    xp: Namespace
    if is_torch_array(x):
        # array_namespace() and is_array_api_obj() would find the same, but torch.compile warns at their caches.
        import array_api_compat.torch as torch_namespace

        xp = torch_namespace
    elif not isinstance(x, (list, tuple)) and array_api_compat.is_array_api_obj(x):
        xp = array_api_compat.array_namespace(x)
        x = xp.asarray(x)  # a NumPy scalar is not an array yet
    else:
        xp = get_namespace(None)
        try:
            x = xp.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name} must be an array of real numbers, got a ragged {type(x).__name__}") from error
    kinds = ("real floating", "integral", "bool") if allow_bool else ("real floating", "integral")
    if x.dtype == object or not xp.isdtype(x.dtype, kinds):
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if not xp.isdtype(x.dtype, "real floating"):
        x = xp.astype(x, xp.__array_namespace_info__().default_dtypes()["real floating"])
    return x, xp


def as_floating_like(x: Any, name: str, like: Array, *, xp: Namespace) -> Array:
    """Read a second argument into the library and dtype of the first, `like`.

    Lists and arrays of another library move to its device; arrays of the same library stay where they are.

    Raises:
        ValueError: `x` holds something else than real numbers.
    """
    if not isinstance(x, (list, tuple)):
        x, own = as_floating(x, name)
        if own is xp:
            return xp.astype(x, like.dtype)
    try:
        return xp.asarray(x, dtype=like.dtype, device=device_of(like))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of real numbers, got a malformed {type(x).__name__}") from error


def move_axis_last(x: Array, axis: int, name: str, *, xp: Namespace) -> Array:
    """Move `axis` to the end.

    Raises:
        ValueError: `x` is a scalar, or has no such axis.
    """
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least one dimension, got a scalar")
    if not -x.ndim <= as_int(axis, "axis") < x.ndim:
        shape = tuple(x.shape)
        raise ValueError(f"axis must be from {-x.ndim} to {x.ndim - 1} for {name} of shape {shape}, got {axis}")
    return move_axis(x, axis, -1, xp=xp)


def move_axis(x: Array, source: int, destination: int, *, xp: Namespace) -> Array:
    """Move one axis; unlike `moveaxis`, `permute_dims` has a batching rule in torch.func.vmap."""
    axes = list(range(x.ndim))
    axes.insert(destination % x.ndim, axes.pop(source % x.ndim))
    return xp.permute_dims(x, tuple(axes))


def as_int(value: Any, name: str) -> int:
    """Read an integer argument, of Python's or another type; True is not one.

    Raises:
        ValueError: `value` is not an integer.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{name} must be an integer, got {value!r}")


def as_fraction(value: Any, name: str) -> float:
    """Read a number in [0, 1).

    Raises:
        ValueError: `value` is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
    return float(value)


def require_finite(x: Array, name: str, *, xp: Namespace) -> None:
    """Check that `x` holds no NaN and no infinity, unless it is being traced and has no values yet.

    Raises:
        ValueError: `x` is not finite.
    """
    finite = xp.isfinite(x)
    everywhere = xp.all(finite)
    # Under jax.jit even a constant becomes a tracer once it is computed with: look at the result.
    if not is_traced(everywhere) and not everywhere:
        raise ValueError(f"{name} must be finite, got {float(x[~finite][0])} in an array of shape {tuple(x.shape)}")


def is_traced(x: Array) -> bool:
    """Tell whether `x` stands for a value that is not known yet (jax, torch.func, torch.compile)."""
    if is_torch_array(x):
        torch = sys.modules["torch"]
        # torch.func has no public test for being inside a transform.
        return bool(torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x))
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)


def is_torch_array(x: Any) -> bool:
    """Tell whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def device_of(x: Array) -> Any:
    """Return the device to create arrays on that will meet `x`; None while jax decides that itself."""
    return x.device if is_torch_array(x) else array_api_compat.device(x)


def stop_gradient(x: Array) -> Array:
    """Return `x` as a constant of differentiation."""
    if is_torch_array(x):
        return x.detach()
    if array_api_compat.is_jax_array(x):
        return sys.modules["jax"].lax.stop_gradient(x)
    return x


def ignore_overflow(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Silence NumPy's warnings where a finite check of the result follows; torch has none, and cannot compile this."""
    if is_torch_array(x):
        return contextlib.nullcontext()
    return np.errstate(over="ignore", invalid="ignore")
