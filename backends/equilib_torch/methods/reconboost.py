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
from equilib_torch.methods.base import Method, Plan, Step, detached_fusion_loss, has_weights, stateless
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def ensemble_probabilities(logits: Sequence[Tensor], labels: Tensor, present: Tensor) -> Tensor:
    """Compute q, the probability of the true class in the ensemble softmax(Σ_j l_j) (ICML 2024).

    Args:
        logits: n tensors (B, n_classes), of each modality's own head; no gradient flows into them.
        labels: (B,) int64, class indices.
        present: (B, n) bool, which modalities answer for which sample.

    Returns:
        (B,) float32 in [0, 1]; 0 where none answers (ours).

    Example:
        >>> logits, labels = [torch.zeros(2, 4), torch.zeros(2, 4)], torch.tensor([0, 1])
        >>> ensemble_probabilities(logits, labels, torch.tensor([[True, True], [False, False]]))
        tensor([0.2500, 0.0000])
    """
    here = present.T[..., None]  # (n, B, 1)
    sums = torch.where(here, torch.stack([x.detach() for x in logits]), 0.0).sum(0)
    probabilities = sums.float().softmax(1).gather(1, labels[:, None])[:, 0]
    return torch.where(present.any(1), probabilities, 0.0)


def reconboost_loss(logits: Sequence[Tensor], labels: Tensor, present: Tensor, m: int, agreement: float) -> Tensor:
    """Compute L_m, the mean of (1 − λ q) CE(l_m) over the samples that have modality m (ICML 2024, divided by w₁).

    Args:
        logits: n tensors (B, n_classes), of each modality's own head; a gradient flows into those of m alone.
        labels: (B,) int64, class indices.
        present: (B, n) bool, which sample has which modality; at least one has m.
        m: the modality whose turn it is.
        agreement: λ, in [0, 1], how much less weighs what the others are sure of.

    Returns:
        Scalar, at least 0.

    Example:
        >>> logits, present = [torch.zeros(1, 2), torch.zeros(1, 2)], torch.ones(1, 2, dtype=torch.bool)
        >>> reconboost_loss(logits, torch.tensor([0]), present, 0, 1.0)  # half of log 2
        tensor(0.3466)
    """
    here, others = present[:, m], present.clone()
    others[:, m] = False
    q = ensemble_probabilities(logits, labels, others)
    losses = F.cross_entropy(logits[m], labels, reduction="none")
    return ((1 - agreement * q) * losses)[here].mean()


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, agreement: float) -> None:
    """Make one update, of one modality or of everything: whose turn it is depends on the epoch."""
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
    if batch.has(m):
        losses.append(reconboost_loss(network.unimodal(features), batch.labels, batch.present, m, agreement))
    if has_weights(network):
        losses.append(detached_fusion_loss(network, features, batch))
    if losses:  # an update without data would still decay the weights
        step(torch.stack(losses).sum())


METHOD = Method(
    "reconboost",
    stateless(update),
    fusion="sum",
    description="modalities take turns by epoch, each learning what the others do not know, then all together",
    keywords=(
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
