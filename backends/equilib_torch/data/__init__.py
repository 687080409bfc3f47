"""Data sets: in memory, in NumPy, checked once when they are built; no framework is imported here.

`load_dataset` is the way in: a bundled set by its name, or a file by its path.
"""

from __future__ import annotations

from pathlib import Path

from equilib_torch.data.builtin import DATASETS
from equilib_torch.data.dataset import Dataset
from equilib_torch.data.modality import Kind, Modality
from equilib_torch.data.npz import read_npz
from equilib_torch.data.split import make_splits
from equilib_torch.errors import InputError

__all__ = [
    "DATASETS",
    "Dataset",
    "Kind",
    "Modality",
    "load_dataset",
    "make_splits",
    "read_npz",
]


def load_dataset(name_or_path: str, *, seed: int) -> Dataset:
    """Load a bundled data set by name, or a file by its path.

    Args:
        name_or_path: A name in `DATASETS`, or the path of an `.npz` file laid out as `read_npz` says. A name wins over
            a file called the same.
        seed: Draws the splits the data do not bring, ≥ 0; the same seed gives the same data set.

    Returns:
        The data set, checked.

    Raises:
        InputError: Unknown name or format, or a file that breaks the layout.

    Example:
        >>> dataset = load_dataset("av-digits", seed=0)
        >>> dataset.names, {part: rows.size for part, rows in dataset.splits.items()}
        (('image', 'audio'), {'train': 2040, 'val': 360, 'test': 600})
    """
    if entry := DATASETS.get(name_or_path):
        return entry.load(seed)
    if Path(name_or_path).suffix.lower() == ".npz":
        return read_npz(name_or_path, seed=seed)
    raise InputError(
        f"dataset: must be one of {', '.join(DATASETS)}, or a path that ends in .npz; got {str(name_or_path)!r}"
    )
