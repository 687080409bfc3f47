"""A data set as tensors on a device, so that no batch is made on the way to it."""

from __future__ import annotations

import numpy as np
import torch

from equilib_torch.data.batches import Batch, Column, column
from equilib_torch.data.dataset import Dataset
from equilib_torch.data.modality import IntArray, Modality

_PIECE = 2**24  # numbers of a modality that are copied at once
_SHARE = 4  # a data set takes a quarter of the free memory of a device at most


class Resident:
    """All samples of a data set on a device; what is absent is 0, as in every batch.

    Args:
        dataset: to be copied.
        device: where to.

    Example:
        >>> from equilib_torch.data import load_dataset
        >>> from equilib_torch.data.batches import take
        >>> dataset, rows = load_dataset("mfeat-small", seed=0), np.array([5, 3])
        >>> batch = Resident(dataset, torch.device("cpu")).take(rows)
        >>> torch.equal(batch.inputs[0], take(dataset, rows).inputs[0])
        True
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._columns = [_copied(modality, device) for modality in dataset.modalities]
        self._labels = torch.from_numpy(dataset.labels).to(device)
        self._known = torch.from_numpy(np.stack([modality.present for modality in dataset.modalities], 1))
        self._present = self._known.to(device)
        self._device = device

    def take(self, rows: IntArray) -> Batch:
        """Take the samples `rows` as one batch, on the device."""
        at_hand = torch.from_numpy(rows)
        there = at_hand.to(self._device, non_blocking=True)
        return Batch(
            tuple(column.inputs[there] for column in self._columns),
            tuple(None if column.lengths is None else column.lengths[there] for column in self._columns),
            self._present[there],
            self._labels[there],
            None if self._device.type == "cpu" else self._known[at_hand],
        )


def fits(dataset: Dataset, device: torch.device) -> bool:
    """Tell whether a data set takes no more than a quarter of the memory that is free on a CUDA device."""
    needed = sum(modality.values.nbytes for modality in dataset.modalities)
    return device.type == "cuda" and needed * _SHARE <= torch.cuda.mem_get_info(device)[0]


def _copied(modality: Modality, device: torch.device) -> Column:
    """Copy a modality to a device in pieces, so that it takes little memory besides."""
    n = len(modality.present)
    like = column(modality, np.arange(1)).inputs
    inputs = torch.empty((n, *like.shape[1:]), dtype=like.dtype, device=device)
    step = max(1, _PIECE // max(1, like.numel()))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        inputs[start : start + step] = column(modality, rows).inputs.to(device)
    lengths = None if modality.lengths is None else torch.from_numpy(modality.lengths).to(device)
    return Column(inputs, lengths, torch.from_numpy(modality.present).to(device))
