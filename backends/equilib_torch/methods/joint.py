"""Joint training, the usual way: L = CE(l), one update of everything per batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, stateless
from equilib_torch.network import MultimodalNetwork


def fused_loss(network: MultimodalNetwork, batch: Batch) -> Tensor:
    """Compute the fused prediction's cross-entropy. Scalar."""
    return cross_entropy(network(batch), batch.labels)


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """Make one update from the fused prediction's cross-entropy."""
    step(fused_loss(network, batch))


METHOD = Method("joint", stateless(update), fusion="concat", description="cross-entropy of the fused prediction")
