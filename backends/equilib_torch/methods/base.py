"""What a training method is: a function that turns a batch into one or more updates of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from equilib.schedule import MAX_UPDATES
from equilib_torch.data.batches import Batch
from equilib_torch.network import MemoryMapping, MultimodalNetwork
from equilib_torch.parameters import Parameter


class Plan(NamedTuple):
    """What the last measurement says about the updates that follow.

    Attributes:
        order: n modality indices, in the order of their updates.
        updates: updates of each modality per batch, by modality.
        sufficiency: how far each modality suffices alone, in [0, 1], by modality; see `planning.sufficiency`.
        epoch: of the update, from 1.
        progress: share of the run's updates that were made before this one, in [0, 1).
    """

    order: tuple[int, ...]
    updates: tuple[int, ...]
    sufficiency: tuple[float, ...]
    epoch: int = 1
    progress: float = 0.0


class Step(Protocol):
    """One update of the weights from a scalar loss; what received no gradient stays as it is."""

    def __call__(self, loss: Tensor, adjust: Callable[[], None] | None = None) -> None:
        """Clear the gradients, go backward from `loss`, let `adjust` change the gradients, and move the optimiser.

        In fp16 all gradients are multiplied by one number while `adjust` runs, so that small ones do not vanish: what
        it makes of them must grow with them. A step with a gradient that is not finite after that moves nothing, and
        the number becomes smaller.
        """

    def scale(self, loss: Tensor) -> Tensor:
        """Multiply a loss by that number, 1 in other precisions, where `adjust` takes a gradient of its own from it."""


class Update(ABC):
    """What a method does with every batch of a run, and what it remembers from batch to batch.

    A method that remembers nothing needs no class: see `stateless`.
    """

    @abstractmethod
    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Turn a batch into updates of the network.

        Args:
            network: the one it was begun with.
            batch: with at least one sample.
            plan: of this update.
            step: called once per update.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return everything it remembers: tensors and numbers, in lists and in dictionaries with text for keys.

        It is a snapshot: later updates leave it as it is.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, in another run of the same method on a network of the same shape.

        Raises:
            ValueError: something to be remembered by a method that remembers nothing.
        """
        if state:
            raise ValueError(f"state must be empty for a method that remembers nothing, got {', '.join(state)}")


Keep = Literal["last", "best"]
"""Which weights a run keeps: those after its last update, or those of the best measurement on validation."""

LossFunction = Callable[[MultimodalNetwork, Batch], Tensor | None]
"""A scalar to be lowered by an update; None where a batch has nothing to learn from."""


class Losses(NamedTuple):
    """Mean cross-entropies on two splits.

    Attributes:
        train: (n + 1,) float64, of each modality's own head and, last, of the fused prediction.
        val: (n + 1,) float64, the same on validation.
    """

    train: Tensor
    val: Tensor


class Setting(NamedTuple):
    """What a method is given when a run starts.

    Attributes:
        network: to be trained; its parameters may still be tied or replaced.
        rehearse: trains a copy of the network as it is then for one epoch on the loss given, and returns the mean
            losses it ends with; None trains nothing. The copy is thrown away.
    """

    network: MultimodalNetwork
    rehearse: Callable[[LossFunction | None], Losses]


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
        start: called once at the start of a run, with the method's keywords; returns what is called with every batch.
        fusion: its usual form; any other can be chosen.
        description: one line.
        keywords: the parameters that `start` takes, with their defaults and ranges; none is called like an option of a
            run.
        scheduled: whether it grants modalities several updates, as the plan says; it then has the parameter
            updates-per-batch, which goes into the schedule.
        ours: whether it is a method of this project; all others count as rivals.
        mapping: its usual mapping before the memory.
        freeze: part of the updates after which the memory's order usually stays as it is.
        keep: the weights that it usually keeps, those after the last update or the best on validation.
        stack: whether its predictions are usually stacked, on validation.
        incomplete: whether it trains on samples that lack a modality; if not, they are left out and counted.
    """

    name: str
    start: Callable[..., Update]
    fusion: str
    description: str
    keywords: tuple[Parameter, ...] = ()
    scheduled: bool = False
    ours: bool = False
    mapping: MemoryMapping = "feature"
    freeze: float = 1 / 3
    keep: Keep = "last"
    stack: bool = False
    incomplete: bool = True

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that can be written behind its name."""
        return (*self.keywords, UPDATES_PER_BATCH) if self.scheduled else self.keywords

    def begin(self, setting: Setting, parameters: Mapping[str, Any] | None = None) -> Update:
        """Start a run.

        Args:
            setting: what the run gives it.
            parameters: values by keyword, as `read_parameters` makes them; what is left out has its default.
        """
        given = parameters or {}
        return self.start(setting, **{p.name: given.get(p.name, p.default) for p in self.keywords})


