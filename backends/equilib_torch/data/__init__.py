"""Data sets: in NumPy, checked once when they are built; no framework is imported here.

`load_dataset` is the way in: a bundled set by its name, a file or folder by its path, a DataFrame, or arrays.
"""

from __future__ import annotations

from equilib_torch.data.builtin import DATASETS
from equilib_torch.data.dataset import Dataset
from equilib_torch.data.loading import DataRequest, load_dataset
from equilib_torch.data.media import MediaOptions
from equilib_torch.data.modality import Kind, Modality
from equilib_torch.data.npz import read_npz
from equilib_torch.data.report import describe
from equilib_torch.data.split import make_splits

__all__ = [
    "DATASETS",
    "DataRequest",
    "Dataset",
    "Kind",
    "MediaOptions",
    "Modality",
    "describe",
    "load_dataset",
    "make_splits",
    "read_npz",
]
