"""Encoders turn one modality's raw array into a feature vector per sample; each standardises its own input.

An encoder is chosen from the kind of the array (`vector`, `sequence`, `image`) or by name. Every one keeps two
promises: a sample's features do not depend on the other samples of its batch, and padding behind a sequence's length
never counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name all torch code uses

from equilib_torch.data import Modality
from equilib_torch.data.mapped import release
from equilib_torch.data.modality import Array
from equilib_torch.errors import InputError
from equilib_torch.network.pooling import max_pool
from equilib_torch.registry import Registry


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


class MLP(nn.Module):
    """Two-layer perceptron on vectors; other shapes are flattened first.

    Shapes: (B, ...) -> (B, width).
    """

    def __init__(self, shape: Sequence[int], n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        self.hidden = nn.Linear(int(np.prod(shape)), 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of each sample."""
        x = self.standardise(x)
        if lengths is not None:
            x = x * _within(lengths, x.shape[1])
        x = self.dropout(F.gelu(self.hidden(x.flatten(1))))  # (B, 2 width)
        return F.gelu(self.out(x))


class TemporalCNN(nn.Module):
    """Three strided convolutions over time, then the mean and the maximum over the frames within each length.

    Shapes: (B, T, F) -> (B, width). Without normalisation: layer norm over the channels of a frame cost 4 points of
    validation accuracy on noisy audio (one seed), and batch norm would tie the samples of a batch together.
    """

    def __init__(self, shape: Sequence[int], n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        channels = (n_features, width, width, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size=5, stride=2, padding=2) for a, b in pairwise(channels)
        )
        self.out = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of each sample; without lengths every frame counts."""
        if lengths is None:
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
        inside = _within(lengths, x.shape[1])  # (B, T, 1)
        x = self.standardise(x) * inside
        for convolution in self.convolutions:
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))  # (B, ceil(T / 2), width)
            lengths = (lengths + 1) // 2
            inside = _within(lengths, x.shape[1])
            x = self.dropout(x) * inside
        mean = x.sum(1) / lengths[:, None]
        maximum = x.masked_fill(~inside, float("-inf")).amax(1)
        return F.gelu(self.out(self.dropout(torch.cat([mean, maximum], 1))))


class ImageCNN(nn.Module):
    """Three convolutions with pooling, then a 4 × 4 grid of features.

    Shapes: (B, H, W) or (B, H, W, C) -> (B, width).
    """

    def __init__(self, shape: Sequence[int], n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        if shape[0] * shape[1] < 2:  # nothing to normalise over
            raise InputError(f"encoder image-cnn reads images of 2 pixels or more, got shape {tuple(shape)}; use mlp")
        self.standardise = Standardise(n_features)
        channels = (n_features, width // 4, width // 2, width)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, kernel_size=3, padding=1) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.GroupNorm(4, b) for b in channels[1:])
        self.out = nn.Linear(16 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of each sample."""
        x = self.standardise(x if x.ndim == 4 else x[..., None])  # (B, H, W, C)
        if lengths is not None:  # a sequence, read as the picture of its frames
            x = x * _within(lengths, x.shape[1])[..., None]
        # Channels last, and pooled before they are normalised: less than half the time on a CPU.
        x = x.movedim(-1, 1).contiguous(memory_format=torch.channels_last)  # (B, C, H, W)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            if min(x.shape[2:]) >= 8:
                x = max_pool(x)
            x = F.gelu(norm(x))
        x = F.adaptive_avg_pool2d(x, 4)  # (B, width, 4, 4)
        return F.gelu(self.out(self.dropout(x.flatten(1))))


def _within(lengths: Tensor, n_frames: int) -> Tensor:
    """(B, T, 1) bool: which frames lie within their sequence."""
    return (torch.arange(n_frames, device=lengths.device) < lengths[:, None])[..., None]


Encoder = MLP | TemporalCNN | ImageCNN


@dataclass(frozen=True)
class EncoderEntry:
    """What is known of an encoder without building it.

    Attributes:
        name: for `--encoder`.
        description: one line.
        encoder: its class.
        kinds: kinds of array it is the usual one for.
        dimensions: numbers of dimensions a sample may have.
        any_length: whether it reads sequences longer or shorter than those it was trained on.
        pixels: kinds of which it reads a sample of two dimensions as pixels of one channel.
    """

    name: str
    description: str
    encoder: type[Encoder]
    kinds: tuple[str, ...]
    dimensions: tuple[int, ...]
    any_length: bool = False
    pixels: tuple[str, ...] = ()


ENCODERS = Registry(
    "encoder",
    [
        EncoderEntry(
            "mlp",
            "two-layer perceptron on vectors; other shapes are flattened",
            MLP,
            ("vector",),
            (1, 2, 3),
            pixels=("image",),
        ),
        EncoderEntry(
            "temporal-cnn",
            "three strided convolutions over time, then mean and maximum over the frames",
            TemporalCNN,
            ("sequence",),
            (2,),
            any_length=True,
        ),
        EncoderEntry(
            "image-cnn",
            "three convolutions with pooling, then a 4 x 4 grid of features",
            ImageCNN,
            ("image",),
            (2, 3),
            pixels=("image", "sequence", "vector"),
        ),
    ],
)
"""Every encoder by name."""

DEFAULT_ENCODER = {kind: entry.name for entry in ENCODERS.values() for kind in entry.kinds}
"""The usual encoder for each kind of array."""


def build_encoder(name: str, kind: str, shape: Sequence[int], *, width: int, dropout: float) -> Encoder:
    """Build the encoder `name` for one modality.

    Args:
        name: one of `ENCODERS`.
        kind: vector, sequence or image: what the array holds.
        shape: of one sample: (D,), (T, F), (H, W) or (H, W, C).
        width: features per sample, a multiple of 16.
        dropout: probability, in [0, 1).

    Raises:
        InputError: unknown name, or an encoder that cannot read this shape.

    Example:
        >>> encoder = build_encoder("temporal-cnn", "sequence", (92, 13), width=64, dropout=0.0)
        >>> encoder(torch.zeros(2, 92, 13), torch.tensor([92, 7])).shape
        torch.Size([2, 64])
    """
    entry = ENCODERS.find(name)
    if len(shape) not in entry.dimensions:
        readers = [other.name for other in ENCODERS.values() if len(shape) in other.dimensions]
        remedy = f"; use {' or '.join(readers)}" if readers else ""
        raise InputError(
            f"encoder {name} reads samples of {' or '.join(map(str, entry.dimensions))} dimensions, got shape "
            f"{tuple(shape)}{remedy}"
        )
    n_features = 1 if len(shape) == 2 and kind in entry.pixels else shape[-1]
    return entry.encoder(shape, n_features, width, dropout)
