"""What is done to a data set once, before training, and again to what is predicted from: texts to numbers, and so on.

An encoder may need its samples prepared: texts become token numbers, pictures get the size that a backbone reads, and
of a frozen backbone there remain the features. What takes long is kept in the cache on disk, under all that it depends
on: the backbone's fingerprint, its parameters, the samples. The data set itself stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from tqdm import tqdm

from equilib_torch.data import Dataset, Kind, Modality
from equilib_torch.data.cache import Cache, make_key
from equilib_torch.data.mapped import ArrayWriter, read_array, release
from equilib_torch.data.modality import IntArray
from equilib_torch.network.backbones.checkpoint import described, find_checkpoint
from equilib_torch.network.backbones.inputs import Array, Rows, extract_spectrograms, size_pictures, tokenise
from equilib_torch.network.backbones.loading import (
    load_config,
    load_extractor,
    load_processor,
    load_reader,
    load_tokenizer,
)
from equilib_torch.network.backbones.readers import Reader
from equilib_torch.network.backbones.spec import BACKBONE, BackboneSpec
from equilib_torch.network.config import ModalityConfig, NetworkConfig
from equilib_torch.network.encoders import read_encoder
from equilib_torch.network.text import hash_ngrams

_CHUNK = 64
"""Samples that are sized or extracted at once."""


class Preparation(Protocol):
    """What is done to the present samples of one modality."""

    kind: Kind
    """Of the modality that comes out."""

    cached: bool
    """Whether it takes long enough to be kept in the cache."""

    in_parts: bool
    """Whether some rows may be prepared without the others, and all of them may be too many for the memory."""

    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Prepare some samples.

        Args:
            values: (n, ...), all present.
            lengths: (n,) of sequences and videos.
            advance: told how many more samples are done.
        """


class Ngrams:
    """Texts to the numbers of their n-grams."""

    kind: Kind = "sequence"
    cached = in_parts = False

    def __init__(self, *, buckets: int, max_length: int) -> None:
        self.buckets, self.max_length = buckets, max_length

    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Number the n-grams."""
        ids, n_grams = hash_ngrams(values.tolist(), buckets=self.buckets, max_length=self.max_length)
        return Rows(ids[..., None], n_grams)


class Tokens:
    """Texts to the numbers of their tokens."""

    kind: Kind = "sequence"
    cached = in_parts = False

    def __init__(self, folder: Path, max_length: int, what: str) -> None:
        tokenizer, config = load_tokenizer(folder, what), load_config(folder, what)
        self._tokenise = partial(tokenise, tokenizer=tokenizer, config=config, max_length=max_length, what=what)
        self._described = partial(described, what, folder)

    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Number the tokens."""
        with self._described():
            return self._tokenise(values.tolist())


class Pictures:
    """Pictures, and frames of videos, to the size that a backbone reads."""

    cached = in_parts = True

    def __init__(self, folder: Path, kind: Kind, what: str) -> None:
        self.kind = kind
        self._size = partial(size_pictures, processor=load_processor(folder, what), what=what)
        self._described = partial(described, what, folder)

    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Size every picture."""
        pictures = values.reshape(-1, *values.shape[2:]) if self.kind == "video" else values
        with self._described():
            sized = self._size(pictures)
        advance(len(values))
        return Rows(sized.reshape(*values.shape[:2], *sized.shape[1:]) if self.kind == "video" else sized, lengths)


class Spectrograms:
    """Raw samples to the spectrograms that a backbone reads."""

    kind: Kind = "sequence"
    cached = in_parts = True

    def __init__(self, folder: Path, what: str) -> None:
        extractor = load_extractor(folder, what)
        if hasattr(extractor, "mean"):
            extractor.do_normalize = False  # which the reader does
        self._extractor = extractor
        self._described = partial(described, what, folder)

    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Extract every spectrogram."""
        assert lengths is not None  # noqa: S101 - a sequence has them
        with self._described():
            rows = extract_spectrograms(values, lengths, self._extractor)
        advance(len(values))
        return rows


