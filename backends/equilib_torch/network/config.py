"""What a network is made of: enough to build it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equilib_torch.data import Dataset
from equilib_torch.errors import InputError
from equilib_torch.network.encoders import DEFAULT_ENCODER

FusionName = Literal["concat", "mlp", "sum", "memory", "confidence"]
Mapping = Literal["none", "feature", "sample", "both"]


@dataclass(frozen=True)
class ModalityConfig:
    """What the network must know of one modality; `shape` is that of one sample."""

    name: str
    kind: str
    shape: tuple[int, ...]
    encoder: str


@dataclass(frozen=True)
class NetworkConfig:
    """Everything but the weights: enough to build the network again."""

    modalities: tuple[ModalityConfig, ...]
    classes: tuple[str, ...] | tuple[int, ...]
    fusion: FusionName
    width: int
    dropout: float
    mapping: Mapping


def configure(
    dataset: Dataset, *, encoders: dict[str, str], fusion: FusionName, width: int, dropout: float, mapping: Mapping
) -> NetworkConfig:
    """Choose the encoders for a data set: those given by modality name, else the usual one for the kind of array.

    Raises:
        InputError: `encoders` names a modality the data set does not have.
    """
    for name in encoders:
        if name not in dataset.names:
            raise InputError(f"encoder: {dataset.name} has no modality {name!r}, only {', '.join(dataset.names)}")
    modalities = tuple(
        ModalityConfig(m.name, m.kind, m.values.shape[1:], encoders.get(m.name, DEFAULT_ENCODER[m.kind]))
        for m in dataset.modalities
    )
    return NetworkConfig(modalities, dataset.classes, fusion, width, dropout, mapping)
