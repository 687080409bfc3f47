"""What a data set is: modalities, labels and splits, checked when they are put together.

Everything downstream relies on the checks here, so that it need not repeat them: a `Modality` or `Dataset` that exists
is well formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from equilib_torch.errors import InputError

Array: TypeAlias = npt.NDArray[Any]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.int64]

Kind = Literal["vector", "sequence", "image"]
"""What an encoder sees: a vector of features, a sequence of frames, or an image."""

SPLITS = ("train", "val", "test")
MAX_MODALITIES = 8
_DIMENSIONS: dict[str, tuple[int, ...]] = {"vector": (2,), "sequence": (3,), "image": (3, 4)}


@dataclass(frozen=True, eq=False)
class Modality:
    """One modality of every sample.

    Whatever carries no information is cleared when the object is built: frames past the length and absent rows are 0,
    and an absent row of a sequence has length 1, so that an encoder that runs over it meets neither NaN nor an empty
    sequence. The arrays passed in are never written to.

    Attributes:
        name: Not empty, printable, no space at its ends, without "+" (joins names of coalitions) and "=" (joins a name
            and an encoder on the command line).
        kind: Decides the encoder.
        values: (N, D) vectors, (N, T, F) sequences, (N, H, W) or (N, H, W, C) images; bool, integer or real, in the
            dtype they came with (in native byte order) and C order.
        lengths: (N,) int64, valid frames of each row, 1..T; an array for sequences, None for the other kinds.
        present: (N,) bool, False where the sample lacks this modality.

    Raises:
        InputError: A rule above is broken, or a value that counts is NaN, infinite or too large for float32.

    Example:
        >>> everywhere = np.array([True, True])
        >>> Modality("text", "sequence", np.ones((2, 3, 1)), np.array([2, 3]), everywhere).values[0, :, 0]
        array([1., 1., 0.])
        >>> Modality("a+b", "vector", np.ones((2, 3)), None, everywhere)
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: modality name: must be printable, ... got 'a+b'
    """

    name: str
    kind: Kind
    values: Array
    lengths: IntArray | None
    present: BoolArray

    def __post_init__(self) -> None:
        name = self.name
        check_name(name)
        values = _checked_values(name, self.kind, np.asarray(self.values))
        present = np.asarray(self.present)
        if present.shape != values.shape[:1] or present.dtype != np.bool_:
            raise InputError(
                f"{name}: present must be {len(values)} booleans, got {present.dtype} of shape {present.shape}"
            )
        if not present.any():
            raise InputError(f"{name}: absent in all {len(values)} samples; leave the modality out")
        lengths, unused = None, ~present
        if self.kind == "sequence":
            lengths = _checked_lengths(name, self.lengths, present, values.shape[1])
            unused = (np.arange(values.shape[1]) >= lengths[:, None]) | unused[:, None]
        elif self.lengths is not None:
            raise InputError(f"{name}: only a sequence has lengths, this is of kind {self.kind!r}")
        values = _cleared(values, unused)
        _check_finite(name, values)
        for field, value in (("values", values), ("lengths", lengths), ("present", present)):
            object.__setattr__(self, field, value)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples with one or more modalities, and which of them train, validate and test.

    Attributes:
        name: Shown in summaries.
        modalities: 1 to 8, each with N rows, names distinct.
        labels: (N,) int64, indices into `classes`.
        classes: Two or more distinct classes, each with a training sample.
        splits: "train", "val" and "test", each the (n,) int64 rows of that part: not empty, disjoint.

    Raises:
        InputError: A rule above is broken; a sample has no modality at all, or a modality no training sample.

    Example:
        >>> x = Modality("x", "vector", np.eye(4), None, np.ones(4, bool))
        >>> rows = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([3])}
        >>> dataset = Dataset("toy", (x,), np.array([0, 1, 0, 1]), ("no", "yes"), rows)
        >>> dataset.names, dataset.n_classes
        (('x',), 2)
    """

    name: str
    modalities: tuple[Modality, ...]
    labels: IntArray
    classes: tuple[str, ...] | tuple[int, ...]
    splits: dict[str, IntArray]

    def __post_init__(self) -> None:
        _check_labels(self.labels, self.classes)
        _check_splits(self.splits, self.labels, self.classes)
        _check_modalities(self.modalities, self.splits["train"], len(self.labels))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


