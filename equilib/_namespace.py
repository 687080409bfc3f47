"""The public edge: which array library to compute in, and what may come in."""

from __future__ import annotations

import contextlib
import math
import operator
import sys
from numbers import Real
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from equilib._refusals import refuse_wrapped

Array: TypeAlias = Any
"""An array of any array-API library: no shared type covers their operators and namespaces."""
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Namespace: TypeAlias = Any
"""A module (or object) with the functions of the array API standard."""

CHECKED_AT_ONCE = 2**26
"""Values looked at together for one that is not finite: what that allocates stays small beside a large table."""


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
        ValueError: `x` holds something else than real numbers, or is no plain array (masked, sparse).
    """
    x, xp = as_numbers(x, name, allow_bool=allow_bool)
    return xp.astype(x, floating_dtype(x, xp=xp), copy=False), xp


def as_numbers(x: Any, name: str, *, allow_bool: bool = False) -> tuple[Array, Namespace]:
    """Read an argument as :func:`as_floating` does, but leave integers and truth values what they are.

    Raises:
        ValueError: `x` holds something else than real numbers, or is no plain array (masked, sparse).
    """
    refuse_wrapped(x, name)
    xp: Namespace
    if type(x) is np.ndarray:  # what follows would find the same, more slowly
        xp = get_namespace(None)
    elif is_torch_array(x):
        # array_namespace() and is_array_api_obj() would find the same, but torch.compile warns at their caches.
        import array_api_compat.torch as torch_namespace

        xp = torch_namespace
    elif not isinstance(x, (list, tuple)) and array_api_compat.is_array_api_obj(x):
        xp = array_api_compat.array_namespace(x)
        if isinstance(x, (np.ndarray, np.generic)):
            x = xp.asarray(x)  # a scalar is no array yet; in other libraries this may copy to the current device
    else:
        xp = get_namespace(None)
        try:
            x = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:
            # Scalars of other libraries may refuse to leave their device, or their gradient.
            what = "a ragged" if "inhomogeneous" in str(error) else f"what NumPy cannot read ({error}) in a"
            raise ValueError(f"{name} must be an array of real numbers, got {what} {type(x).__name__}") from error
    kinds = ("real floating", "integral", "bool") if allow_bool else ("real floating", "integral")
    if x.dtype == object or not xp.isdtype(x.dtype, kinds) or _is_tiny_float(x.dtype, xp=xp):
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if is_dask_array(x) and any(math.isnan(length) for length in x.shape):
        raise ValueError(f"{name} must have a known shape, got {x.shape}: call its compute_chunk_sizes()")
    return x, xp


def _is_tiny_float(dtype: Any, *, xp: Namespace) -> bool:
    """Tell whether a dtype has eight bits or less, too few to compute in, and no library does."""
    return getattr(dtype, "itemsize", 2) < 2 and bool(xp.isdtype(dtype, "real floating"))


def floating_dtype(x: Array, *, xp: Namespace) -> Any:
    """Name the floating dtype of what is computed from `x`: its own, or the default of its library and device."""
    if xp.isdtype(x.dtype, "real floating"):
        return x.dtype
    device = None if is_torch_array(x) else device_of(x)  # torch's default is the same everywhere
    return xp.__array_namespace_info__().default_dtypes(device=device)["real floating"]


def wide_dtype(x: Array, *, xp: Namespace) -> Any:
    """Name the dtype to add up in beside `x`: float64 where its library and device have it, else float32."""
    if has_float64(xp, device_of(x)):
        return xp.float64
    return xp.float32


def has_float64(xp: Namespace, device: Any) -> bool:
    """Tell whether arrays of a library may be float64 on a device; jax has none unless told to."""
    if array_api_compat.is_jax_namespace(xp):  # it would warn, and give float32
        return bool(sys.modules["jax"].config.jax_enable_x64)
    if getattr(device, "type", None) == "cpu":  # torch's
        return True
    try:
        xp.empty((0,), dtype=xp.float64, device=device)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return True


def as_floating_like(x: Any, name: str, like: Array, *, xp: Namespace) -> Array:
    """Read a second argument, a list or an array of any library, into library, device and dtype of the first, `like`.

    Raises:
        ValueError: `x` holds something else than real numbers, or is no plain array.
    """
    if not isinstance(x, (list, tuple)):
        x, own = as_floating(x, name)
        return move_to(x, own, like, xp=xp)
    refuse_wrapped(x, name)
    try:
        return xp.asarray(x, dtype=like.dtype, device=device_of(like))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array of real numbers, got a malformed {type(x).__name__}") from error


def move_to(x: Array, own: Namespace, like: Array, *, xp: Namespace, dtype: Any = None) -> Array:
    """Copy `x` of the library `own` into the library, device and dtype of `like`; nothing if it is all that already.

    Devices give their arrays away only when asked in their own words, so another library's are copied by way of NumPy.
    """
    dtype = like.dtype if dtype is None else dtype
    if own is not xp:
        return xp.asarray(np.array(to_host(x)), dtype=dtype, device=device_of(like))
    x = xp.astype(x, dtype, copy=False)
    device = device_of(like)
    return x if device is None or is_traced(x) or device_of(x) == device else array_api_compat.to_device(x, device)


def to_host(x: Any) -> Any:
    """Copy an array of any library to NumPy, as far as it is no number of Python's own."""
    if is_torch_array(x):
        x = x.detach().cpu()
        return (x.double() if x.is_floating_point() else x).numpy()  # NumPy has no bfloat16
    if array_api_compat.is_cupy_array(x):
        return x.get()
    if hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray) and not array_api_compat.is_jax_array(x):
        x = x.to_device(x.__array_namespace__().__array_namespace_info__().default_device())
    return np.asarray(x)


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
    if source % x.ndim == destination % x.ndim:
        return x
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
    if not xp.isdtype(x.dtype, "real floating"):
        return
    if is_torch_array(x) and not is_traced(x) and math.isfinite(x.detach().sum().item()):
        return  # one call instead of three; a sum may overflow where no value does
    flat = xp.reshape(x, (-1,)) if x.ndim != 1 else x
    size = flat.shape[0]
    for start in range(0, max(size, 1), CHECKED_AT_ONCE):
        part = flat if size <= CHECKED_AT_ONCE else flat[start : start + CHECKED_AT_ONCE]
        finite = xp.isfinite(part)
        everywhere = xp.all(finite)
        # Under jax.jit even a constant becomes a tracer once it is computed with: look at the result.
        if is_traced(everywhere):
            return
        if not everywhere:
            # Not part[~finite]: boolean indexing is optional.
            first = float(stop_gradient(part)[int(xp.argmin(xp.astype(finite, xp.int8)))])
            raise ValueError(f"{name} must be finite, got {first} in an array of shape {tuple(x.shape)}")


