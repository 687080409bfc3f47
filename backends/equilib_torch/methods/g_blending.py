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

import numpy as np
import numpy.typing as npt
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods import joint
from equilib_torch.methods.base import Losses, Method, Plan, Setting, Step, Update, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter

SMALLEST_GAP = 0.05
"""Growth of the gap between validation and training loss, in nats, under which ΔO is not told from 0."""


class GradientBlending:
    """One update per batch; remembers the weights, and estimates them when their time has come."""

    def __init__(self, setting: Setting, *, every: int) -> None:
        self._every, self._rehearse = every, setting.rehearse
        n = len(setting.network.encoders)
        self._weights, self._estimated = np.full(n + 1, 1 / (n + 1)), 0

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update from the weighted sum of the unimodal and the fused cross-entropies."""
        if (plan.epoch - 1) % self._every == 0 and self._estimated != plan.epoch:
            self._estimate(len(network.encoders))
            self._estimated = plan.epoch
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        *own, fused = self._weights.tolist()
        loss = fused * cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
        for k, logits in enumerate(unimodal):
            loss = loss + own[k] * unimodal_loss(logits, batch, k)
        step(loss)

    def _estimate(self, n: int) -> None:
        """Rehearse everything, and take the weights from it."""
        before = self._rehearse(None)
        after = [self._rehearse(update) for update in (*map(_alone, range(n)), joint.update)]
        own = Losses(*(np.array([losses[k] for k, losses in enumerate(split)]) for split in zip(*after, strict=True)))
        self._weights = blend(before, own, self._weights)


def blend(before: Losses, after: Losses, previous: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """w, (n + 1,), summing to 1, from losses before and after; `previous` where nothing gains."""
    with np.errstate(invalid="ignore"):  # a copy may have diverged: ∞ − ∞
        gains = before.val - after.val
        gaps = (after.val - after.train) - (before.val - before.train)
    gains = np.where(np.isfinite(gains) & np.isfinite(gaps), np.maximum(gains, 0), 0)
    weights = gains / np.fmax(gaps, SMALLEST_GAP) ** 2
    total = weights.sum()
    return weights / total if total > 0 else previous


def _alone(k: int) -> Update:
    """Training of modality k alone."""

    def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        if batch.present[:, k].any():
            step(unimodal_loss(network.heads[k](network.encode_one(batch, k)), batch, k))

    return update


METHOD = Method(
    "g-blending",
    GradientBlending,
    fusion="concat",
    description="fused and unimodal losses, weighed by how each generalises and overfits",
    own=(Parameter("every", int, 5, "epochs from one estimate of the weights to the next", low=1, trials=(2, 15)),),
)
