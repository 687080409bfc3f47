"""Shapley-guided training of every coalition (ours, from arXiv 2506.00030).

One update of everything per batch, from
    L = CE(l(N)) + CE(l(S)) + Σ_k λ_k [CE(l_k) + α CE(l_k, p(N))]
l(N) is the prediction of all modalities present, l(S) that of a random coalition of them, l_k that of modality k's own
head, and p(N) = stop(softmax l(N)), from which a modality learns what the others see. λ_k, the sufficiency of k, is
measured on validation after each epoch: unimodal pressure cures laziness where modalities are redundant, and harms
where they matter only together; λ_k tells the two apart. The memory is written weak → strong.

S has at least two modalities, every size with the same chance: alone, a modality answers by its own head, which is
trained anyway. With two modalities there is no such S but N, and the term is left out.

The paper updates one modality after the other (`alternating`). Here the updates happen at once: encoders share no
weights, so that the gradient of each is the same, and encoders run forward and backward once per batch. Where the
schedule grants a modality more than one update, the others follow, weak → strong, from
    L_k = CE(l(z_k, stop(z_j), j ≠ k)) + λ_k [CE(l_k) + α CE(l_k, p(N))]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, detach_all_but, stateless, unimodal_losses
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def random_coalitions(present: Tensor) -> Tensor:
    """Draw a coalition of two or more of those present for every sample, each size with the same chance (ours).

    Draws come from torch's global generator of the device, which training seeds.

    Args:
        present: (B, n) bool, which sample has which modality.

    Returns:
        (B, n) bool, a subset of `present`; who has fewer than three keeps all.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> random_coalitions(torch.ones(100, 4, dtype=torch.bool)).sum(1).unique()
        tensor([2, 3, 4])
    """
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    rank = draws.argsort(1, descending=True).argsort(1)  # 0: the first to join
    sizes = present.sum(1, keepdim=True)
    chosen = 2 + (torch.rand(sizes.shape, device=present.device) * (sizes - 1)).floor()
    return present & (rank < chosen)


def distillation_target(fused: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Compute the weights of CE(·) + α CE(·, p(N)) on the log-probabilities of the classes (ours).

    Args:
        fused: (B, n_classes), logits of all modalities together, p(N) = softmax(fused); no gradient flows into them.
        labels: (B,) int64, class indices.
        alpha: α, at least 0.

    Returns:
        (B, n_classes) float32, rows summing to 1 + α: the `target` of `unimodal_losses`.

    Example:
        >>> distillation_target(torch.zeros(1, 2), torch.tensor([0]), 0.5)
        tensor([[1.2500, 0.2500]])
    """
    target = alpha * fused.detach().float().softmax(-1)
    return target.scatter_add(1, labels[:, None], torch.ones_like(target[:, :1]))


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, alpha: float) -> None:
    """Make one update of everything, then further ones of those modalities that the plan grants more."""
    labels, present = batch.labels, batch.present

    def own_losses(unimodal: tuple[Tensor, ...], fused: Tensor) -> Tensor:
        """Compute λ_k [CE(l_k) + α CE(l_k, p(N))] of every modality, (n,)."""
        target = distillation_target(fused, labels, alpha)
        return unimodal_losses(unimodal, labels, present, target) * target.new_tensor(plan.sufficiency)

    features = network.encode(batch)
    unimodal = network.unimodal(features)
    fused_coalitions = [present, random_coalitions(present)] if len(features) > 2 else [present]
    fused = network.fuse(features, torch.stack(fused_coalitions), unimodal)  # (1 or 2, B, n_classes)
    n_fused = len(fused_coalitions)
    loss = n_fused * cross_entropy(fused.flatten(0, 1), labels.repeat(n_fused))
    step(loss + own_losses(unimodal, fused[0]).sum())

    for k in plan.order:
        for _ in range(plan.updates[k] - 1):
            if not present[:, k].any():
                break  # an update without data would still decay the weights
            seen = detach_all_but([*features[:k], network.encode_one(batch, k), *features[k + 1 :]], k)
            unimodal = network.unimodal(seen)
            fused = network.fuse(seen, present, unimodal)
            step(cross_entropy(fused, labels) + own_losses(unimodal, fused)[k])


METHOD = Method(
    "equilib",
    stateless(update),
    fusion="memory",
    description="every coalition trained, own losses by what the Shapley table says a modality can do alone",
    keywords=(
        Parameter(
            "alpha",
            float,
            1.0,
            "α, weight of what a modality learns from the prediction of all",
            low=0,
            trials=(1 / 3, 3.0),
        ),
    ),
    scheduled=True,
    ours=True,
)
