"""What stands for a modality that is absent: its mean, zeros, nothing, another sample's, or what one says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import array_api_compat
import numpy as np

from equilib._held_out import Batch, Numpy, read_array, to_numpy
from equilib._namespace import Array, Namespace, device_of, is_torch_array

CHOICES = ("mean", "zero", "drop", "shuffle")
Fill = Callable[[str, Array, int], Array]
"""Name of a modality, its rows (m, ...), and the number of samples before them, to what stands for them, (m, ...)."""


def check_choice(absent: Any, names: list[str]) -> None:
    """Check what stands for the absent.

    Raises:
        ValueError: it is none of the choices, or a mapping that is not of exactly these modalities.
    """
    if isinstance(absent, Mapping):
        if sorted(map(str, absent)) != sorted(names):
            raise ValueError(f"absent must have an array for each modality, {names}, got {list(absent)}")
    elif not callable(absent) and (not isinstance(absent, str) or absent not in CHOICES):
        raise ValueError(
            f"absent must be one of {', '.join(CHOICES)}, a mapping of names to arrays, or callable, got {absent!r}"
        )


def describe_choice(absent: Any) -> str:
    """Name what stands for the absent, for the record."""
    if isinstance(absent, str):
        return absent
    if isinstance(absent, Mapping):
        return "given arrays"
    return f"callable {getattr(absent, '__name__', type(absent).__name__)}"


def make_fill(absent: Any, background: Callable[[], Iterable[Batch]], rng: np.random.Generator) -> Fill | None:
    """Make the function that fills in for absent modalities; None leaves them out.

    Args:
        absent: what was chosen, checked.
        background: gives the samples that means and other samples' inputs come from.
        rng: draws which sample stands for which.
    """
    if absent == "drop":
        return None
    if absent == "zero":
        return _fill_zero
    if absent == "mean":
        means = _means(background())
        return lambda name, x, first: _spread(means[name], x, name)
    if absent == "shuffle":
        return _shuffle(background(), rng)
    if isinstance(absent, Mapping):
        given = {str(name): read_array_or_number(x, f"absent {name!r}") for name, x in absent.items()}
        return lambda name, x, first: _spread(given[name], x, name)
    return lambda name, x, first: _spread(absent(name, x), x, name)


def read_array_or_number(x: Any, name: str) -> Any:
    """Read an array, or a number or text that stands for every entry."""
    return x if isinstance(x, (int, float, str)) else read_array(x, name)


def _is_numeric(x: Array) -> bool:
    """Tell whether entries are real numbers that a mean exists of."""
    if isinstance(x, np.ndarray):
        return bool(x.dtype.kind == "f")
    return bool(_namespace(x).isdtype(x.dtype, "real floating"))


def _kind(x: Array) -> str:
    if isinstance(x, np.ndarray) and x.dtype.kind in "UTOS":
        return "strings" if x.dtype.kind != "O" else "objects"
    return f"{x.dtype}".removeprefix("torch.")


def _means(background: Iterable[Batch]) -> dict[str, Numpy]:
    """Average every modality over the samples; NaN, which stands for nothing measured, takes no part."""
    totals: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for batch in background:
        for name, x in batch.inputs.items():
            if not _is_numeric(x):
                raise ValueError(
                    f"modality {name!r} holds {_kind(x)}, which have no mean: use absent='shuffle', 'drop', "
                    f"{{{name!r}: array}} or a callable"
                )
            rows = to_numpy(x, f"modality {name!r}").astype(np.float64)
            known = ~np.isnan(rows)
            totals[name] = totals.get(name, 0) + np.where(known, rows, 0).sum(0)
            counts[name] = counts.get(name, 0) + known.sum(0)
    return {
        name: np.where(counts[name] > 0, total / np.maximum(counts[name], 1), np.nan) for name, total in totals.items()
    }


def _fill_zero(name: str, x: Array, first: int) -> Array:
    if isinstance(x, np.ndarray) and x.dtype.kind not in "buifc":
        raise ValueError(
            f"modality {name!r} holds {_kind(x)}, which have no zero: use absent='shuffle', 'drop', "
            f"{{{name!r}: array}} or a callable"
        )
    return _namespace(x).zeros_like(x)


def _shuffle(background: Iterable[Batch], rng: np.random.Generator) -> Fill:
    """Let another sample stand for each, in all its modalities: the next in a random circle, so never itself."""
    batches = list(background)
    count = sum(batch.rows for batch in batches)
    if count < 2:
        raise ValueError("absent='shuffle' needs at least 2 samples to draw from, got 1")
    circle = rng.permutation(count)
    partner = np.empty(count, np.int64)
    partner[circle] = np.roll(circle, -1)
    whole = {name: _join([batch.inputs[name] for batch in batches]) for name in batches[0].inputs}

    def fill(name: str, x: Array, first: int) -> Array:
        rows = partner[(first + np.arange(x.shape[0])) % count]
        source = whole[name]
        if isinstance(source, np.ndarray):
            return _spread(source[rows], x, name)
        xp = _namespace(source)
        return xp.take(source, xp.asarray(rows, device=device_of(source)), axis=0)

    return fill


def _join(parts: list[Array]) -> Array:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else _namespace(parts[0]).concat(parts, axis=0)


def _spread(value: Any, x: Array, name: str) -> Array:
    """Bring what stands for a modality to its library, dtype, device and shape (m, ...)."""
    shape = tuple(x.shape)
    try:
        if isinstance(x, np.ndarray):
            # Texts keep their own length: cut to that of the data, they would change.
            value = to_numpy(value, name) if not isinstance(value, (int, float, str)) else np.asarray(value)
            kept = value if x.dtype.kind in "UTO" else value.astype(x.dtype)
            return np.ascontiguousarray(np.broadcast_to(kept, shape))
        xp = _namespace(x)
        if not (is_torch_array(value) and is_torch_array(x)) and not isinstance(value, (int, float)):
            value = to_numpy(value, name)
        filled = xp.broadcast_to(xp.asarray(value, dtype=x.dtype, device=device_of(x)), shape)
        return filled.clone() if is_torch_array(filled) else filled  # an expanded tensor cannot be written to
    except (ValueError, TypeError, RuntimeError) as error:
        found = getattr(value, "shape", value)
        raise ValueError(
            f"what stands for the absent {name!r} must fit its shape {shape} and dtype {x.dtype}, got {found}"
        ) from error


def _namespace(x: Array) -> Namespace:
    return array_api_compat.array_namespace(x)