def check_name(name: str) -> None:
    """Refuse a name no modality may have; see `Modality`.

    Raises:
        InputError: The name is refused.

    Example:
        >>> check_name("karhunen_loeve")
    """
    if not name or not name.isprintable() or name != name.strip() or "+" in name or "=" in name:
        raise InputError(
            f"modality name: must be printable, not empty, without spaces at its ends, '+' and '=', got {name[:80]!r}"
        )


def _checked_values(name: str, kind: str, values: Array) -> Array:
    if kind not in _DIMENSIONS:
        raise InputError(f"{name}: kind must be one of {', '.join(_DIMENSIONS)}, got {kind!r}")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name}: values must be bool, integer or real, got dtype {values.dtype}")
    if values.ndim not in _DIMENSIONS[kind] or 0 in values.shape:
        dimensions = " or ".join(map(str, _DIMENSIONS[kind]))
        raise InputError(
            f"{name}: kind {kind!r} needs {dimensions} dimensions, none of size 0, got shape {values.shape}"
        )
    # torch takes no foreign byte order; a file from another machine may have one.
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _checked_lengths(name: str, lengths: Array | None, present: BoolArray, n_frames: int) -> IntArray:
    """Give (N,) lengths: 1..T where present, 1 where absent."""
    lengths = np.asarray(lengths)
    if lengths.shape != present.shape or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{name}: lengths must be {present.size} integers, got {lengths.dtype} of shape {lengths.shape}"
        )
    wrong = present & ((lengths < 1) | (lengths > n_frames))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{name}: lengths must be 1 to {n_frames} (its frames), got {lengths[row]} in row {row}")
    return np.where(present, lengths, 1).astype(np.int64)


def _cleared(values: Array, unused: BoolArray) -> Array:
    """Set what is not used to 0, in a copy if that changes anything; NaN counts as not 0."""
    if np.any(values[unused]):
        values = values.copy()
        values[unused] = 0
    return values


def _check_finite(name: str, values: Array) -> None:
    # Training runs in float32, where a float64 such as 1e300 becomes infinite: refuse it here, not as a NaN loss later.
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False))
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(f"{name}: values must be finite in float32, got {values[index]} at {list(index)}")


def _check_labels(labels: IntArray, classes: tuple[str, ...] | tuple[int, ...]) -> None:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"label: needs two or more distinct classes, got {list(classes)}")
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise InputError(f"label: needs one int64 index per sample, got {labels.dtype} of shape {labels.shape}")
    if np.any((labels < 0) | (labels >= len(classes))):
        raise InputError(f"label: indices must be 0 to {len(classes) - 1}, got {labels.min()} to {labels.max()}")


def _check_splits(splits: dict[str, IntArray], labels: IntArray, classes: tuple[str, ...] | tuple[int, ...]) -> None:
    if set(splits) != set(SPLITS):
        raise InputError(f"split: needs exactly {', '.join(SPLITS)}, got {', '.join(map(str, splits)) or 'none'}")
    for part in SPLITS:
        rows = splits[part]
        if rows.ndim != 1 or rows.dtype != np.int64 or rows.size == 0:
            raise InputError(f"split: {part!r} must be int64 rows, one or more, got {rows.dtype} of shape {rows.shape}")
    used = np.concatenate([splits[part] for part in SPLITS])
    if used.min() < 0 or used.max() >= len(labels):
        raise InputError(f"split: rows must be 0 to {len(labels) - 1}, got {used.min()} to {used.max()}")
    if np.unique(used).size < used.size:
        raise InputError("split: a row must be in one part only, once; got a row repeated")
    untrained = np.bincount(labels[splits["train"]], minlength=len(classes)) == 0
    if untrained.any():
        raise InputError(f"label: every class needs a training sample, {classes[int(untrained.argmax())]!r} has none")


def _check_modalities(modalities: tuple[Modality, ...], train: IntArray, n_rows: int) -> None:
    names = [modality.name for modality in modalities]
    if not 1 <= len(names) <= MAX_MODALITIES or len(set(names)) < len(names):
        raise InputError(f"modalities: needs 1 to {MAX_MODALITIES} of distinct names, got {len(names)}: {names[:20]}")
    for modality in modalities:
        if len(modality.values) != n_rows:
            raise InputError(f"{modality.name}: needs a row per label, {n_rows}, got {len(modality.values)}")
        if not modality.present[train].any():
            raise InputError(f"{modality.name}: absent in all {train.size} training samples")
    empty = ~np.any([modality.present for modality in modalities], axis=0)
    if empty.any():
        raise InputError(
            f"present: every sample needs a modality, {empty.sum()} have none, the first in row {empty.argmax()}"
        )
