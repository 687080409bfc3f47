"""The way in: a data set from whatever holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from equilib_torch.data.builtin import DATASETS
from equilib_torch.data.cache import Cache, default_cache
from equilib_torch.data.dataset import SUFFIXES, Dataset
from equilib_torch.data.frames import is_frame, read_frame, read_parquet
from equilib_torch.data.media import MediaOptions
from equilib_torch.data.npz import read_arrays, read_npz
from equilib_torch.data.rows import Table
from equilib_torch.data.table import TableOptions, make_dataset
from equilib_torch.data.textfiles import read_csv, read_jsonl
from equilib_torch.data.tree import read_tree
from equilib_torch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Source: TypeAlias = "str | Path | pd.DataFrame | Mapping[str, Any]"

SUFFIXES_OF_TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