class _Stateless(Update):
    """A function that remembers nothing, with its parameters."""

    def __init__(self, update: Callable[..., None], parameters: Mapping[str, Any]) -> None:
        self._update, self._parameters = update, dict(parameters)

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        self._update(network, batch, plan, step, **self._parameters)


def stateless(update: Callable[..., None]) -> Callable[..., Update]:
    """Return the `start` of a method that remembers nothing from batch to batch.

    Args:
        update: called as `update(network, batch, plan, step)`, with the method's keywords.
    """
    return lambda setting, **parameters: _Stateless(update, parameters)


def has_weights(network: MultimodalNetwork) -> bool:
    """Tell whether the fusion has something to learn, besides the encoders and heads."""
    return any(True for _ in network.fusion.parameters())


def detached_fusion_loss(network: MultimodalNetwork, features: Sequence[Tensor], batch: Batch) -> Tensor:
    """Compute the cross-entropy of the fused prediction, whose gradient reaches the fusion alone. Scalar."""
    stopped = [z.detach() for z in features]
    unimodal = [logits.detach() for logits in network.unimodal(stopped)]
    return F.cross_entropy(network.fuse(stopped, batch.present, unimodal), batch.labels)


def detach_all_but(features: Sequence[Tensor], k: int) -> list[Tensor]:
    """Put all features but those of modality k behind a stop-gradient.

    Args:
        features: n tensors of any shape.
        k: modality that is to be trained.

    Returns:
        n tensors of the same values.

    Example:
        >>> features = [torch.ones(2, 3, requires_grad=True) for _ in range(3)]
        >>> [z.requires_grad for z in detach_all_but(features, 1)]
        [False, True, False]
    """
    return [z if j == k else z.detach() for j, z in enumerate(features)]


def unimodal_loss(logits: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Compute the cross-entropy of one modality's prediction over the samples that have it.

    Args:
        logits: (B, n_classes); those of samples without the modality are undefined and receive no gradient.
        labels: (B,) int64, class indices.
        present: (B,) bool, which samples have the modality.

    Returns:
        Scalar, at least 0; 0 where no sample has it.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, -9.0]])
        >>> unimodal_loss(logits, torch.tensor([0, 1]), torch.tensor([True, False]))
        tensor(0.6931)
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)


def unimodal_losses(logits: Sequence[Tensor], labels: Tensor, present: Tensor, target: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy of every modality's prediction over the samples that have it.

    Args:
        logits: n tensors (B, n_classes); those of absent modalities are undefined and receive no gradient.
        labels: (B,) int64, class indices.
        present: (B, n) bool, which sample has which modality.
        target: (B, n_classes), weights of the negative log-probabilities; default: 1 for the label.

    Returns:
        (n,), at least 0 for weights of at least 0; 0 for a modality that no sample has.

    Example:
        >>> logits = [torch.zeros(2, 2), torch.zeros(2, 2)]
        >>> present = torch.tensor([[True, False], [True, False]])
        >>> unimodal_losses(logits, torch.tensor([0, 1]), present)
        tensor([0.6931, 0.0000])
    """
    stacked = torch.stack(list(logits))  # (n, B, n_classes)
    here = present.T  # (n, B)
    if target is None:
        repeated = labels.expand(len(stacked), -1)
        losses = F.cross_entropy(stacked.flatten(0, 1), repeated.flatten(), reduction="none").view_as(here)
    else:
        losses = -(target * stacked.log_softmax(-1)).sum(-1)
    return torch.where(here, losses, 0.0).sum(1) / here.sum(1).clamp(min=1)
