"""Splits: those a file brings, completed by seeded, stratified ones."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from equilib_torch.data.dataset import SPLITS, Array, IntArray, as_array
from equilib_torch.errors import InputError

TEST_FRACTION = 0.20
VAL_FRACTION = 0.15


def make_splits(labels: Array, split: Array | None, seed: int) -> dict[str, IntArray]:
    """Say which samples train, validate and test.

    A given split is kept; where it has no "val", 15 % of "train" is held out for it. Without a split, 20 % of the
    samples become the test part, then 15 % of the rest the validation part. Parts that are drawn are stratified by
    class, and depend on the seed and the labels alone.

    Args:
        labels: (N,) integers, strings or booleans, the class of each sample.
        split: (N,) strings out of "train", "val" and "test", or None. Needs "train" and "test": a test part drawn
            from what its author called training data would pass for theirs.
        seed: ≥ 0.

    Returns:
        "train", "val" and "test", each (n,) int64 rows in ascending order; together every row once.

    Raises:
        InputError: Wrong split values, or a class too small to be divided.

    Example:
        >>> parts = make_splits(np.arange(100) % 2, None, seed=0)
        >>> {part: rows.size for part, rows in parts.items()}
        {'train': 68, 'val': 12, 'test': 20}
    """
    labels = as_labels(labels)
    if split is None:
        # Three of each: one for every part. Checked here, where the count to report is still that of the whole set.
        _check_smallest_class(labels, 3, "the training, validation and test part")
        train, test = hold_out(labels, TEST_FRACTION, seed, stream=0)
        train, val = _hold_out_of(train, labels, seed)
        return {"train": train, "val": val, "test": test}
    split = _as_strings(as_array("split", split))
    if split.dtype.kind != "U" or split.shape != labels.shape:
        raise InputError(
            f"split: needs {labels.size} strings, got {split.dtype} of shape {split.shape}; "
            f"write {', '.join(map(repr, SPLITS))} for each sample"
        )
    unknown = np.setdiff1d(split, SPLITS)
    if unknown.size:
        raise InputError(f"split: must be one of {', '.join(SPLITS)}, got {unknown[0].item()[:80]!r}")
    parts = {part: np.flatnonzero(split == part).astype(np.int64) for part in SPLITS}
    for part in ("train", "test"):
        if not parts[part].size:
            raise InputError(f"split: needs 'train' and 'test' rows ('val' may be left out), got no {part!r}")
    if not parts["val"].size:
        parts["train"], parts["val"] = _hold_out_of(parts["train"], labels, seed)
    return parts


def as_labels(labels: Any) -> Array:
    """Take labels as the integers or strings that they are; booleans count as the classes 0 and 1.

    Raises:
        InputError: They are something else, or not one per sample.

    Example:
        >>> as_labels([True, False])
        array([1, 0])
    """
    array = _as_strings(as_array("label", labels))
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"label: must be one label per sample, (N,), got shape {array.shape}")
    if array.dtype.kind not in "biuU":
        remedy = ".astype(int)" if array.dtype.kind == "f" else ".astype(str)"
        raise InputError(
            f"label must be integers or strings, got {array.dtype}; if they are classes, save them with {remedy}"
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _as_strings(array: Array) -> Array:
    """Give Python strings, which pandas keeps as objects, as an array of strings."""
    all_strings = array.dtype.hasobject and all(isinstance(item, str) for item in array.ravel())
    return array.astype(np.str_) if all_strings else array


def drawn_parts(split: Array | None) -> tuple[str, ...]:
    """Name the parts that `make_splits` draws by the seed, given that split.

    Example:
        >>> drawn_parts(np.array(["train", "test"]))
        ('train', 'val')
    """
    if split is None:
        return SPLITS
    return () if "val" in split else ("train", "val")


def hold_out(labels: Array, fraction: float, seed: int, *, stream: int) -> tuple[IntArray, IntArray]:
    """Divide samples at random, keeping the proportions of the classes.

    Args:
        labels: (N,) the class of each sample.
        fraction: Part to hold out, in (0, 1); rounded up to whole samples.
        seed: ≥ 0.
        stream: Tells apart the draws made with one seed.

    Returns:
        Rows kept and rows held out, int64, ascending.

    Raises:
        InputError: A class has one sample only, or fewer samples are held out or kept than there are classes; or a
            negative seed.

    Example:
        >>> kept, held = hold_out(np.arange(20) % 2, 0.2, seed=0, stream=0)
        >>> kept.size, np.bincount(held % 2)
        (16, array([2, 2]))
    """
    from sklearn.model_selection import train_test_split  # slow to import; what is not split needs none of it

    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed: must be an integer, 0 or more, got {seed!r}")
    n_classes = _check_smallest_class(labels, 2, "a part that is kept and one that is held out")
    n_held = int(np.ceil(fraction * labels.size))
    if min(n_held, labels.size - n_held) < n_classes:
        raise InputError(
            f"split: holding out {fraction:.0%} of {labels.size} samples gives {n_held}, "
            f"which cannot represent {n_classes} classes; give more samples, or mark the parts in 'split'"
        )
    state = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
    kept, held = train_test_split(np.arange(labels.size), test_size=n_held, stratify=labels, random_state=state)
    return cast(IntArray, np.sort(kept)), cast(IntArray, np.sort(held))


def _hold_out_of(rows: IntArray, labels: Array, seed: int) -> tuple[IntArray, IntArray]:
    kept, held = hold_out(labels[rows], VAL_FRACTION, seed, stream=1)
    return rows[kept], rows[held]


def _check_smallest_class(labels: Array, minimum: int, parts: str) -> int:
    """Refuse a class with too few samples; give the number of classes."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < minimum:
        name = classes[counts.argmin()].item()
        raise InputError(
            f"split: class {name!r} needs {minimum} samples or more for {parts}, got {counts.min()}; "
            "give more samples, or mark the parts in 'split'"
        )
    return len(classes)
