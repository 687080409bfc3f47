"""Shapley-guided alternating training as arXiv 2506.00030 has it, as far as its abstract and a summary tell.

For each modality k in the schedule's order (weak → strong), one update of its encoder from
    L_k = CE(l(z_k, stop(z_j), j ≠ k)) + CE(l_k)
The fused prediction l has every present modality in it, the others behind a stop-gradient: an update trains one
encoder and still sees what matters only jointly (ours; the summary shows the modalities before k only). The paper maps
samples as well as features: `--mapping both`.

Every encoder runs once per batch, unless the schedule grants a modality several updates; the fusion runs once per
update. The formulas are `detach_all_but` and `unimodal_loss`.
"""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, detach_all_but, stateless, unimodal_loss
from equilib_torch.network import MultimodalNetwork


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """Make one update per modality (or as many as the plan says), in the plan's order."""
    features = list(network.encode(batch))
    for k in plan.order:
        if not batch.has(k):
            continue  # an update without data would still decay the weights
        for repetition in range(plan.updates[k]):
            z = network.encode_one(batch, k) if repetition else features[k]
            seen = detach_all_but([*features[:k], z, *features[k + 1 :]], k)
            unimodal = network.unimodal(seen)
            loss = cross_entropy(network.fuse(seen, batch.present, unimodal), batch.labels)
            step(loss + unimodal_loss(unimodal[k], batch.labels, batch.present[:, k]))


METHOD = Method(
    "alternating",
    stateless(update),
    fusion="memory",
    description="the article's form: one modality after the other, weak to strong",
    scheduled=True,
    ours=True,
)
