"""Late fusion: every modality is trained alone, L = Σ_m CE(l_m), and the log-probabilities are averaged.

With its usual fusion, `sum`, that is all. A fusion with weights of its own is trained on features through which no
gradient flows back, so that the encoders stay unimodal.
"""

from __future__ import annotations

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, detached_fusion_loss, has_weights, stateless, unimodal_losses
from equilib_torch.network import MultimodalNetwork


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """Make one update from the unimodal cross-entropies; a fusion with weights learns from detached features."""
    features = network.encode(batch)
    unimodal = network.unimodal(features)
    loss = unimodal_losses(unimodal, batch.labels, batch.present).sum()
    if has_weights(network):
        loss = loss + detached_fusion_loss(network, features, batch)
    step(loss)


METHOD = Method(
    "late-fusion",
    stateless(update),
    fusion="sum",
    description="each modality trained alone, log-probabilities averaged",
)
