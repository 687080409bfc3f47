"""What a training method is: one function that turns a batch into one or more updates of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..batches import Batch
from ..network import FusionName, MultimodalNetwork


class Plan(NamedTuple):
    """What the last epoch's measurement says about the next one.

    Attributes:
        order: n modality indices, in the order of their updates.
        updates: updates of each modality per batch, by modality.
        sufficiency: what each modality can do alone, in [0, 1], by modality; see `planning.sufficiency`.
    """

    order: tuple[int, ...]
    updates: tuple[int, ...]
    sufficiency: tuple[float, ...]


class Step(Protocol):
    """One update of the weights from a scalar loss; what received no gradient stays as it is."""

    def __call__(self, loss: Tensor) -> None:
        """Clear the gradients, go backward from `loss`, and let the optimiser move."""


Update = Callable[[MultimodalNetwork, Batch, Plan, Step], None]


@dataclass(frozen=True)
class Method:
    """A training method by name. `fusion` is its usual form; any other can be chosen.

    `scheduled` methods update modality by modality, in the plan's order and as often as the plan says.
    """

    name: str
    update: Update
    fusion: FusionName
    description: str
    scheduled: bool = False


def unimodal_loss(logits: Tensor, batch: Batch, k: int) -> Tensor:
    """Cross-entropy of modality k's own head over the samples that have it; 0 where none has. Scalar."""
    here = batch.present[:, k]
    losses = F.cross_entropy(logits, batch.labels, reduction="none")
    return torch.where(here, losses, 0.0).sum() / here.sum().clamp(min=1)
