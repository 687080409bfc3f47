"""Splits: those a file brings, completed by seeded, stratified ones."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from equilib_torch.data.dataset import SPLITS
from equilib_torch.data.grouping import hold_out_groups, require_whole_groups
from equilib_torch.data.modality import Array, IntArray, as_array
from equilib_torch.errors import InputError

TEST_FRACTION = 0.20
VAL_FRACTION = 0.15


def make_splits(labels: Array, split: Array | None, seed: int, *, groups: Array | None = None) -> dict[str, IntArray]:
    """Say which samples train, validate and test.

    A given split is kept; where it has no "val", 15 % of "train" is held out for it. Without a split, 20 % of the
    samples become the test part, then 15 % of the rest the validation part. Parts that are drawn are stratified by
    class as far as its samples go, and depend on the seed and the labels alone; every class keeps a training sample.

    Args:
        labels: (N,) integers, strings or booleans, the class of each sample.
        split: (N,) strings out of "train", "val" and "test", or None. Needs "train" and "test": a test part drawn
            from what its author called training data would pass for theirs.
        seed: ≥ 0.
        groups: (N,) the group of each sample, or None. A group is in one part only, which may cost the parts some of
            their size and proportions.

    Returns:
        "train", "val" and "test", each (n,) int64 rows in ascending order; together every row once.

    Raises:
        InputError: Wrong split values, nothing to hold out (no class has two samples, or groups are too few), or a
            given split that divides a group.

    Example:
        >>> parts = make_splits(np.arange(100) % 2, None, seed=0)
        >>> {part: rows.size for part, rows in parts.items()}
        {'train': 68, 'val': 12, 'test': 20}
    """
    labels = as_labels(labels)
    if split is None:
        train, test = hold_out(labels, TEST_FRACTION, seed, stream=0, groups=groups)
        train, val = _hold_out_of(train, labels, seed, groups)
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
    if groups is not None:
        require_whole_groups(groups, parts)
    if not parts["val"].size:
        parts["train"], parts["val"] = _hold_out_of(parts["train"], labels, seed, groups)
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


def hold_out(
    labels: Array, fraction: float, seed: int, *, stream: int, groups: Array | None = None
) -> tuple[IntArray, IntArray]:
    """Divide samples at random, keeping the proportions of the classes as far as possible, and one of every class.

    Args:
        labels: (N,) the class of each sample.
        fraction: Part to hold out, in (0, 1); rounded up to whole samples. Less where that is needed to keep one of
            every class.
        seed: ≥ 0.
        stream: Tells apart the draws made with one seed.
        groups: (N,) the group of each sample, or None; a group is on one side only.

    Returns:
        Rows kept and rows held out, int64, ascending.

    Raises:
        InputError: No class has two samples; or a negative seed.

    Example:
        >>> kept, held = hold_out(np.arange(20) % 2, 0.2, seed=0, stream=0)
        >>> kept.size, np.bincount(held % 2)
        (16, array([2, 2]))
    """
    from sklearn.model_selection import train_test_split  # slow to import; what is not split needs none of it

    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed: must be an integer, 0 or more, got {seed!r}")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.max() < 2:
        raise InputError(
            f"split: nothing to hold out of {labels.size} samples of {classes.size} classes, one of each; "
            "give more samples, or mark the parts in 'split'"
        )
    n_held = int(np.ceil(fraction * labels.size))
    state = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
    if groups is not None:
        return hold_out_groups(labels, groups, fraction, state)
    if counts.min() >= 2 and min(n_held, labels.size - n_held) >= classes.size:
        kept, held = train_test_split(np.arange(labels.size), test_size=n_held, stratify=labels, random_state=state)
        return cast(IntArray, np.sort(kept)), cast(IntArray, np.sort(held))
    held = _spread(labels, n_held, np.random.default_rng(state))
    return np.setdiff1d(np.arange(labels.size), held), held


def _spread(labels: Array, n_held: int, rng: np.random.Generator) -> IntArray:
    """Draw rows to hold out, evenly over the classes though there are too few for each, and never a class's last."""
    drawn = rng.permutation(labels.size)
    _, first = np.unique(labels[drawn], return_index=True)
    spare = np.delete(drawn, first)
    classes, codes = np.unique(labels[spare], return_inverse=True)
    in_class_order = spare[np.argsort(rng.permutation(classes.size)[codes], kind="stable")]
    n_held = min(n_held, spare.size)
    every = (np.arange(n_held) + rng.random()) * spare.size / n_held
    return cast(IntArray, np.sort(in_class_order[every.astype(np.int64)]))


def _hold_out_of(rows: IntArray, labels: Array, seed: int, groups: Array | None) -> tuple[IntArray, IntArray]:
    within = None if groups is None else groups[rows]
    kept, held = hold_out(labels[rows], VAL_FRACTION, seed, stream=1, groups=within)
    return rows[kept], rows[held]
