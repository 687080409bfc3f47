"""Holding out whole groups: no group is on both sides."""

from __future__ import annotations

import warnings

import numpy as np

from equilib_torch.data.modality import Array, IntArray
from equilib_torch.errors import InputError

_MANY = 500  # groups; with so many, chance alone keeps the proportions of the classes, and stratifying takes long


def hold_out_groups(labels: Array, groups: Array, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Divide samples so that each group is on one side, keeping the proportions of the classes as far as possible.

    scikit-learn's `StratifiedGroupKFold` makes parts of about that size, of which the one is held out that leaves every
    class a sample and is nearest to the size and the proportions; of more than 500 groups `GroupShuffleSplit` draws.

    Args:
        labels: (N,) the class of each sample.
        groups: (N,) the group of each.
        fraction: part to hold out, in (0, 1).
        seed: ≥ 0.

    Returns:
        Rows kept and rows held out, int64, ascending.

    Raises:
        InputError: no part can be held out that leaves every class a sample.

    Example:
        >>> kept, held = hold_out_groups(np.arange(40) % 2, np.arange(40) // 4, 0.2, seed=0)
        >>> held.size, np.intersect1d(kept // 4, held // 4).size
        (8, 0)
    """
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold  # slow to import

    classes, codes = np.unique(labels, return_inverse=True)
    names, members = np.unique(groups, return_inverse=True)
    n_parts = min(max(2, round(1 / fraction)), names.size)
    best: tuple[float, IntArray, IntArray] | None = None
    if names.size >= 2:
        splitter = (
            GroupShuffleSplit(n_splits=n_parts, test_size=fraction, random_state=seed)
            if names.size > _MANY
            else StratifiedGroupKFold(n_splits=n_parts, shuffle=True, random_state=seed)
        )
        # Where classes have fewer samples than there are parts, scikit-learn warns if some have, and refuses if
        # all have: then it does without them.
        target = codes if np.bincount(codes).max() >= n_parts else np.zeros(len(codes), np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            parts = list(splitter.split(codes, target, members))
        for kept, held in parts:
            if held.size and np.unique(codes[kept]).size == classes.size:
                shares = np.bincount(codes[held], minlength=classes.size) / np.bincount(codes)
                distance = float(np.abs(shares - fraction).mean())
                if best is None or distance < best[0]:
                    best = distance, np.sort(kept).astype(np.int64), np.sort(held).astype(np.int64)
    if best is None:
        raise InputError(
            f"group: nothing to hold out of {names.size} groups that leaves every class a training sample; give more "
            "groups, mark the parts in 'split', or leave 'group' out"
        )
    return best[1], best[2]


def require_whole_groups(groups: Array, splits: dict[str, IntArray]) -> None:
    """Refuse splits that divide a group.

    Raises:
        InputError: names the group and the parts.
    """
    seen: dict[object, str] = {}
    for part, rows in splits.items():
        for group in np.unique(groups[rows]).tolist():
            if group in seen:
                raise InputError(
                    f"split: every group must be in one part, got {group!r} in {seen[group]} and {part}; mend 'split', "
                    "or leave 'group' out"
                )
            seen[group] = part
