"""PMR, prototypical modality rebalance (Fan et al., CVPR 2023): L = CE(l) + α Σ_m β_m CE(−‖z_m − c_m‖).

c_m^y, the prototype of class y, is the moving mean of the features z_m of its samples: the first batch's mean, later
0.9 c_m^y + 0.1 of the batch's. With s_m the mean of softmax_y(−‖z_m − c_m^y‖) at the true class,
    β_m = clip(max_j s_j / s_m − 1, 0, 1)
is 0 for the modality whose prototypes tell the classes apart best: only the weaker ones are drawn to theirs. No
gradient flows into prototypes or β. Only samples that have m enter c_m, s_m and its cross-entropy, and only classes
seen so far have a prototype.

Ours: prototypes follow every batch, which enters them before it is compared with them (the article's follow epochs); β
of more than two modalities, which for two is the article's. Its penalty on the strong modality's confidence in early
epochs (PER) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step, Update
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter

MOMENTUM = 0.9
"""What a prototype keeps of itself when a batch has samples of its class."""


def move_prototypes(
    prototypes: Tensor, seen: Tensor, features: Tensor, labels: Tensor, momentum: float = MOMENTUM
) -> tuple[Tensor, Tensor]:
    """Move the prototype of each class towards the mean of its samples' features (CVPR 2023, batch by batch: ours).

    Args:
        prototypes: (n_classes, d); those of classes not seen are undefined.
        seen: (n_classes,) bool, which classes have a prototype.
        features: (B, d), of one modality, of samples that have it; no gradient flows into them.
        labels: (B,) int64, class indices.
        momentum: what a prototype keeps of itself, in [0, 1]; the first samples of a class replace it.

    Returns:
        Prototypes and classes seen, with this batch.

    Example:
        >>> z, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
        >>> prototypes, seen = move_prototypes(torch.zeros(2, 1), torch.tensor([False, False]), z, labels)
        >>> prototypes[0], seen
        (tensor([2.]), tensor([ True, False]))
    """
    members = one_hot(labels, len(seen)).to(features)  # (B, n_classes)
    counts = members.sum(0)[:, None]
    means = members.T @ features.detach() / counts.clamp(min=1)
    moved = torch.where(seen[:, None], momentum * prototypes + (1 - momentum) * means, means)
    return torch.where(counts > 0, moved, prototypes), seen | (counts[:, 0] > 0)


def prototype_logits(features: Tensor, prototypes: Tensor, seen: Tensor) -> Tensor:
    """Compute −‖z − c_y‖, the logits of a classifier by distance to the prototypes (CVPR 2023).

    Args:
        features: (B, d), z; the gradient of a distance is 0 at distance 0.
        prototypes: (n_classes, d), c.
        seen: (n_classes,) bool, which classes have a prototype.

    Returns:
        (B, n_classes), at most 0; −∞ for classes without a prototype.

    Example:
        >>> prototypes = torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]])
        >>> prototype_logits(torch.zeros(1, 2), prototypes, torch.tensor([True, True, False]))
        tensor([[-0., -5., -inf]])
    """
    distances: Tensor = torch.linalg.vector_norm(features[:, None] - prototypes, dim=2)
    return (-distances).masked_fill(~seen, -torch.inf)


def pmr_weights(scores: Tensor) -> Tensor:
    """Compute β, how much each modality is drawn to its prototypes: clip(max_j s_j / s_m − 1, 0, 1) (CVPR 2023).

    Args:
        scores: (n,) in [0, 1], s, the mean probability of the true class by distance to the prototypes.

    Returns:
        (n,) in [0, 1]; 0 for the highest score.

    Example:
        >>> pmr_weights(torch.tensor([0.6, 0.4, 0.1]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return (scores.amax() / scores.clamp(min=1e-30) - 1).clamp(0, 1)


class PrototypicalRebalance(Update):
    """One update per batch; remembers a prototype per modality and class, and which classes were seen."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha
        alike = [cast(nn.Linear, head).weight for head in setting.network.heads]  # each (n_classes, d_m)
        self._prototypes = [torch.zeros_like(weight) for weight in alike]
        self._seen = [torch.zeros(len(weight), dtype=torch.bool, device=weight.device) for weight in alike]

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Make one update from the fused cross-entropy and, for the weaker modalities, that of their prototypes."""
        features = network.encode(batch)
        loss = cross_entropy(network.fuse(features, batch.present), batch.labels)
        losses, scores = [], []
        for m, here in enumerate(batch.present.T):
            if batch.has(m):
                with torch.autocast(here.device.type, enabled=False):  # prototypes move by less than bf16 can say
                    z, labels = features[m][here].float(), batch.labels[here]
                    self._prototypes[m], self._seen[m] = move_prototypes(self._prototypes[m], self._seen[m], z, labels)
                    logits = prototype_logits(z, self._prototypes[m], self._seen[m])
                    losses.append(cross_entropy(logits, labels))
                    scores.append(logits.detach().softmax(1).gather(1, labels[:, None]).mean())
        for weight, prototype_loss in zip(pmr_weights(torch.stack(scores)), losses, strict=True):
            loss = loss + self._alpha * weight * prototype_loss
        step(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the prototypes of every modality, and which classes were seen."""
        return {"prototypes": list(self._prototypes), "seen": list(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from these prototypes."""
        pairs = zip(self._prototypes, state["prototypes"], strict=True)
        self._prototypes = [new.to(old) for old, new in pairs]
        self._seen = [new.to(old) for old, new in zip(self._seen, state["seen"], strict=True)]


METHOD = Method(
    "pmr",
    PrototypicalRebalance,
    fusion="concat",
    description="joint, weak modalities' features drawn to prototypes of their classes",
    keywords=(
        Parameter("alpha", float, 1.0, "α, weight of the prototypes' cross-entropy", low=0, trials=(1 / 3, 3.0)),
    ),
)
