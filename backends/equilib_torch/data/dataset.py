"""What a data set is: modalities, labels and splits, checked when they are put together.

Everything downstream relies on the checks here, so that it need not repeat them: a `Modality` or `Dataset` that exists
is well formed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
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
SUFFIXES = ("_length", "_present")
"""What is behind a modality's name in the keys that describe it."""

_SMALLEST_IMAGE = 8  # pixels; a smaller array of two dimensions is hardly meant as one
_CHUNK = 2**20  # numbers checked at a time, so that a check needs little memory beside the data
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
        present: (N,) bool, False where the sample lacks this modality; 0 and 1 will do.

    Lists and arrays of other libraries are taken as NumPy takes them.

    Raises:
        InputError: A rule above is broken, or a value that counts is NaN or infinite.

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
        check_name(self.name)
        name = str(self.name)
        values = _checked_values(name, self.kind, as_array(name, self.values))
        present = _checked_present(name, as_array(f"{name}_present", self.present), len(values))
        lengths, unused = None, ~present
        if self.kind == "sequence":
            lengths = _checked_lengths(name, self.lengths, present, values.shape[1])
            unused = (np.arange(values.shape[1]) >= lengths[:, None]) | unused[:, None]
        elif self.lengths is not None:
            raise InputError(
                f"{name}: only a sequence has lengths, this is of kind {self.kind!r}; leave them out, or rename "
                f"'{name}_length' if that is a modality"
            )
        values = _cleared(values, unused)
        _check_finite(name, values)
        fields = {"name": name, "values": values, "lengths": lengths, "present": present}
        for field, value in fields.items():
            object.__setattr__(self, field, value)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples with one or more modalities, and which of them train, validate and test.

    Attributes:
        name: Shown in summaries.
        modalities: 1 to 8, each with N rows, names distinct; none is called like another with `_length` or `_present`
            behind it, which are the keys that describe that other one.
        labels: (N,) int64, indices into `classes`.
        classes: Two or more distinct classes, all integers or all strings, each with a training sample.
        splits: "train", "val" and "test", each the (n,) int64 rows of that part: not empty, disjoint.
        drawn: Parts that a seed has drawn; they do not count as content for `fingerprint`.

    Lists and integers of any width are taken.

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
    drawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        classes = _checked_classes(self.classes)
        labels = _checked_labels(as_array("label", self.labels), classes)
        splits = _checked_splits(self.splits, labels, classes)
        modalities = _checked_modalities(self.modalities, splits["train"], len(labels))
        fields = {"modalities": modalities, "labels": labels, "classes": classes, "splits": splits}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal: equal for the same samples, whatever their name and place.

        Counted are modalities (name, kind, values, lengths, presence), labels, classes, and the parts that no seed has
        drawn, so that the seeds of a comparison share it.
        """
        digest = hashlib.sha256()
        for part in self._content():
            if isinstance(part, str):
                digest.update(f"{len(part)} {part}".encode("utf-8", "surrogatepass"))
            else:
                digest.update(f"{part.dtype.str} {part.shape}".encode())
                digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """How modalities were read whose shape leaves a doubt, each in a line with what to do about it."""
        return tuple(note for modality in self.modalities if (note := _reading_note(modality)))

    def _content(self) -> Iterator[str | Array]:
        for modality in self.modalities:
            yield modality.name
            yield modality.kind
            yield modality.values
            yield modality.present
            if modality.lengths is not None:
                yield modality.lengths
        yield self.labels
        yield from map(repr, self.classes)
        for part in SPLITS:
            if part not in self.drawn:
                yield part
                yield self.splits[part]


def check_name(name: str) -> None:
    """Refuse a name no modality may have; see `Modality`.

    Raises:
        InputError: The name is refused.

    Example:
        >>> check_name("karhunen_loeve")
    """
    if not isinstance(name, str):
        raise InputError(f"modality name: must be a string, got {name!r:.80}")
    if not name or not name.isprintable() or name != name.strip() or "+" in name or "=" in name:
        raise InputError(
            f"modality name: must be printable, not empty, without spaces at its ends, '+' and '=', got {name[:80]!r}"
        )


def as_array(name: str, value: Any) -> Array:
    """Take what NumPy can make an array of.

    Raises:
        InputError: It has rows of unequal shape, or is no array for another reason.

    Example:
        >>> as_array("image", [[1, 2], [3]])
        Traceback (most recent call last):
            ...
        equilib_torch.errors.InputError: image: must be one regular array (...); pad rows of unequal length
    """
    try:
        return np.asarray(value)
    except Exception as error:  # objects of other libraries raise what they like
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{name}: must be one regular array ({reason}); pad rows of unequal length") from error


def _checked_values(name: str, kind: str, values: Array) -> Array:
    if kind not in _DIMENSIONS:
        raise InputError(f"{name}: kind must be one of {', '.join(_DIMENSIONS)}, got {kind!r}")
    if values.dtype.kind not in "biuf":
        remedy = (
            "give one regular array of numbers: pad rows of unequal length"
            if values.dtype.hasobject
            else "encode them as numbers"
        )
        raise InputError(f"{name}: values must be bool, integer or real, got dtype {values.dtype}; {remedy}")
    if values.ndim not in _DIMENSIONS[kind] or 0 in values.shape:
        dimensions = " or ".join(map(str, _DIMENSIONS[kind]))
        raise InputError(
            f"{name}: kind {kind!r} needs {dimensions} dimensions, none of size 0, got shape {values.shape}"
        )
    # torch takes no foreign byte order; a file from another machine may have one.
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _checked_present(name: str, present: Array, n_rows: int) -> BoolArray:
    if present.shape != (n_rows,) or present.dtype.kind not in "biuf":
        raise InputError(f"{name}: present must be {n_rows} booleans, got {present.dtype} of shape {present.shape}")
    wrong = (present != 0) & (present != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}_present: must be bool, or 0 and 1, got {present[row]} in row {row}; "
            "write 1 where the sample has this modality, else 0"
        )
    if not present.any():
        raise InputError(f"{name}: absent in all {n_rows} samples; leave the modality out")
    return present.astype(np.bool_)


def _checked_lengths(name: str, lengths: Array | None, present: BoolArray, n_frames: int) -> IntArray:
    """Give (N,) lengths: 1..T where present, 1 where absent."""
    if lengths is None:
        raise InputError(
            f"{name}: a sequence needs lengths, got None; give np.full({present.size}, {n_frames}) if all frames count"
        )
    lengths = as_array(f"{name}_length", lengths)
    if lengths.shape != present.shape or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{name}: lengths must be {present.size} integers, got {lengths.dtype} of shape {lengths.shape}; "
            f"give the number of frames of each row, or rename '{name}_length' if that is a modality"
        )
    wrong = present & ((lengths < 1) | (lengths > n_frames))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}: lengths must be 1 to {n_frames} (its frames), got {lengths[row]} in row {row}; "
            f"if that sample lacks it, say so in '{name}_present'"
        )
    return np.where(present, lengths, 1).astype(np.int64)


def _chunks(values: Array) -> Iterator[slice]:
    """Give slices of rows that together are all rows, each of about `_CHUNK` numbers."""
    step = max(1, _CHUNK * len(values) // values.size)
    return (slice(start, start + step) for start in range(0, len(values), step))


def _cleared(values: Array, unused: BoolArray) -> Array:
    """Set what is not used to 0, in a copy if that changes anything; NaN counts as not 0."""
    if any(np.any(values[rows][unused[rows]]) for rows in _chunks(values)):
        values = values.copy()
        values[unused] = 0
    return values


def _check_finite(name: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    for rows in _chunks(values):
        with np.errstate(over="ignore"):
            finite = np.isfinite(values[rows].astype(np.float64, copy=False))
        if not finite.all():
            row, *place = map(int, np.argwhere(~finite)[0])
            row += rows.start
            raise InputError(
                f"{name}: values must be finite, got {values[(row, *place)]} at {[row, *place]}; "
                f"if the sample of row {row} lacks this modality, say so in '{name}_present' (False there), "
                "else fill or scale the value"
            )


def _checked_classes(classes: Any) -> tuple[str, ...] | tuple[int, ...]:
    listed = as_array("classes", list(classes)).tolist()
    if not (all(isinstance(c, str) for c in classes) or all(isinstance(c, int) for c in listed)):
        raise InputError(f"classes: must be all integers or all strings, got {list(classes)[:20]}")
    if len(listed) < 2 or len(set(listed)) < len(listed):
        raise InputError(f"label: needs two or more distinct classes, got {listed[:20]}")
    return tuple(listed)


def _checked_labels(labels: Array, classes: tuple[str, ...] | tuple[int, ...]) -> IntArray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"label: needs one integer per sample, an index into classes, got {labels.dtype} of shape {labels.shape}; "
            "classes, labels = np.unique(label, return_inverse=True) makes both"
        )
    if np.any((labels < 0) | (labels >= len(classes))):
        raise InputError(f"label: indices must be 0 to {len(classes) - 1}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64, copy=False)


def _checked_splits(splits: Any, labels: IntArray, classes: tuple[str, ...] | tuple[int, ...]) -> dict[str, IntArray]:
    if not isinstance(splits, Mapping) or set(splits) != set(SPLITS):
        got = ", ".join(map(str, splits)) or "none" if isinstance(splits, Mapping) else type(splits).__name__
        raise InputError(f"split: needs exactly {', '.join(SPLITS)}, each with its rows, got {got}; see make_splits")
    checked: dict[str, IntArray] = {}
    for part in SPLITS:
        rows = as_array(f"split {part}", splits[part])
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.size == 0:
            remedy = "; np.flatnonzero(mask) gives the rows of a mask" if rows.dtype.kind == "b" else ""
            raise InputError(
                f"split: {part!r} must be integer rows, one or more, got {rows.dtype} of shape {rows.shape}{remedy}"
            )
        if rows.min() < 0 or rows.max() >= len(labels):
            raise InputError(f"split: rows must be 0 to {len(labels) - 1}, got {rows.min()} to {rows.max()}")
        checked[part] = rows.astype(np.int64, copy=False)
    used = np.concatenate(list(checked.values()))
    if np.unique(used).size < used.size:
        raise InputError("split: a row must be in one part only, once; got a row repeated")
    untrained = np.bincount(labels[checked["train"]], minlength=len(classes)) == 0
    if untrained.any():
        raise InputError(f"label: every class needs a training sample, {classes[int(untrained.argmax())]!r} has none")
    return checked


def _checked_modalities(modalities: Any, train: IntArray, n_rows: int) -> tuple[Modality, ...]:
    if not isinstance(modalities, (list, tuple)) or not all(isinstance(m, Modality) for m in modalities):
        raise InputError(f"modalities: must be a tuple of Modality, got {type(modalities).__name__}")
    names = [modality.name for modality in modalities]
    if not 1 <= len(names) <= MAX_MODALITIES or len(set(names)) < len(names):
        raise InputError(f"modalities: needs 1 to {MAX_MODALITIES} of distinct names, got {len(names)}: {names[:20]}")
    for name in names:
        for suffix in SUFFIXES:
            if name.removesuffix(suffix) in set(names) - {name}:
                raise InputError(
                    f"modality name: {name!r} would be read as the {suffix[1:]} of {name.removesuffix(suffix)!r}; "
                    "rename one of them"
                )
    for modality in modalities:
        if len(modality.values) != n_rows:
            raise InputError(f"{modality.name}: needs a row per label, {n_rows}, got {len(modality.values)}")
        if not modality.present[train].any():
            raise InputError(f"{modality.name}: absent in all {train.size} training samples; leave the modality out")
    empty = ~np.any([modality.present for modality in modalities], axis=0)
    if empty.any():
        raise InputError(
            f"present: every sample needs a modality, {empty.sum()} have none, the first in row {empty.argmax()}; "
            "leave those samples out"
        )
    return tuple(modalities)


def _reading_note(modality: Modality) -> str:
    """Say how a modality was read if its array could be meant otherwise, else nothing."""
    name, values, shape = modality.name, modality.values, modality.values.shape[1:]
    what = f"{name}: {values.dtype} samples of shape {shape} are read as"
    if modality.kind == "image" and len(shape) == 3:
        height, width, channels = shape
        if channels > 4 and height <= 4:
            return (
                f"{what} images of {height} × {width} pixels in {channels} channels; if the channels come first, "
                "save .transpose(0, 2, 3, 1)"
            )
        if values.dtype.kind == "f":
            return f"{what} images of {height} × {width} pixels in {channels} channels"
    if modality.lengths is not None and min(shape) >= _SMALLEST_IMAGE and np.all(modality.lengths == shape[0]):
        return (
            f"{what} sequences of {shape[0]} frames with {shape[1]} numbers each; if they are images, save "
            "array[..., None]"
        )
    return ""
