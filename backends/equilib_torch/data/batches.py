"""Batches of a data set as tensors, in an order that depends on nothing but the seed and the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from equilib_torch.data import Dataset, Modality
from equilib_torch.data.mapped import release
from equilib_torch.data.modality import Array, IntArray

T = TypeVar("T")


class Batch(NamedTuple):
    """B samples of n modalities.

    Attributes:
        inputs: n tensors (B, ...), real, in the dtype of the data; what is absent, or behind a length, is 0.
        lengths: n tensors (B,) int64, at least 1; None for what is not a sequence.
        present: (B, n) bool.
        labels: (B,) int64, class indices.
        known: `present` on the CPU, of a batch that is elsewhere: what it says need not be waited for.
    """

    inputs: tuple[Tensor, ...]
    lengths: tuple[Tensor | None, ...]
    present: Tensor
    labels: Tensor
    known: Tensor | None = None

    def rows(self, rows: slice) -> Batch:
        """Take some of the samples."""
        return self._map(lambda x: x[rows])._replace(known=None if self.known is None else self.known[rows])

    def to(self, device: torch.device) -> Batch:
        """Copy to another device, from pinned memory without waiting for it."""
        if device == self.present.device:
            return self
        known = self.present if self.known is None else self.known
        return self._map(lambda x: x.to(device, non_blocking=True))._replace(known=known)

    def has(self, k: int) -> bool:
        """Tell whether any of the samples has modality k."""
        return bool(self._at_hand(k).any())

    def rows_with(self, k: int) -> Tensor | None:
        """Find the samples that have modality k: (b,) int64 rows, on the batch's device; None where all have it."""
        here = self._at_hand(k)
        return None if here.all() else here.nonzero()[:, 0].to(self.present.device, non_blocking=True)

    def _at_hand(self, k: int) -> Tensor:
        return (self.present if self.known is None else self.known)[:, k]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        lengths = tuple(None if x is None else change(x) for x in self.lengths)
        return Batch(tuple(map(change, self.inputs)), lengths, change(self.present), change(self.labels))


class Column(NamedTuple):
    """One modality of a batch: inputs (B, ...), lengths (B,) or None, present (B,)."""

    inputs: Tensor
    lengths: Tensor | None
    present: Tensor


def column(modality: Modality, rows: IntArray) -> Column:
    """Take some rows of one modality, as tensors; where it is absent, they are 0, whatever is stored there."""
    values, present = modality.values[rows], modality.present[rows]
    if not present.all():
        values[~present] = np.zeros((), values.dtype)
    release(modality.values)
    return Column(
        torch.from_numpy(_readable(values)),
        None if modality.lengths is None else torch.from_numpy(modality.lengths[rows]),
        torch.from_numpy(present),
    )


def _readable(values: Array) -> Array:
    """The same values in a dtype that torch computes with."""
    known = values.dtype.kind in "bi" or values.dtype in (np.uint8, np.float16, np.float32, np.float64)
    return values if known else values.astype(np.float64)


def join(columns: Sequence[Column], labels: Tensor | None = None) -> Batch:
    """Join modalities to a batch; without labels, which only training and evaluation read, they are all 0."""
    inputs, lengths, present = zip(*columns, strict=True)
    stacked = torch.stack(present, 1)
    return Batch(inputs, lengths, stacked, torch.zeros(len(stacked), dtype=torch.int64) if labels is None else labels)


def take(dataset: Dataset, rows: IntArray) -> Batch:
    """Take the samples `rows` of a data set as one batch."""
    return join([column(m, rows) for m in dataset.modalities], torch.from_numpy(dataset.labels[rows]))


Take = Callable[[IntArray], Batch]
"""Makes a batch of rows of a data set."""


class _Batches(TorchDataset[Batch]):
    """Hands a whole list of rows over at once: a tenth of the time of collating samples one by one."""

    def __init__(self, take_rows: Take, rows: IntArray) -> None:
        self.take_rows, self.rows = take_rows, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return self.take_rows(self.rows[[index]])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return self.take_rows(self.rows[np.asarray(indices)])


def balanced_positions(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw as many samples as there are, every class equally often and each class's samples as evenly as can be.

    In expectation the same as weighing every sample's loss by the inverse of its class's frequency, for any method.

    Args:
        labels: (N,) class indices.
        rng: to draw from.

    Returns:
        (N,) positions, in random order; some of a rare class several times, some of a common one not at all.

    Example:
        >>> labels = np.array([0] * 9 + [1])
        >>> np.bincount(labels[balanced_positions(labels, np.random.default_rng(0))])
        array([5, 5])
    """
    classes = rng.permutation(np.unique(labels))
    counts = np.bincount(np.arange(len(labels)) % len(classes), minlength=len(classes))
    drawn = [
        np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for _ in range(-(-n // int((labels == c).sum())))])
        for c, n in zip(classes, counts, strict=True)
        if n
    ]
    positions: IntArray = np.concatenate([rows[:n] for rows, n in zip(drawn, counts, strict=False)])
    return rng.permutation(positions)


def loader(
    dataset: Dataset,
    split: str,
    batch_size: int,
    *,
    shuffle: tuple[int, int] | None = None,
    balanced: bool = False,
    skip: int = 0,
    device: torch.device | None = None,
    workers: int = 0,
    take_rows: Take | None = None,
) -> Iterable[Batch]:
    """Make the batches of one pass over a split; the last one may be shorter. How they are read changes none of them.

    Args:
        dataset: what to read.
        split: train, val or test.
        batch_size: samples per batch.
        shuffle: (seed, epoch), on which alone the order depends; default: the order of the data set.
        balanced: draw every class equally often, see `balanced_positions`; needs `shuffle`.
        skip: batches at the start of the pass that are left out, because they have been seen already.
        device: where the batches go; default: the CPU.
        workers: processes that read ahead; 0: batches are read when they are needed, by this process.
        take_rows: makes a batch of rows, if not `take` of the data set; then there are no workers.
    """
    rows = dataset.splits[split]
    if shuffle is None:
        positions = np.arange(len(rows))
    elif balanced:
        positions = balanced_positions(dataset.labels[rows], np.random.default_rng(shuffle))
    else:
        positions = np.random.default_rng(shuffle).permutation(len(rows))
    batches = [positions[start : start + batch_size] for start in range(0, len(rows), batch_size)][skip:]
    on_cuda = device is not None and device.type == "cuda"
    read = DataLoader(
        _Batches(take_rows or partial(take, dataset), rows),
        batch_sampler=cast(Iterable[list[int]], batches),  # arrays will do, which are smaller than lists
        collate_fn=_as_it_is,
        num_workers=0 if take_rows else min(workers, len(batches)),
        pin_memory=on_cuda and take_rows is None,
        # A pass draws one number when it begins, which one that goes on has drawn before.
        generator=torch.Generator() if skip else None,
    )
    return read if device is None else _Moved(read, device)


def _as_it_is(batch: T) -> T:
    """Collate nothing: a function of the module, which any process finds."""
    return batch


class _Moved:
    """Batches on another device, as often as they are asked for."""

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self._batches, self._device = batches, device

    def __iter__(self) -> Iterator[Batch]:
        return (batch.to(self._device) for batch in self._batches)
