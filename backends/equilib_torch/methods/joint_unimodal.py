"""Joint training with unimodal losses: L = CE(l) + Σ_m CE(l_m), one update of everything per batch.

The plain remedy for lazy modalities, and a strong one where modalities are redundant.
"""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, stateless, unimodal_losses
from equilib_torch.network import MultimodalNetwork


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """Make one update from the sum of the fused and all unimodal cross-entropies."""
    features = network.encode(batch)
    unimodal = network.unimodal(features)
    loss = cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
    step(loss + unimodal_losses(unimodal, batch.labels, batch.present).sum())


METHOD = Method(
    "joint-unimodal", stateless(update), fusion="concat", description="joint, plus every modality's own cross-entropy"
)
