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

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step, unimodal_losses
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class CoalitionTraining:
    """One update of everything per batch, then further ones of those modalities that the plan grants more."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Update from all modalities at once, and then, where granted, from one after the other."""
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        present = batch.present
        asked = [present, random_coalitions(present)] if len(features) > 2 else [present]
        fused = network.fuse(features, torch.stack(asked), unimodal)  # (1 or 2, B, n_classes)
        loss = len(asked) * cross_entropy(fused.flatten(0, 1), batch.labels.repeat(len(asked)))
        step(loss + self._own(unimodal, fused[0], batch, plan).sum())

        for k in plan.order:
            for _ in range(plan.updates[k] - 1):
                if not present[:, k].any():
                    break  # an update without data would still decay the weights
                seen = [network.encode_one(batch, j) if j == k else z.detach() for j, z in enumerate(features)]
                unimodal = network.unimodal(seen)
                fused = network.fuse(seen, present, unimodal)
                step(cross_entropy(fused, batch.labels) + self._own(unimodal, fused, batch, plan)[k])

    def _own(self, unimodal: Sequence[Tensor], fused: Tensor, batch: Batch, plan: Plan) -> Tensor:
        """λ_k [CE(l_k) + α CE(l_k, p(N))] of every modality, (n,)."""
        target = self._alpha * fused.detach().float().softmax(-1)
        target = target.scatter_add(1, batch.labels[:, None], torch.ones_like(target[:, :1]))
        return unimodal_losses(unimodal, batch, target) * target.new_tensor(plan.sufficiency)


def random_coalitions(present: Tensor) -> Tensor:
    """A coalition of two or more of those present for every sample, each size with the same chance, (B, n) bool.

    Who has fewer than three keeps all. Drawn from torch's global generator, which training seeds.
    """
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    rank = draws.argsort(1, descending=True).argsort(1)  # 0: the first to join
    sizes = present.sum(1, keepdim=True)
    chosen = 2 + (torch.rand(sizes.shape, device=present.device) * (sizes - 1)).floor()
    return present & (rank < chosen)


METHOD = Method(
    "equilib",
    CoalitionTraining,
    fusion="memory",
    description="every coalition trained, own losses by what the Shapley table says a modality can do alone",
    own=(
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
)