class FrozenBackbone:
    """Samples to the features of a frozen backbone, in batches of samples of like length.

    The backbone is loaded when it is first needed: where its features are cached, it is not.
    """

    kind: Kind = "vector"
    cached = True
    in_parts = False

    def __init__(self, config: ModalityConfig, spec: BackboneSpec, folder: Path, device: torch.device) -> None:
        self._config, self._spec, self._folder, self._device = config, spec, folder, device
        self._batch_size = int(spec.parameters["batch_size"])

    @cached_property
    def _inner(self) -> Preparation | None:
        return _inputs(self._config, self._spec, self._folder)

    @cached_property
    def _reader(self) -> Reader:
        what = f"encoder of {self._config.name}"
        return load_reader(self._spec, self._folder, self._config.kind, what).eval().to(self._device)

    @torch.no_grad()
    def __call__(self, values: Array, lengths: IntArray | None, advance: Callable[[int], object]) -> Rows:
        """Compute the features, (n, d) float32."""
        if self._inner is not None and not self._inner.in_parts:
            values, lengths = self._inner(values, lengths, lambda n: None)
        order = np.arange(len(values)) if lengths is None else np.argsort(lengths, kind="stable")[::-1]
        features: Array = np.zeros(0)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch = Rows(values[rows], None if lengths is None else lengths[rows])
            if self._inner is not None and self._inner.in_parts:
                batch = self._inner(*batch, lambda n: None)
            read = None if batch.lengths is None else torch.from_numpy(batch.lengths).to(self._device)
            with torch.autocast(self._device.type, enabled=False):
                made = self._reader(torch.from_numpy(np.asarray(batch.values)).to(self._device), read).cpu().numpy()
            if not start:  # the longest first: what does not fit into memory fails at once
                features = np.zeros((len(order), made.shape[1]), dtype=np.float32)
            features[rows] = made
            advance(len(rows))
        return Rows(features, None)


def make_preparation(config: ModalityConfig, device: torch.device) -> Preparation | None:
    """Make what a modality's samples need before its encoder sees them; None where it reads them as they are.

    Args:
        config: of the modality.
        device: where a frozen backbone computes.

    Raises:
        InputError: a checkpoint that is not there or cannot be read.
    """
    if config.encoder is None:
        return None
    entry, parameters = read_encoder(config.encoder)
    if entry.name == "hashed-ngrams":
        return Ngrams(**parameters)
    if entry.name != BACKBONE:
        return None
    spec = BackboneSpec.read(config.encoder)
    folder = find_checkpoint(spec.source, f"encoder of {config.name}", weights=spec.tune != "all")
    return FrozenBackbone(config, spec, folder, device) if spec.tune == "frozen" else _inputs(config, spec, folder)


def _inputs(config: ModalityConfig, spec: BackboneSpec, folder: Path) -> Preparation | None:
    """Make what turns raw samples into those that the backbone's reader reads."""
    what = f"encoder of {config.name}"
    if config.kind == "text":
        return Tokens(folder, int(spec.parameters["max_length"]), what)
    if config.kind in ("image", "video"):
        return Pictures(folder, cast(Kind, config.kind), what)
    if config.shape[-1] == 1 and not hasattr(load_config(folder, what), "conv_kernel"):  # which raw samples go through
        return Spectrograms(folder, what)
    return None


class Prepared(NamedTuple):
    """A data set as the encoders read it, and the network's configuration, which knows its shapes.

    Attributes:
        dataset: whose modalities are prepared; all else is as it was.
        config: of the network.
    """

    dataset: Dataset
    config: NetworkConfig


def prepare(
    config: NetworkConfig, dataset: Dataset, cache: Cache, device: torch.device, *, progress: bool = False
) -> Prepared:
    """Prepare every modality of a data set whose encoder needs it.

    Args:
        config: of the network.
        dataset: as it came.
        cache: where to keep what takes long to make.
        device: where frozen backbones compute.
        progress: whether to show a bar on a terminal.

    Raises:
        InputError: a checkpoint that is not there or cannot be read, or samples that it cannot read.
    """
    modalities, configs = [], []
    for modality, known in zip(dataset.modalities, config.modalities, strict=True):
        read = prepare_modality(modality, known, cache, device, progress=progress)
        modalities.append(read)
        if read is not modality:
            known = replace(known, read_kind=read.kind, read_shape=read.values.shape[1:])  # noqa: PLW2901
        configs.append(known)
    if all(read is modality for read, modality in zip(modalities, dataset.modalities, strict=True)):
        return Prepared(dataset, config)
    return Prepared(replace(dataset, modalities=tuple(modalities)), replace(config, modalities=tuple(configs)))


