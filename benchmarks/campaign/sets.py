"""The data sets of the campaign: those bundled, two built from scikit-learn, and the files of a folder (`--extra`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn import datasets as sklearn_datasets

from equilib_torch import Dataset, InputError, Modality, load_dataset
from equilib_torch.data import make_splits

BUNDLED = ("av-digits-noisy", "av-digits-pca", "av-digits-sum", "mfeat-small", "mfeat")


def breast_cancer(seed: int) -> Dataset:
    """Build the 569 tumours of scikit-learn: mean, error and worst value of ten measurements each."""
    bunch = sklearn_datasets.load_breast_cancer()
    views = {name: bunch.data[:, 10 * k : 10 * k + 10] for k, name in enumerate(("mean", "error", "worst"))}
    return _dataset("breast_cancer", views, bunch.target, seed)


def digits_halves(seed: int) -> Dataset:
    """Build the 1,797 digits of scikit-learn: upper and lower half, 4 x 8 pixels each."""
    bunch = sklearn_datasets.load_digits()
    images = bunch.images.astype(np.uint8)
    return _dataset("digits_halves", {"upper": images[:, :4], "lower": images[:, 4:]}, bunch.target, seed)


def _dataset(name: str, views: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> Dataset:
    everywhere = np.ones(len(labels), bool)
    modalities = tuple(
        Modality(view, "vector" if x.ndim == 2 else "image", x, None, everywhere) for view, x in views.items()
    )
    classes = tuple(np.unique(labels).tolist())
    return Dataset(name, modalities, labels.astype(np.int64), classes, make_splits(labels, None, seed))


BUILT: dict[str, Callable[[int], Dataset]] = {"breast_cancer": breast_cancer, "digits_halves": digits_halves}


def names(extra: Path | None) -> list[str]:
    """List the data sets there are; a file of `extra` wins over a set built here of the same name.

    Raises:
        InputError: `extra` holds no `.npz` file.
    """
    files = sorted(path.stem for path in extra.glob("*.npz")) if extra else []
    if extra and not files:
        raise InputError(f"extra must be a folder with .npz files, got {str(extra)!r}")
    return [*BUNDLED, *sorted({*BUILT, *files})]


def load(name: str, seed: int, extra: Path | None = None) -> Dataset:
    """Load a data set of the campaign; the seed draws the splits that it does not bring."""
    if name in BUNDLED:
        return load_dataset(name, seed=seed)
    if extra and (extra / f"{name}.npz").is_file():
        return load_dataset(str(extra / f"{name}.npz"), seed=seed)
    return BUILT[name](seed)


def only(dataset: Dataset, k: int) -> Dataset:
    """Keep one modality and the samples that have it: what a ceiling is measured on."""
    modality = dataset.modalities[k]
    rows = np.flatnonzero(modality.present)
    lengths = None if modality.lengths is None else modality.lengths[rows]
    kept = replace(modality, values=modality.values[rows], lengths=lengths, present=modality.present[rows])
    splits = {part: np.flatnonzero(np.isin(rows, of_part)) for part, of_part in dataset.splits.items()}
    return Dataset(dataset.name, (kept,), dataset.labels[rows], dataset.classes, splits)
