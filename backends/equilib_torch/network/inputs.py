"""What encoders share: inputs on one scale, frames that count, and what reads one frame of a video at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from equilib_torch.data import Modality
from equilib_torch.data.mapped import release
from equilib_torch.data.modality import Array


class Standardise(nn.Module):
    """Subtract the training mean and divide by the training standard deviation, which are stored with the model.

    Computed in float64 where the input has more digits than float32, or values beyond its range: results do not depend
    on the unit of a sensor, and a clock that counts from 1970 keeps its seconds.

    Args:
        n_features: size of the last axis: features of vectors and frames, channels of images.
    """

    mean: Tensor
    sd: Tensor
    result: Tensor  # says by its dtype in which one the network computes

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("sd", torch.ones(n_features, dtype=torch.float64))
        self.register_buffer("result", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., n_features) of any real dtype -> the same shape in the network's dtype."""
        wide = torch.float32 if x.dtype in _FEW_DIGITS else torch.float64
        # A mean of no more digits than the values have: what never varies becomes 0 in any dtype.
        mean = self.mean.float() if x.dtype == torch.float32 or x.dtype in _FEW_DIGITS else self.mean
        return ((x.to(wide) - mean.to(wide)) / self.sd.to(wide)).to(self.result.dtype)

    def fit(self, modality: Modality, rows: np.ndarray) -> None:
        """Take the statistics of the present ones of these rows; of sequences, of the frames within their lengths.

        What varies by less than 1e-12 of its size counts as constant and gets a standard deviation of 1. Reads the rows
        in pieces, so that it needs little memory beside them.
        """
        rows = rows[modality.present[rows]]
        n = len(self.mean)

        def raw_pieces() -> Iterator[Array]:
            n_rows = max(1, _PIECE // modality.values[0].size)
            for start in range(0, len(rows), n_rows):
                piece = rows[start : start + n_rows]
                x = modality.values[piece]
                release(modality.values)
                if modality.lengths is not None:
                    x = x[np.arange(x.shape[1]) < modality.lengths[piece, None]]
                yield x.reshape(-1, n)

        def pieces() -> Iterator[npt.NDArray[np.float64]]:
            return (x.astype(np.float64) for x in raw_pieces())

        if modality.values.dtype == np.uint8:
            mean, sd = _pixel_statistics(raw_pieces(), n)
            self._set(mean, sd, varies=sd > 0)
            return
        # Divided by the largest value first: sums and squares stay within float64 in any unit.
        size, total, squares, count = np.zeros(n), np.zeros(n), np.zeros(n), 0
        for x in pieces():
            size = np.maximum(size, np.abs(x).max(0))
            count += len(x)
        scale = np.where(size > 0, size, 1.0)
        for x in pieces():
            total += (x / scale).sum(0)
        mean = total / count
        for x in pieces():
            squares += np.square(x / scale - mean).sum(0)
        sd = np.sqrt(squares / count)
        varies = sd > 1e-12  # the mean of a constant is rounded, so its sd may come out as something above 0
        self._set(mean * scale, sd * scale, varies)

    def _set(self, mean: Array, sd: Array, varies: Array) -> None:
        self.mean.copy_(torch.from_numpy(mean))
        self.sd.copy_(torch.from_numpy(np.where(varies, sd, 1.0)))


def _pixel_statistics(pieces: Iterable[Array], n: int) -> tuple[Array, Array]:
    """Take mean and standard deviation of the columns of uint8 (m, n) arrays, from how often each value occurs."""
    counts = np.zeros(256 * n, np.int64)
    offsets = 256 * np.arange(n)
    for x in pieces:
        counts += np.bincount((x + offsets).reshape(-1), minlength=256 * n)
    weights = counts.reshape(n, 256) / (counts.sum() // n)
    values = np.arange(256.0)
    mean = weights @ values
    return mean, np.sqrt((weights * np.square(values - mean[:, None])).sum(1))


_FEW_DIGITS = (torch.bool, torch.uint8, torch.int8, torch.float16, torch.bfloat16)
_PIECE = 2**20  # values that are read at once


def within(lengths: Tensor, n_frames: int) -> Tensor:
    """Tell which frames lie within their sequence: (B, T, 1) bool.

    Example:
        >>> within(torch.tensor([1, 2]), 2)[..., 0]
        tensor([[ True, False],
                [ True,  True]])
    """
    return (torch.arange(n_frames, device=lengths.device) < lengths[:, None])[..., None]


def average_frames(read: Callable[[Tensor], Tensor], x: Tensor, lengths: Tensor | None) -> Tensor:
    """Average what `read` makes of the frames of videos, (B T, H, W, C) -> (B T, d), over those within each length.

    Args:
        read: reads pictures.
        x: (B, T, H, W, C).
        lengths: (B,) int64; None: every frame counts.

    Returns:
        (B, d).

    Example:
        >>> x = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
        >>> average_frames(lambda pictures: pictures.flatten(1), x, torch.tensor([1, 3]))[:, 0]
        tensor([0., 4.])
    """
    features = read(x.flatten(0, 1))
    features = features.reshape(*x.shape[:2], features.shape[-1])  # (B, T, d)
    if lengths is None:
        return features.mean(1)
    return (features * within(lengths, x.shape[1])).sum(1) / lengths[:, None]


_LARGE = 2**20  # numbers; what a convolution makes of a picture of 224 x 224 is five times as many


def in_pieces(read: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Read a batch of large samples a few at a time, and again when its gradient is asked for.

    What lies between input and result is made twice and kept never, so that it takes the memory of a few samples. On a
    CPU whose caches hold a piece this costs no time: 64 pictures of 224 x 224 took 1.8 s forwards and backwards by
    `image-cnn` at once, and 1.9 s so. Small batches are read at once.

    Args:
        read: (b, ...) -> (b, ...), sample by sample, without random draws.
        x: (B, ...).

    Returns:
        What `read` makes of `x`, up to rounding.

    Example:
        >>> in_pieces(torch.neg, torch.ones(2, 2))
        tensor([[-1., -1.],
                [-1., -1.]])
    """
    n = max(1, len(x) * _LARGE // max(1, x.numel()))
    if n >= len(x) or x.device.type != "cpu":
        return read(x)
    if not torch.is_grad_enabled():
        return torch.cat([read(piece) for piece in torch.split(x, n)])
    parts = [checkpoint(read, piece, use_reentrant=False, preserve_rng_state=False) for piece in torch.split(x, n)]
    return torch.cat(parts)
