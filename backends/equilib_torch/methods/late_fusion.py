"""Late fusion: every modality is trained alone, L = Σ_m CE(l_m), and the log-probabilities are averaged.

With its usual fusion, `sum`, that is all. A fusion with weights of its own is trained on features through which no
gradient flows back, so that the encoders stay unimodal.
"""

from torch.nn.functional import cross_entropy

from ..batches import Batch
from ..network import MultimodalNetwork
from .base import Method, Plan, Step, stateless, unimodal_loss


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
    """One update from the unimodal cross-entropies; the fusion, if it has weights, learns from detached features."""
    features = network.encode(batch)
    unimodal = network.unimodal(features)
    loss = sum((unimodal_loss(logits, batch, k) for k, logits in enumerate(unimodal)), batch.labels.new_zeros(()))
    if any(True for _ in network.fusion.parameters()):
        frozen = [z.detach() for z in features], [logits.detach() for logits in unimodal]
        loss = loss + cross_entropy(network.fuse(frozen[0], batch.present, frozen[1]), batch.labels)
    step(loss)


METHOD = Method(
    "late-fusion",
    stateless(update),
    fusion="sum",
    description="each modality trained alone, log-probabilities averaged",
)