def is_traced(x: Array) -> bool:
    """Tell whether `x` stands for a value that is not known yet (jax, torch.func, torch.compile, the device meta)."""
    if is_torch_array(x):
        torch = sys.modules["torch"]
        # torch.func has no public test for being inside a transform.
        return bool(torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x) or x.is_meta)
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)


def is_torch_array(x: Any) -> bool:
    """Tell whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def as_numpy_view(x: Any) -> Floats | None:
    """See the memory of a torch tensor as a NumPy array, whose calls take a fraction of the time.

    None where NumPy cannot, or torch would miss it: gradients, in either direction; what a subclass or a tracer makes
    of operations.
    """
    torch = sys.modules.get("torch")
    if (
        torch is None
        or type(x) is not torch.Tensor
        or x.dtype not in (torch.float64, torch.float32, torch.float16)
        or not x.is_cpu
        or x.layout != torch.strided
        or x.is_nested
        or (x.requires_grad and torch.is_grad_enabled())
        or is_traced(x)
        or x.is_neg()
        or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack()  # somebody listens to all operations, such as make_fx
    ):
        return None
    view: Floats = x.detach().numpy()
    return view


def from_numpy_memory(x: Floats) -> Array:
    """See a NumPy array as a torch tensor, on the CPU whatever torch's default device is."""
    return sys.modules["torch"].from_numpy(x)


def is_dask_array(x: Any) -> bool:
    """Tell whether `x` is an array of dask, in words that torch.compile understands."""
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(x, dask.Array)


def device_of(x: Array) -> Any:
    """Return the device to create arrays on that will meet `x`; None while jax decides that itself."""
    if is_torch_array(x):
        return x.device
    device = array_api_compat.device(x)
    # What is spread over several devices meets what was put on none by name.
    return None if array_api_compat.is_jax_array(x) and hasattr(device, "device_set") else device


def wait_for_device(x: Any) -> None:
    """Wait until what was asked for on the current stream of the device of `x` is done; CPUs have nothing pending."""
    if is_torch_array(x):
        if x.device.type not in ("cpu", "meta"):
            sys.modules["torch"].accelerator.current_stream(x.device).synchronize()
    elif array_api_compat.is_cupy_array(x):
        with x.device:
            sys.modules["cupy"].cuda.get_current_stream().synchronize()


def gather_last(x: Array) -> Array:
    """Give every device all of the last axis, where jax was told explicitly to spread it: it would not cut it up."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(x, jax.Array) or is_traced(x):
        return x
    sharding = x.sharding
    if not getattr(getattr(sharding, "mesh", None), "explicit_axes", ()):
        return x
    spread = (*sharding.spec, *(None,) * x.ndim)[: x.ndim - 1]
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*spread, None))
    return jax.device_put(x, whole)


def keep(x: Array) -> Array:
    """Compute `x` now if it is only described, as dask's arrays are: both the check and the caller will need it."""
    return x.persist() if is_dask_array(x) else x


def stop_gradient(x: Array) -> Array:
    """Return `x` as a constant of differentiation."""
    if is_torch_array(x):
        return x.detach()
    if array_api_compat.is_jax_array(x):
        return sys.modules["jax"].lax.stop_gradient(x)
    return x


def beside(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Compute on the device of `x` and in the dtypes that are written, whatever is current around the caller.

    torch.autocast would round sums and products to half precision; cupy makes arrays on the current device, and
    array-api-compat drops the device it is asked for.
    """
    if isinstance(x, np.ndarray):
        return contextlib.nullcontext()
    if is_torch_array(x):
        torch = sys.modules["torch"]
        kind = x.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            autocast: contextlib.AbstractContextManager[Any] = torch.autocast(kind, enabled=False)
            return autocast
    elif array_api_compat.is_cupy_array(x):
        device: contextlib.AbstractContextManager[Any] = x.device
        return device
    return contextlib.nullcontext()


def ignore_overflow(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Compute :func:`beside` `x`, without NumPy's warnings where a finite check of the result follows.

    NumPy has them, and libraries that use it; torch could not compile what silences them.
    """
    if not isinstance(x, np.ndarray) and (is_torch_array(x) or array_api_compat.is_cupy_array(x)):
        return beside(x)
    return np.errstate(over="ignore", invalid="ignore")
