"""What a network is made of: enough to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from equilib_torch.data import Dataset
from equilib_torch.errors import InputError
from equilib_torch.network.encoders import DEFAULT_ENCODER

MemoryMapping = Literal["none", "feature", "sample", "both"]


@dataclass(frozen=True)
class ModalityConfig:
    """What the network must know of one modality.

    Attributes:
        name: of the modality.
        kind: vector, sequence or image.
        shape: of one sample.
        encoder: one of `ENCODERS`; None for a module of one's own, which must be given again when a model is loaded.
        width: features of a module of one's own; None: the network's width.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    encoder: str | None
    width: int | None = None


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
        encoders: names of encoders by modality.
        fusion: one of `FUSIONS`.
        width: features per modality, a multiple of 16.
        dropout: probability in the encoders, in [0, 1).
        mapping: what maps features before the memory.
        own: numbers of features of the modalities that have a module of one's own.

    Raises:
        InputError: `encoders` names a modality that the data set does not have, or one of `own`.
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
        else ModalityConfig(m.name, m.kind, m.values.shape[1:], encoders.get(m.name, DEFAULT_ENCODER[m.kind]))
        for m in dataset.modalities
    )
    return NetworkConfig(modalities, dataset.classes, fusion, width, dropout, mapping, dataset.schema)