def prepare_modality(
    modality: Modality, config: ModalityConfig, cache: Cache, device: torch.device, *, progress: bool = False
) -> Modality:
    """Prepare one modality, or give it as it is where its encoder reads it so; arguments as those of `prepare`."""
    preparation = make_preparation(config, device)
    if preparation is None:
        return modality
    if not preparation.cached:
        return prepare_rows(preparation, modality)

    def build(folder: Path) -> None:
        total, title = int(modality.present.sum()), f"{config.name}: {config.encoder}"[:60]
        with tqdm(total=total, desc=title, disable=None if progress else True, delay=1, leave=False) as bar:
            _write(folder, preparation, modality, bar.update)

    folder = cache.folder(make_key("prepared", {"encoder": _identity(config), "samples": _digest(modality)}), build)
    lengths = folder / _LENGTHS
    return Modality(
        modality.name,
        preparation.kind,
        read_array(folder / _VALUES),
        read_array(lengths, mapped=False) if lengths.exists() else None,
        modality.present,
    )


def prepare_rows(preparation: Preparation, modality: Modality) -> Modality:
    """Prepare the present samples of a modality in memory; those of absent ones are 0."""
    rows = np.flatnonzero(modality.present)
    made = preparation(*_take(modality, rows), lambda n: None)
    lengths = None
    if made.lengths is not None:
        lengths = np.ones(len(modality.present), dtype=np.int64)
        lengths[rows] = made.lengths
    return Modality(modality.name, preparation.kind, _spread(made.values, rows, modality), lengths, modality.present)


_VALUES, _LENGTHS = "values.npy", "lengths.npy"


def _write(folder: Path, preparation: Preparation, modality: Modality, advance: Callable[[int], object]) -> None:
    """Prepare a modality into files; what is done in parts is never in memory as a whole."""
    rows = np.flatnonzero(modality.present)
    if not preparation.in_parts:
        np.save(folder / _VALUES, _spread(preparation(*_take(modality, rows), advance).values, rows, modality))
        return
    lengths, n_written = np.ones(len(modality.present), dtype=np.int64), 0
    with ExitStack() as stack:
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            made = preparation(*_take(modality, part), advance)
            if not start:
                shape = (len(modality.present), *made.values.shape[1:])
                writer = stack.enter_context(ArrayWriter(folder / _VALUES, shape, made.values.dtype))
            for row, values in zip(part.tolist(), made.values, strict=True):
                writer.skip(row - n_written)
                writer.append(values[None])
                n_written = row + 1
            if made.lengths is not None:
                lengths[part] = made.lengths
        writer.skip(len(modality.present) - n_written)
    if preparation.kind in ("sequence", "video"):
        np.save(folder / _LENGTHS, lengths)


def _take(modality: Modality, rows: IntArray) -> tuple[Array, IntArray | None]:
    values = modality.values[rows]
    release(modality.values)
    return values, None if modality.lengths is None else modality.lengths[rows]


def _spread(values: Array, rows: IntArray, modality: Modality) -> Array:
    """Put prepared rows where they belong, 0 elsewhere."""
    if len(rows) == len(modality.present):
        return values
    spread = np.zeros((len(modality.present), *values.shape[1:]), dtype=values.dtype)
    spread[rows] = values
    return spread


def _identity(config: ModalityConfig) -> dict[str, Any]:
    """Give all that prepared samples depend on beside the samples."""
    spec = BackboneSpec.read(config.encoder or "")
    counts = ("pool", "max_length", "dtype") if spec.tune == "frozen" else ()
    parameters = {name: spec.parameters[name] for name in counts}
    versions = {"transformers": version("transformers"), "format": 1}
    return {"fingerprint": config.fingerprint, "frozen": spec.tune == "frozen", **parameters, **versions}


def _digest(modality: Modality) -> str:
    """SHA-256 of the samples, read in pieces; absent ones count as absent."""
    digest = hashlib.sha256(f"{modality.kind} {modality.values.dtype.str} {modality.values.shape}".encode())
    step = max(1, _PIECE // max(1, modality.values[:1].nbytes))
    for start in range(0, len(modality.values), step):
        piece = modality.values[start : start + step]
        if modality.kind == "text":
            for text in piece.tolist():
                encoded = text.encode("utf-8", "surrogatepass")
                digest.update(b"%d %s" % (len(encoded), encoded))
        else:
            digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    for extra in (modality.lengths, modality.present):
        if extra is not None:
            digest.update(extra.tobytes())
    return digest.hexdigest()


_PIECE = 2**24  # bytes that are read at once
