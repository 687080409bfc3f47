"""AUG (NeurIPS 2025): boosting; the modality that classifies worse gets a classifier with more learners.

Modality m classifies by F_m = Σ_t f_mt, of T_m learners over an output that all share (the fusion `boosted`). In each
batch every modality in turn makes one update of its encoder, its learners and the output. With f the last learner and
F_m − f what those before it say,
    L_m = CE(F_m)                                                                        if T_m = 1, else
    L_m = CE(F_m) + CE(F_m − f) + CE(f) − ½ CE(f, y ⊙ softmax(stop(F_m − f)))
so that what the earlier learners know weighs less for the last one. After every tenth of the run the modality with the
smallest sum of p(y), the probability of the true class in softmax(F_m), gets one more learner.

Ours: the order is that of the data set; p(y) is a mean over the batches since the last growth and over the samples that
have m, so that absence does not count as weakness; the weights of the sum Σ_m F_m, which the article fits on
validation, are left to stacking; the network's own heads learn from stopped features, so that unimodal accuracy can be
measured. With another fusion nothing can grow: every modality learns in turn by its own head, T_m = 1, and a fusion
with weights in an update of its own, on stopped features. Only with its usual fusion is it AUG.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import (
    Method,
    Plan,
    Setting,
    Step,
    Update,
    detached_fusion_loss,
    has_weights,
    unimodal_loss,
)
from equilib_torch.network import MultimodalNetwork
from equilib_torch.network.boosted import MAX_LEARNERS, BoostedFusion


def boosting_loss(learners: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Compute L_m = CE(F) + CE(F − f) + CE(f) − ½ CE(f, y ⊙ softmax(stop(F − f))) (NeurIPS 2025).

    F is the sum over learners, f the last one; with one learner, L_m = CE(F).

    Args:
        learners: (B, T, n_classes), logits of each learner of one modality.
        labels: (B,) int64, class indices.
        present: (B,) bool, which samples have the modality; others receive no gradient.

    Returns:
        Scalar, at least 0: the mean over the samples that have the modality, 0 where none has.

    Example:
        >>> labels, present = torch.tensor([0, 1]), torch.ones(2, dtype=torch.bool)
        >>> boosting_loss(torch.zeros(2, 1, 2), labels, present)  # log 2
        tensor(0.6931)
        >>> boosting_loss(torch.zeros(2, 2, 2), labels, present)  # 2.75 log 2
        tensor(1.9062)
    """
    together, last = learners.sum(1), learners[:, -1]
    losses = F.cross_entropy(together, labels, reduction="none")
    if learners.shape[1] > 1:
        before = together - last
        known = before.detach().float().softmax(1).gather(1, labels[:, None])[:, 0]
        losses = losses + F.cross_entropy(before, labels, reduction="none")
        losses = losses + (1 - known / 2) * F.cross_entropy(last, labels, reduction="none")
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)


class Boosting(Update):
    """One update per modality and batch; remembers how well each classified since it last made one grow."""

    def __init__(self, setting: Setting) -> None:
        self._growths, n = 0, len(setting.network.encoders)
        self._sums, self._counts = torch.zeros(2, n, dtype=torch.float64, device=setting.network.log_prior.device)

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Make one update per modality; before them, let the weakest grow where a tenth of the run is over."""
        fusion = network.fusion
        if not isinstance(fusion, BoostedFusion):
            self._take_turns(network, batch, step)
            return
        if int(plan.progress * MAX_LEARNERS) > self._growths:
            means = torch.where(self._counts > 0, self._sums / self._counts.clamp(min=1), torch.inf)
            fusion.grow(int(means.argmin()))
            self._growths = int(plan.progress * MAX_LEARNERS)
            self._sums, self._counts = torch.zeros_like(self._sums), torch.zeros_like(self._counts)
        features = network.encode(batch)
        for m, here in enumerate(batch.present.T):
            if batch.has(m):
                learners = fusion.learners(features[m], m)  # the shared output is as others left it
                loss = boosting_loss(learners, batch.labels, here)
                own = unimodal_loss(network.heads[m](features[m].detach()), batch.labels, here)
                step(loss + own)
                right = learners.detach().sum(1).double().softmax(1).gather(1, batch.labels[:, None])[:, 0]
                self._sums[m] += right[here].sum()
                self._counts[m] += here.sum()

    @staticmethod
    def _take_turns(network: MultimodalNetwork, batch: Batch, step: Step) -> None:
        """Make one update per modality by its own head, then one of the fusion, if it has weights."""
        features = network.encode(batch)
        for m, here in enumerate(batch.present.T):
            if batch.has(m):
                step(unimodal_loss(network.heads[m](features[m]), batch.labels, here))
        if has_weights(network):
            step(detached_fusion_loss(network, features, batch))

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of p(y) and counts of samples by modality, and how often one was to grow."""
        return {"sums": self._sums.clone(), "counts": self._counts.clone(), "growths": self._growths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._sums, self._counts = state["sums"].to(self._sums), state["counts"].to(self._counts)
        self._growths = state["growths"]


METHOD = Method(
    "aug",
    Boosting,
    fusion="boosted",
    description="boosting: the modality that classifies worst gets one more learner after every tenth of the run",
)
