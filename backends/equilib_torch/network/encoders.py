"""Encoders turn one modality's raw array into a feature vector per sample; each standardises its own input.

An encoder is chosen from the kind of the modality (`vector`, `sequence`, `image`, `video`, `text`) or by name. Every
one keeps two promises: a sample's features do not depend on the other samples of its batch, and padding behind a
sequence's length never counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name all torch code uses

from equilib_torch.errors import InputError
from equilib_torch.network.backbones.encoder import BackboneEncoder, FrozenFeatures, build_backbone_encoder
from equilib_torch.network.backbones.spec import BACKBONE, BACKBONE_PARAMETERS, BackboneSpec
from equilib_torch.network.inputs import Standardise, average_frames, in_pieces, within
from equilib_torch.network.pooling import average_pool, max_pool
from equilib_torch.network.resnet import ResNet18
from equilib_torch.network.text import NGRAM_PARAMETERS, HashedNgrams
from equilib_torch.parameters import Parameter, read_parameters, split_spec
from equilib_torch.registry import Registry

__all__ = ["DEFAULT_ENCODER", "ENCODERS", "Encoder", "EncoderEntry", "Standardise", "build_encoder", "read_encoder"]


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
            x = x * within(lengths, x.shape[1])
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
        inside = within(lengths, x.shape[1])  # (B, T, 1)
        x = self.standardise(x) * inside
        for convolution in self.convolutions:
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))  # (B, ceil(T / 2), width)
            lengths = (lengths + 1) // 2
            inside = within(lengths, x.shape[1])
            x = self.dropout(x) * inside
        mean = x.sum(1) / lengths[:, None]
        maximum = x.masked_fill(~inside, float("-inf")).amax(1)
        return F.gelu(self.out(self.dropout(torch.cat([mean, maximum], 1))))


class ImageCNN(nn.Module):
    """Three convolutions with pooling, then a 4 × 4 grid of features; of videos, the mean over the frames' features.

    Shapes: (B, H, W), (B, H, W, C), (B, T, F) or (B, T, H, W, C) -> (B, width).
    """

    def __init__(self, shape: Sequence[int], n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        if np.prod(shape[-3:-1] if len(shape) > 2 else shape) < 2:  # nothing to normalise over
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
        x = self.standardise(x if x.ndim >= 4 else x[..., None])
        if x.ndim == 5:
            return average_frames(self._read, x, lengths)
        return self._read(x, lengths)

    def _read(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, H, W, C) -> (B, width)."""
        if lengths is not None:  # a sequence, read as the picture of its frames
            x = x * within(lengths, x.shape[1])[..., None]
        return F.gelu(self.out(self.dropout(in_pieces(self._grid, x).flatten(1))))

    def _grid(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, width, 4, 4)."""
        # Channels last, and pooled before they are normalised: less than half the time on a CPU.
        x = x.movedim(-1, 1).contiguous(memory_format=torch.channels_last)  # (B, C, H, W)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            if min(x.shape[2:]) >= 8:
                x = max_pool(x)
            x = F.gelu(norm(x))
        return average_pool(x, 4)


Encoder = MLP | TemporalCNN | ImageCNN | ResNet18 | HashedNgrams | FrozenFeatures | BackboneEncoder


@dataclass(frozen=True)
class EncoderEntry:
    """What is known of an encoder without building it.

    Attributes:
        name: for `--encoder`.
        description: one line.
        encoder: its class, made from a sample's shape, the number of features to standardise, width and dropout; None
            for what reads texts or is made from a checkpoint.
        kinds: kinds of modality it is the usual one for.
        dimensions: numbers of dimensions a sample may have, as the encoder gets it.
        any_length: whether it reads sequences longer or shorter than those it was trained on.
        pixels: kinds of which it reads a sample of two dimensions as pixels of one channel.
        parameters: that can be set behind its name.
    """

    name: str
    description: str
    encoder: type[MLP | TemporalCNN | ImageCNN | ResNet18] | None
    kinds: tuple[str, ...]
    dimensions: tuple[int, ...]
    any_length: bool = False
    pixels: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()


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
            "three convolutions with pooling, then a 4 x 4 grid of features; frames of a video are averaged",
            ImageCNN,
            ("image", "video"),
            (2, 3, 4),
            pixels=("image", "sequence", "vector"),
        ),
        EncoderEntry(
            "resnet18",
            "ResNet-18 with group norm, for pictures, spectrograms and videos, whose frames are averaged",
            ResNet18,
            (),
            (2, 3, 4),
            pixels=("image", "sequence", "vector"),
        ),
        EncoderEntry(
            "hashed-ngrams",
            "text: hashed n-grams of words and characters, embedded and averaged; nothing is downloaded",
            None,
            ("text",),
            (0, 2),
            parameters=NGRAM_PARAMETERS,
        ),
        EncoderEntry(
            BACKBONE,
            "hf:PATH_OR_NAME: a checkpoint of transformers, for text (LLMs too), pictures, videos and sound",
            None,
            (),
            (0, 1, 2, 3, 4),
            any_length=True,
            parameters=BACKBONE_PARAMETERS,
        ),
    ],
)
"""Every encoder by name."""

DEFAULT_ENCODER = {kind: entry.name for entry in ENCODERS.values() for kind in entry.kinds}
"""The usual encoder for each kind of modality."""


def read_encoder(text: str, *, what: str | None = None) -> tuple[EncoderEntry, Mapping[str, Any]]:
    """Read an encoder as it is written: NAME, NAME:parameter=value:… or hf:PATH_OR_NAME:parameter=value:….

    Args:
        text: as written.
        what: the argument that named it, for the error.

    Returns:
        Its entry, and the values of its parameters by keyword.

    Raises:
        InputError: an unknown name or parameter, or a value that breaks its rule.

    Example:
        >>> entry, parameters = read_encoder("hashed-ngrams:buckets=1024")
        >>> entry.name, parameters
        ('hashed-ngrams', {'buckets': 1024, 'max_length': 2048})
    """
    if text.partition(":")[0] == BACKBONE:
        return ENCODERS[BACKBONE], BackboneSpec.read(text).parameters
    name, written = split_spec(text) if text.partition(":")[0] in ENCODERS else (text, {})
    entry = ENCODERS.find(name, what=what)
    return entry, read_parameters(f"encoder {name}", entry.parameters, written)


def build_encoder(
    name: str, kind: str, shape: Sequence[int], *, width: int, dropout: float, pretrained: bool = True
) -> Encoder:
    """Build the encoder `name` for one modality.

    Args:
        name: one of `ENCODERS`, with parameters behind it if need be.
        kind: of the modality: vector, sequence, image, video or text.
        shape: of one sample, as the encoder gets it: (D,), (T, F), (H, W), (H, W, C), (T, H, W, C); for texts (T, 1).
        width: features per sample, a multiple of 16.
        dropout: probability, in [0, 1).
        pretrained: whether a backbone that is trained as a whole needs the weights of its checkpoint; if not, they are
            random, for others to be loaded.

    Raises:
        InputError: unknown name, or an encoder that cannot read this modality.

    Example:
        >>> encoder = build_encoder("temporal-cnn", "sequence", (92, 13), width=64, dropout=0.0)
        >>> encoder(torch.zeros(2, 92, 13), torch.tensor([92, 7])).shape
        torch.Size([2, 64])
    """
    entry, parameters = read_encoder(name)
    if entry.name == BACKBONE:
        return build_backbone_encoder(BackboneSpec.read(name), kind, shape, width, dropout, pretrained=pretrained)
    check_kind(entry, kind)
    if entry.encoder is None:
        return HashedNgrams(parameters["buckets"], width, dropout)
    if len(shape) not in entry.dimensions:
        readers = [other.name for other in ENCODERS.values() if other.encoder and len(shape) in other.dimensions]
        remedy = f"; use {' or '.join(readers)}" if readers else ""
        raise InputError(
            f"encoder {name} reads samples of {' or '.join(map(str, entry.dimensions))} dimensions, got shape "
            f"{tuple(shape)}{remedy}"
        )
    n_features = 1 if len(shape) == 2 and kind in entry.pixels else shape[-1]
    return entry.encoder(shape, n_features, width, dropout)


def check_kind(entry: EncoderEntry, kind: str) -> None:
    """Hold an encoder's name against the kind of a modality: texts need one that reads texts, and nothing else does.

    Raises:
        InputError: they do not fit.
    """
    if entry.name != BACKBONE and (kind == "text") != (entry.encoder is None):
        reads = "numbers" if entry.encoder else "texts"
        readers = [other.name for other in ENCODERS.values() if (other.encoder is None) == (kind == "text")]
        raise InputError(
            f"encoder {entry.name} reads {reads}, got a modality of kind {kind}; use {' or '.join(readers)}"
        )
