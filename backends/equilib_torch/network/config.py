"""What a network is made of: enough to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from equilib_torch.data import Dataset, Modality
from equilib_torch.errors import InputError
from equilib_torch.network.backbones.checkpoint import find_checkpoint, fingerprint
from equilib_torch.network.backbones.loading import check_reads, guess_width, load_config
from equilib_torch.network.backbones.spec import BACKBONE, BackboneSpec
from equilib_torch.network.encoders import DEFAULT_ENCODER, check_kind, read_encoder

MemoryMapping = Literal["none", "feature", "sample", "both"]


@dataclass(frozen=True)
class ModalityConfig:
    """What the network must know of one modality.

    Attributes:
        name: of the modality.
        kind: vector, sequence, image, video or text.
        shape: of one sample.
        encoder: one of `ENCODERS`, with its parameters behind it; None for a module of one's own, which must be given
            again when a model is loaded.
        width: features of a module of one's own; None: the network's width.
        read_kind: of what a preparation makes of the samples; None where the encoder reads them as they are.
        read_shape: of one sample after the preparation.
        fingerprint: SHA-256 of a backbone's checkpoint; None for all other encoders.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    encoder: str | None
    width: int | None = None
    read_kind: str | None = None
    read_shape: tuple[int, ...] | None = None
    fingerprint: str | None = None

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the encoder gets it."""
        return self.shape if self.read_shape is None else self.read_shape


@dataclass(frozen=True)
class NetworkConfig:
    """Everything but the weights: enough to build the network again, and to read raw rows as it did in training.

    Attributes:
        modalities: what it reads, in order.
        classes: the labels, in the order of its outputs.
        fusion: one of `FUSIONS`.
        width: features per modality.
        dropout: probability in the encoders, in [0, 1).
        mapping: what maps features before the memory.
        schema: of a table it was trained on, see `Dataset`; None where it was trained on arrays.
    """

    modalities: tuple[ModalityConfig, ...]
    classes: tuple[str, ...] | tuple[int, ...]
    fusion: str
    width: int
    dropout: float
    mapping: MemoryMapping
    schema: Mapping[str, Any] | None = None

    @property
    def widths(self) -> list[int]:
        """Features of each modality."""
        return [m.width or self.width for m in self.modalities]


def configure(
    dataset: Dataset,
    *,
    encoders: Mapping[str, str],
    fusion: str,
    width: int,
    dropout: float,
    mapping: MemoryMapping,
    own: Mapping[str, int] | None = None,
) -> NetworkConfig:
    """Choose the encoders for a data set: those given by modality name, else the usual one for the kind of array.

    Args:
        dataset: whose modalities and classes are meant.
        encoders: names of encoders by modality, with their parameters.
        fusion: one of `FUSIONS`.
        width: features per modality, a multiple of 16.
        dropout: probability in the encoders, in [0, 1).
        mapping: what maps features before the memory.
        own: numbers of features of the modalities that have a module of one's own.

    Raises:
        InputError: `encoders` names a modality that the data set does not have, or one of `own`, or an encoder that
            does not read what the modality has.
    """
    own = own or {}
    for name in encoders:
        if name not in dataset.names:
            raise InputError(f"encoder: {dataset.name} has no modality {name!r}, only {', '.join(dataset.names)}")
        if name in own:
            raise InputError(
                f"encoder: {name} has a module of its own, got {encoders[name]!r} too; leave one of them out"
            )
    modalities = tuple(
        ModalityConfig(m.name, m.kind, m.values.shape[1:], None, own[m.name])
        if m.name in own
        else _configure_encoder(m, encoders.get(m.name, DEFAULT_ENCODER[m.kind]))
        for m in dataset.modalities
    )
    return NetworkConfig(modalities, dataset.classes, fusion, width, dropout, mapping, dataset.schema)


def _configure_encoder(modality: Modality, encoder: str) -> ModalityConfig:
    """Hold an encoder against its modality; what a preparation will make of the samples is foreseen if possible."""
    config = ModalityConfig(modality.name, modality.kind, modality.values.shape[1:], encoder)
    what = f"encoder of {modality.name}"
    entry, _ = read_encoder(encoder, what=what)
    if entry.name != BACKBONE:
        check_kind(entry, modality.kind)
        return replace(config, read_kind="sequence", read_shape=(1, 1)) if modality.kind == "text" else config
    spec = BackboneSpec.read(encoder)
    folder = find_checkpoint(spec.source, what)
    check_reads(folder, modality.kind, config.shape, what)
    config = replace(config, encoder=str(spec.from_anywhere()), fingerprint=fingerprint(folder))
    if spec.tune == "frozen":
        return replace(config, read_kind="vector", read_shape=(guess_width(load_config(folder, what), modality.kind),))
    return replace(config, read_kind="sequence", read_shape=(1, 1)) if modality.kind == "text" else config
