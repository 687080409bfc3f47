"""MLA, alternating unimodal adaptation (Zhang et al., CVPR 2024): one modality a step, through one shared head.

For each modality m that the batch has, one update of its encoder and the head H from CE(H(z_m)). So that the head does
not forget what it learned from the others, the gradient of its weight is projected: with r the mean of z_m,
    k = P r    P ← P − k kᵀ / (α + rᵀ k)    gradient ← gradient · P
P, the identity at first, is one for the whole run: (I + Σ r rᵀ / α)⁻¹ over all r so far, which takes out every one of
them as α → 0. Its usual fusion, `confidence`, weighs the modalities of each sample as the article does.

Ours: only samples that have m enter its loss and r; a fusion with weights of its own is trained on features through
which no gradient flows back, in an update of its own. The head's bias, which sees no feature, is not projected. AdamW
scales the projected gradient entry by entry, so that its steps keep off earlier means only roughly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step, detached_fusion_loss, has_weights, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class AlternatingAdaptation:
    """One update per modality and batch; makes the heads one, and remembers P, (d, d)."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha
        heads = setting.network.heads
        setting.network.heads = nn.ModuleList([heads[0]] * len(heads))
        weight = cast(nn.Linear, heads[0]).weight  # (n_classes, d)
        # In double precision: over thousands of updates, rounding would give P negative eigenvalues.
        self._projection = torch.eye(weight.shape[1], dtype=torch.float64, device=weight.device)

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update per modality, then one of the fusion, if it has weights."""
        features = network.encode(batch)
        for m, here in enumerate(batch.present.T):
            if here.any():
                head = cast(nn.Linear, network.heads[m])  # as the modality before left it
                loss = unimodal_loss(head(features[m]), batch, m)
                step(loss, self._projector(head, features[m].detach()[here]))
        if has_weights(network):
            step(detached_fusion_loss(network, features, batch))

    def _projector(self, head: nn.Linear, z: Tensor) -> Callable[[], None]:
        """Takes the mean of the features (B, d) into P, and projects the head's gradient."""

        def adjust() -> None:
            r = z.double().mean(0)
            k = self._projection @ r
            self._projection = self._projection - torch.outer(k, k) / (self._alpha + r @ k)
            gradient = head.weight.grad
            if gradient is not None:
                head.weight.grad = (gradient.double() @ self._projection).to(gradient)

        return adjust


METHOD = Method(
    "mla",
    AlternatingAdaptation,
    fusion="confidence",
    description="one modality after the other through a shared head, without undoing what others taught it",
    own=(Parameter("alpha", float, 1.0, "α of its projection", low=0, above=True, trials=(1 / 3, 3.0)),),
)
