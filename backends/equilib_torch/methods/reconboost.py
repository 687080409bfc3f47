"""ReconBoost (Hua et al., ICML 2024): modalities take turns, each learning what the others do not know yet.

In the stage of modality m, its encoder and head are updated from
    L_m = mean of (1 − λ q) CE(l_m)    λ = w₂ / w₁, of the article's weights 5 and 1
over the samples that have m. q is the probability of the true class in the others' ensemble, softmax(Σ_j≠m l_j): what
the others are sure of weighs less, by λ at most. After every modality has had its turn follows the rectification:
everything is updated from CE(l).

Gradients flow through l_m, not into the others or q. (A known port stops both, which leaves plain CE.)

Ours: a stage is an epoch, in the order of the data set, and so is the rectification, so that M + 1 epochs make a cycle
within the epochs that all methods have; the loss is divided by w₁, which bounds the weights by 1; q is 0 where a sample
has no other modality; a fusion with weights of its own learns in the stages, too, on features through which no gradient
flows back. An ensemble is always the sum of logits, whatever the fusion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from equilib_torch.data.batches import Batch
from equilib_torch.methods import joint
from equilib_torch.methods.base import Method, Plan, Setting, Step, detached_fusion_loss, has_weights
from equilib_torch.network import MultimodalNetwork
from equilib_torch.network.fusion import SumFusion
from equilib_torch.parameters import Parameter


class ReconBoost:
    """One update per batch; whose turn it is depends on the epoch."""

    def __init__(self, setting: Setting, *, agreement: float) -> None:
        self._agreement = agreement
        self._ensemble = SumFusion()

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update, of one modality or of everything."""
        n = len(network.encoders)
        m = (plan.epoch - 1) % (n + 1)
        if m == n:
            joint.update(network, batch, plan, step)
            return
        features = []
        for j in range(n):
            with torch.set_grad_enabled(j == m):
                features.append(network.encode_one(batch, j))
        losses = []
        if batch.present[:, m].any():
            losses.append(self._stage_loss(network.unimodal(features), batch, m))
        if has_weights(network):
            losses.append(detached_fusion_loss(network, features, batch))
        if losses:  # an update without data would still decay the weights
            step(torch.stack(losses).sum())

    def _stage_loss(self, unimodal: Sequence[Tensor], batch: Batch, m: int) -> Tensor:
        """L_m."""
        here, others = batch.present[:, m], batch.present.clone()
        others[:, m] = False
        known = self._ensemble([], [logits.detach() for logits in unimodal], others).float().softmax(1)
        q = torch.where(others.any(1), known.gather(1, batch.labels[:, None])[:, 0], 0.0)
        losses = F.cross_entropy(unimodal[m], batch.labels, reduction="none")
        return ((1 - self._agreement * q) * losses)[here].mean()


METHOD = Method(
    "reconboost",
    ReconBoost,
    fusion="sum",
    description="modalities take turns by epoch, each learning what the others do not know, then all together",
    own=(
        Parameter(
            "agreement",
            float,
            0.2,
            "λ, how much less it weighs what the others know",
            low=0,
            high=1,
            trials=(0.6, 0.2 / 3),
        ),
    ),
)
