"""G-Blending, gradient blending (Wang et al., CVPR 2020), its online form: L = Σ_k w_k CE(l_k) + w_f CE(l).

Every E epochs, starting with the first, each modality alone and the fused prediction are trained for an epoch from a
copy of the network as it then is. With the loss on validation, val, and on training data, train, before and after,
    w ∝ ΔG / ΔO²    ΔG = val_before − val_after    ΔO = (val − train)_after − (val − train)_before
of the own loss of each, Σ w = 1: what generalises weighs more than what overfits. ΔG < 0 gives no weight.

Ours: a gap that grows by less than 0.05 counts as one that grows by 0.05, for a smaller ΔO, or one under 0, is noise of
a small validation split and would take all the weight; where nothing gains, the weights stay what they were, at first
the same for all; copies are trained for one epoch (the article's for as many as it then keeps the weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods import joint
from equilib_torch.methods.base import Losses, LossFunction, Method, Plan, Setting, Step, Update, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter

SMALLEST_GAP = 0.05
"""Growth of the gap between validation and training loss, in nats, under which ΔO is not told from 0."""


def blend_weights(before: Losses, after: Losses, previous: Tensor) -> Tensor:
    """Compute w ∝ max(ΔG, 0) / max(ΔO, 0.05)², how much each loss counts (CVPR 2020; the bounds are ours).

    Args:
        before: losses on training data and on validation, each (m,), before an epoch of training.
        after: the same after it, every loss that of a model trained on it alone.
        previous: (m,), weights where nothing gains.

    Returns:
        (m,), at least 0, summing to 1; 0 for what is no longer finite.

    Example:
        >>> before = Losses(train=torch.tensor([1.0, 1.0]), val=torch.tensor([1.0, 1.0]))
        >>> after = Losses(train=torch.tensor([0.5, 0.1]), val=torch.tensor([0.6, 0.9]))  # the second overfits
        >>> blend_weights(before, after, torch.tensor([0.5, 0.5]))
        tensor([0.9961, 0.0039])
    """
    gains = before.val - after.val
    gaps = (after.val - after.train) - (before.val - before.train)
    gains = torch.where(gains.isfinite() & gaps.isfinite(), gains.clamp(min=0), 0.0)
    weights = gains / gaps.nan_to_num().clamp(min=SMALLEST_GAP) ** 2
    total = weights.sum()
    return weights / total if total > 0 else previous


class GradientBlending(Update):
    """One update per batch; remembers the weights, and estimates them when their time has come."""

    def __init__(self, setting: Setting, *, every: int) -> None:
        self._every, self._rehearse = every, setting.rehearse
        n_losses = len(setting.network.encoders) + 1
        self._weights = torch.full((n_losses,), 1 / n_losses, dtype=torch.float64)
        self._estimated = 0  # the epoch of the last estimate

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Make one update from the weighted sum of the unimodal and the fused cross-entropies."""
        if (plan.epoch - 1) % self._every == 0 and self._estimated != plan.epoch:
            self._estimate(len(network.encoders))
            self._estimated = plan.epoch
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        *own, fused = self._weights.tolist()
        loss = fused * cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
        for weight, logits, here in zip(own, unimodal, batch.present.T, strict=True):
            loss = loss + weight * unimodal_loss(logits, batch.labels, here)
        step(loss)

    def _estimate(self, n: int) -> None:
        """Rehearse every loss, and take the weights from what becomes of it."""
        before = self._rehearse(None)
        rehearsed = [self._rehearse(loss) for loss in (*map(_loss_of, range(n)), joint.fused_loss)]
        after = Losses(*(torch.stack([losses[k] for k, losses in enumerate(s)]) for s in zip(*rehearsed, strict=True)))
        self._weights = blend_weights(before, after, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, and the epoch they were estimated in."""
        return {"weights": self._weights, "estimated": self._estimated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with these weights."""
        self._weights, self._estimated = state["weights"], state["estimated"]


def _loss_of(k: int) -> LossFunction:
    """Return the loss of modality k alone."""

    def loss(network: MultimodalNetwork, batch: Batch) -> Tensor | None:
        if not batch.has(k):
            return None
        return unimodal_loss(network.heads[k](network.encode_one(batch, k)), batch.labels, batch.present[:, k])

    return loss


METHOD = Method(
    "g-blending",
    GradientBlending,
    fusion="concat",
    description="fused and unimodal losses, weighed by how each generalises and overfits",
    keywords=(
        Parameter("every", int, 5, "epochs from one estimate of the weights to the next", low=1, trials=(2, 15)),
    ),
)
