"""What a data set is: modalities, labels and splits, checked when they are put together.

Everything downstream relies on the checks here, so that it need not repeat them: a `Modality` or `Dataset` that exists
is well formed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from equilib_torch.data.modality import Array, IntArray, Modality, as_array, chunks, reading_note
from equilib_torch.errors import InputError

SPLITS = ("train", "val", "test")
MAX_MODALITIES = 8
SUFFIXES = ("_length", "_present")
"""What is behind a modality's name in the keys that describe it."""


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
        schema: How the modalities were made from the columns of a table, in what JSON can say; stored with a model, so
            that it reads raw rows. None where arrays came as arrays.
        remarks: How the data were read, where that could be meant otherwise; part of `notes`.
        digests: What identifies a modality's content in `fingerprint` instead of its values, by its name: for values
            that depend on a seed, or are too large to be read for it.
        groups: (N,) numbers or strings, what each sample belongs to where samples are not independent: a person, a
            recording; None if each is its own. Errors of what is measured on test count groups, not samples; splits are
            not checked against them, and they do not count for `fingerprint`.

    Lists and integers of any width are taken.

    Raises:
        InputError: A rule above is broken; a sample of a part has no modality at all, or a modality no training sample.

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
    schema: Mapping[str, Any] | None = None
    remarks: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    groups: Array | None = None

    def __post_init__(self) -> None:
        classes = _checked_classes(self.classes)
        labels = _checked_labels(as_array("label", self.labels), classes)
        splits = _checked_splits(self.splits, labels, classes)
        modalities = _checked_modalities(self.modalities, splits, len(labels))
        groups = None if self.groups is None else as_array("group", self.groups)
        if groups is not None and groups.shape != labels.shape:
            raise InputError(f"group: needs one per label, {labels.size}, got shape {groups.shape}")
        fields = {"modalities": modalities, "labels": labels, "classes": classes, "splits": splits, "groups": groups}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

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
                for rows in chunks(part):
                    digest.update(np.ascontiguousarray(part[rows]).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """How modalities were read whose shape leaves a doubt, each in a line with what to do about it."""
        if self.schema is not None:  # what its columns are has been inferred from them, or declared
            return self.remarks
        return (*self.remarks, *(note for modality in self.modalities if (note := reading_note(modality))))

    def _content(self) -> Iterator[str | Array]:
        for modality in self.modalities:
            yield modality.name
            yield modality.kind
            if modality.name in self.digests:
                yield self.digests[modality.name]
            elif modality.kind == "text":
                yield from modality.values.tolist()
            else:
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


def _checked_modalities(modalities: Any, splits: dict[str, IntArray], n_rows: int) -> tuple[Modality, ...]:
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
        if not modality.present[splits["train"]].any():
            raise InputError(
                f"{modality.name}: absent in all {splits['train'].size} training samples; leave the modality out"
            )
    used = np.zeros(n_rows, np.bool_)
    used[np.concatenate(list(splits.values()))] = True
    empty = used & ~np.any([modality.present for modality in modalities], axis=0)
    if empty.any():
        raise InputError(
            f"present: every sample needs a modality, {empty.sum()} have none, the first in row {empty.argmax()}; "
            "leave those samples out"
        )
    return tuple(modalities)
