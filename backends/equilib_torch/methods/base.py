"""What a training method is: a function that turns a batch into one or more updates of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from equilib.schedule import MAX_UPDATES
from equilib_torch.data.batches import Batch
from equilib_torch.network import FusionName, MultimodalNetwork
from equilib_torch.parameters import Parameter


class Plan(NamedTuple):
    """What the last epoch's measurement says about the next one.

    Attributes:
        order: n modality indices, in the order of their updates.
        updates: updates of each modality per batch, by modality.
        sufficiency: what each modality can do alone, in [0, 1], by modality; see `planning.sufficiency`.
        epoch: of this plan, from 1.
    """

    order: tuple[int, ...]
    updates: tuple[int, ...]
    sufficiency: tuple[float, ...]
    epoch: int = 1


class Step(Protocol):
    """One update of the weights from a scalar loss; what received no gradient stays as it is."""

    def __call__(self, loss: Tensor, adjust: Callable[[], None] | None = None) -> None:
        """Clear the gradients, go backward from `loss`, let `adjust` change the gradients, and move the optimiser."""


Update = Callable[[MultimodalNetwork, Batch, Plan, Step], None]


class Losses(NamedTuple):
    """Mean cross-entropies on two splits.

    Attributes:
        train: (n + 1,) of each modality's own head and, last, of the fused prediction.
        val: (n + 1,) the same on validation.
    """

    train: npt.NDArray[np.float64]
    val: npt.NDArray[np.float64]


class Setting(NamedTuple):
    """What a method is given when a run starts.

    Attributes:
        network: to be trained; its parameters may still be tied or replaced.
        rehearse: trains a copy of the network as it is then for one epoch with the update given, and says where its
            losses end; None trains nothing. The copy is thrown away.
    """

    network: MultimodalNetwork
    rehearse: Callable[[Update | None], Losses]


UPDATES_PER_BATCH = Parameter(
    "updates_per_batch",
    int,
    None,
    "updates of all modalities together per batch, more to the weak ones; default: one of each",
    low=1,
    high=MAX_UPDATES,
)


@dataclass(frozen=True)
class Method:
    """A training method by name.

    Attributes:
        name: for `--method`.
        start: called once at the start of a run, with its parameters as keywords; what it returns is called with every
            batch.
        fusion: its usual form; any other can be chosen.
        description: one line.
        own: its own parameters, with their defaults and ranges; none is called like an option of a run.
        scheduled: grants modalities several updates, as the plan says; it then has the parameter updates-per-batch,
            which goes into the schedule.
    """

    name: str
    start: Callable[..., Update]
    fusion: FusionName
    description: str
    own: tuple[Parameter, ...] = ()
    scheduled: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that can be written behind its name."""
        return (*self.own, UPDATES_PER_BATCH) if self.scheduled else self.own

    def begin(self, setting: Setting, parameters: Mapping[str, Any] | None = None) -> Update:
        """Start a run.

        Args:
            setting: what the run gives it.
            parameters: values by keyword, as `read_parameters` makes them; what is left out has its default.
        """
        given = dict(parameters or {})
        return self.start(setting, **{p.name: given.get(p.name, p.default) for p in self.own})


def stateless(update: Update) -> Callable[..., Update]:
    """The `start` of a method that keeps nothing from batch to batch."""
    return lambda setting: update


def has_weights(network: MultimodalNetwork) -> bool:
    """Whether the fusion has something to learn, besides the encoders and heads."""
    return any(True for _ in network.fusion.parameters())


def detached_fusion_loss(network: MultimodalNetwork, features: Sequence[Tensor], batch: Batch) -> Tensor:
    """Cross-entropy of the fused prediction, from which the fusion alone receives a gradient. Scalar."""
    stopped = [z.detach() for z in features]
    unimodal = [logits.detach() for logits in network.unimodal(stopped)]
    return F.cross_entropy(network.fuse(stopped, batch.present, unimodal), batch.labels)


def unimodal_losses(unimodal: Sequence[Tensor], batch: Batch, target: Tensor | None = None) -> Tensor:
    """Cross-entropy of each modality's own head over the samples that have it; 0 where none has. (n,).

    Args:
        unimodal: n tensors (B, n_classes), logits.
        batch: whose labels and absences count.
        target: (B, n_classes), weights of the log-probabilities; default: 1 for the label.
    """
    logits = torch.stack(list(unimodal))  # (n, B, n_classes)
    here = batch.present.T  # (n, B)
    if target is None:
        labels = batch.labels.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(here)
    else:
        losses = -(target * logits.log_softmax(-1)).sum(-1)
    return torch.where(here, losses, 0.0).sum(1) / here.sum(1).clamp(min=1)


def unimodal_loss(logits: Tensor, batch: Batch, k: int) -> Tensor:
    """Cross-entropy of modality k's own head over the samples that have it; 0 where none has. Scalar."""
    here = batch.present[:, k]
    losses = F.cross_entropy(logits, batch.labels, reduction="none")
    return torch.where(here, losses, 0.0).sum() / here.sum().clamp(min=1)
