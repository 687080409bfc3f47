"""Joint training, the usual way: L = CE(l), one update of everything per batch."""

from torch.nn.functional import cross_entropy

from ..batches import Batch
from ..network import MultimodalNetwork
from .base import Method, Plan, Step, stateless


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """One update from the fused prediction's cross-entropy."""
    step(cross_entropy(network(batch), batch.labels))


METHOD = Method("joint", stateless(update), fusion="concat", description="cross-entropy of the fused prediction")
