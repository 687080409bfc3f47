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

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from equilib_torch.data.batches import Batch
from equilib_torch.errors import InputError
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
from equilib_torch.parameters import Parameter


def update_projection(projection: Tensor, mean: Tensor, alpha: float) -> Tensor:
    """Take a mean feature out of a projection: P − k kᵀ / (α + rᵀ k), k = P r (CVPR 2024).

    Args:
        projection: P, (d, d), symmetric, the identity at first; in float64, or rounding gives it negative eigenvalues
            over thousands of updates.
        mean: r, (d,), of one modality's features in a batch; converted to the type of P.
        alpha: α, above 0; the smaller, the more of r is taken out.

    Returns:
        (d, d), symmetric.

    Example:
        >>> update_projection(torch.eye(2), torch.tensor([1.0, 0.0]), 0.25)
        tensor([[0.2000, 0.0000],
                [0.0000, 1.0000]])
    """
    r = mean.to(projection)
    k = projection @ r
    return projection - torch.outer(k, k) / (alpha + r @ k)


def project_gradient(gradient: Tensor, projection: Tensor) -> Tensor:
    """Project the gradient of a linear layer's weight, so that it acts less on earlier features (CVPR 2024).

    Args:
        gradient: (n_classes, d).
        projection: P, (d, d).

    Returns:
        gradient · P, of the gradient's type.

    Example:
        >>> project_gradient(torch.ones(1, 2), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        tensor([[0., 1.]])
    """
    return (gradient.to(projection) @ projection).to(gradient)


class AlternatingAdaptation(Update):
    """One update per modality and batch; makes the heads one, and remembers P, (d, d)."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha
        heads = setting.network.heads
        widths = setting.network.config.widths
        if len(set(widths)) > 1:
            raise InputError(
                f"method mla must have encoders of equally many features, for its one head, got {widths}; "
                f"give those of one's own {setting.network.config.width}"
            )
        setting.network.heads = nn.ModuleList([heads[0]] * len(heads))
        weight = cast(nn.Linear, heads[0]).weight  # (n_classes, d)
        self._projection = torch.eye(weight.shape[1], dtype=torch.float64, device=weight.device)

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Make one update per modality, then one of the fusion, if it has weights."""
        features = network.encode(batch)
        for m, here in enumerate(batch.present.T):
            if batch.has(m):
                head = cast(nn.Linear, network.heads[m])  # as the modality before left it
                loss = unimodal_loss(head(features[m]), batch.labels, here)
                step(loss, self._projector(head, features[m].detach()[here]))
        if has_weights(network):
            step(detached_fusion_loss(network, features, batch))

    def _projector(self, head: nn.Linear, z: Tensor) -> Callable[[], None]:
        """Return what takes the mean of the features (B, d) into P, and projects the head's gradient."""

        def adjust() -> None:
            self._projection = update_projection(self._projection, z.double().mean(0), self._alpha)
            if head.weight.grad is not None:
                head.weight.grad = project_gradient(head.weight.grad, self._projection)

        return adjust

    def state_dict(self) -> dict[str, Any]:
        """Return P."""
        return {"projection": self._projection}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with this P."""
        self._projection = state["projection"].to(self._projection)


METHOD = Method(
    "mla",
    AlternatingAdaptation,
    fusion="confidence",
    description="one modality after the other through a shared head, without undoing what others taught it",
    keywords=(Parameter("alpha", float, 1.0, "α of its projection", low=0, above=True, trials=(1 / 3, 3.0)),),
)
