"""Batches of a data set as tensors, in an order that depends on nothing but the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from equilib_torch.data import Dataset, Modality
from equilib_torch.data.dataset import IntArray


class Batch(NamedTuple):
    """B samples of n modalities.

    Attributes:
        inputs: n tensors (B, ...) float32; what is absent, or behind a length, is 0.
        lengths: n tensors (B,) int64, at least 1; None for what is not a sequence.
        present: (B, n) bool.
        labels: (B,) int64, class indices.
    """

    inputs: tuple[Tensor, ...]
    lengths: tuple[Tensor | None, ...]
    present: Tensor
    labels: Tensor

    def rows(self, rows: slice) -> Batch:
        """Some of the samples."""
        lengths = tuple(None if x is None else x[rows] for x in self.lengths)
        return Batch(tuple(x[rows] for x in self.inputs), lengths, self.present[rows], self.labels[rows])

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        lengths = tuple(None if x is None else x.to(device) for x in self.lengths)
        return Batch(tuple(x.to(device) for x in self.inputs), lengths, self.present.to(device), self.labels.to(device))


class Column(NamedTuple):
    """One modality of a batch: inputs (B, ...), lengths (B,) or None, present (B,)."""

    inputs: Tensor
    lengths: Tensor | None
    present: Tensor


def column(modality: Modality, rows: IntArray) -> Column:
    """Some rows of one modality as tensors."""
    return Column(
        torch.from_numpy(modality.values[rows].astype(np.float32)),
        None if modality.lengths is None else torch.from_numpy(modality.lengths[rows]),
        torch.from_numpy(modality.present[rows]),
    )


def join(columns: Sequence[Column], labels: Tensor | None = None) -> Batch:
    """A batch from its modalities; without labels, which only training and evaluation read, they are all 0."""
    inputs, lengths, present = zip(*columns, strict=True)
    stacked = torch.stack(present, 1)
    return Batch(inputs, lengths, stacked, torch.zeros(len(stacked), dtype=torch.int64) if labels is None else labels)


def take(dataset: Dataset, rows: IntArray) -> Batch:
    """The samples `rows` of a data set as one batch."""
    return join([column(m, rows) for m in dataset.modalities], torch.from_numpy(dataset.labels[rows]))


class _Batches(TorchDataset[Batch]):
    """Hands a whole list of rows over at once: a tenth of the time of collating samples one by one."""

    def __init__(self, dataset: Dataset, rows: IntArray) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return take(self.dataset, self.rows[[index]])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return take(self.dataset, self.rows[np.asarray(indices)])


class EpochSampler(Sampler[list[int]]):
    """Lists of positions, shuffled anew each epoch by (seed, epoch); the last, shorter one is kept."""

    def __init__(self, n: int, batch_size: int, *, seed: int | None) -> None:
        self.n, self.batch_size, self.seed, self.epoch = n, batch_size, seed, 0

    def __len__(self) -> int:
        return math.ceil(self.n / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            positions = np.arange(self.n)
        else:
            positions = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        for start in range(0, self.n, self.batch_size):
            yield positions[start : start + self.batch_size].tolist()


def loader(dataset: Dataset, split: str, batch_size: int, *, seed: int | None = None) -> DataLoader[Batch]:
    """Batches of one split: in order without a seed, else shuffled by the sampler's `epoch`, which the caller sets."""
    rows = dataset.splits[split]
    sampler = EpochSampler(len(rows), batch_size, seed=seed)
    return DataLoader(_Batches(dataset, rows), batch_sampler=sampler, collate_fn=lambda batch: batch)
