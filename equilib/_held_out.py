"""Held-out data for an audit: batches of inputs and targets of any array library, read and checked.

(inputs, targets), or an iterable of such  →  read_batches  →  Batch after batch
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import array_api_compat
import numpy as np

from equilib._namespace import Array, is_torch_array

Numpy: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Batch(NamedTuple):
    """Some of the samples.

    Attributes:
        inputs: name of each modality -> array (m, ...), of any library.
        targets: (m, ...), NumPy.
        first: number of samples before.
    """

    inputs: dict[str, Array]
    targets: Numpy
    first: int

    @property
    def rows(self) -> int:
        """Number of samples m."""
        return len(self.targets)

    def cut(self, size: int) -> Iterator[Batch]:
        """Cut into parts of at most `size` samples."""
        for start in range(0, self.rows, size):
            rows = slice(start, start + size)
            inputs = {name: x[rows] for name, x in self.inputs.items()} if self.rows > size else self.inputs
            yield Batch(inputs, self.targets[rows], self.first + start)


def read_batches(data: Any, name: str = "data") -> Iterator[Batch]:
    """Read data, batch by batch.

    Raises:
        ValueError: it is no pair of inputs and targets, nor an iterable of such pairs; something in it has another
            length or other modalities than the rest; or there is no sample.
    """
    names: list[str] | None = None
    first = 0
    for inputs, targets in _pairs(data, name):
        batch = _read_batch(inputs, targets, first, name)
        if names is not None and list(batch.inputs) != names:
            if sorted(batch.inputs) != sorted(names):
                raise ValueError(
                    f"{name} must have the same modalities in every batch, got {names}, then {list(inputs)}"
                )
            batch = batch._replace(inputs={key: batch.inputs[key] for key in names})
        names = list(batch.inputs)
        if batch.rows:
            yield batch
        first += batch.rows
    if not first:
        raise ValueError(f"{name} must hold at least one sample, got none")


def _pairs(data: Any, name: str) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], Mapping):
        yield data[0], data[1]
        return
    if isinstance(data, (Mapping, str)) or not isinstance(data, Iterable):
        raise ValueError(f"{name} must be (inputs, targets), or an iterable of such batches, got {type(data).__name__}")
    for item in data:
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], Mapping):
            raise ValueError(
                f"{name} must hold batches (inputs, targets) whose inputs are a mapping of modality names to arrays, "
                f"got {_describe(item)}"
            )
        yield item[0], item[1]


def _describe(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"{type(item).__name__} of {len(item)}: " + ", ".join(type(x).__name__ for x in item[:4])
    return type(item).__name__


def _read_batch(inputs: Mapping[str, Any], targets: Any, first: int, name: str) -> Batch:
    if not inputs:
        raise ValueError(f"{name} must have at least one modality, got none")
    arrays = {str(key): read_array(x, f"modality {key!r}") for key, x in inputs.items()}
    truth = to_numpy(targets, "targets")
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim == 0:
        raise ValueError("targets must be one per sample, got a scalar")
    for key, x in arrays.items():
        if x.shape[0] != len(truth):
            raise ValueError(f"modality {key!r} must have one row per target, {len(truth)}, got {x.shape[0]}")
    if truth.dtype.kind == "f" and not np.isfinite(truth).all():
        row = int(np.argmin(np.isfinite(truth.reshape(len(truth), -1)).all(1)))
        raise ValueError(f"targets must be finite, got {truth[row]} for sample {first + row}")
    return Batch(arrays, truth, first)


def read_array(x: Any, name: str) -> Array:
    """Read an array of any library as it is; a list becomes a NumPy array.

    Raises:
        ValueError: it is something else, ragged, or a scalar.
    """
    if not array_api_compat.is_array_api_obj(x):
        if not isinstance(x, (list, tuple)):
            raise ValueError(
                f"{name} must be an array with one row per sample, got {type(x).__name__}: try .to_numpy()"
            )
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name} must be an array with one row per sample, got a ragged list") from error
    if x.ndim == 0:
        raise ValueError(f"{name} must be an array with one row per sample, got a scalar")
    return x


def to_numpy(x: Any, name: str) -> Numpy:
    """Copy an array of any library, from any device, to NumPy; numbers and texts alike.

    Raises:
        ValueError: it is ragged, or cannot be copied.
    """
    if is_torch_array(x):
        x = x.detach().cpu()
        x = x.float() if x.is_floating_point() and x.element_size() < 4 else x  # NumPy has no bfloat16
    elif array_api_compat.is_cupy_array(x):
        x = x.get()  # cupy refuses to be copied silently
    elif array_api_compat.is_jax_array(x) and x.dtype.name == "bfloat16":
        x = x.astype("float32")
    try:
        array: Numpy = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array, got {type(x).__name__} ({error})") from error
    return array
