"""Data remixing (Ma et al., ICML 2025): each sample trains only the modality that is least sure of it.

For the first share w of the updates, the warm-up, L = CE(l). From then on each sample is given to one modality it has,
    m* = argmin_m KL(softmax(l_m) ‖ uniform)
the others count as absent, and the samples given to a modality make a batch of their own: an update each from CE(l).
l_m is the fused prediction with m alone, which for `concat` is the article's z_m W_m + b / M.

Ours: w is a share of the updates; samples are given away batch by batch, by the network as it is in evaluation, not
once an epoch over all data, so that the batches of the modalities are smaller than those of the run; they follow in the
order of the data set.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods import joint
from equilib_torch.methods.base import Method, Plan, Step, stateless
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def least_sure_modality(logits: Tensor, present: Tensor) -> Tensor:
    """Find the modality whose prediction is nearest to uniform, argmin_m KL(softmax(l_m) ‖ uniform) (ICML 2025).

    Args:
        logits: (n, B, n_classes), of each modality alone; no gradient flows into them.
        present: (B, n) bool, which sample has which modality, at least one each.

    Returns:
        (B,) int64, of modalities that are present; the first among equals.

    Example:
        >>> logits = torch.tensor([[[5.0, 0.0], [5.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
        >>> least_sure_modality(logits, torch.tensor([[True, True], [True, False]]))
        tensor([1, 0])
    """
    log_probabilities = logits.detach().float().log_softmax(-1)
    divergence = (log_probabilities.exp() * log_probabilities).sum(-1).T  # (B, n), up to the constant log n_classes
    return divergence.masked_fill(~present, torch.inf).argmin(1)


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, warmup: float) -> None:
    """Make one update of everything in the warm-up, then one from the samples of each modality."""
    if plan.progress < warmup:
        joint.update(network, batch, plan, step)
        return
    n = len(network.encoders)
    only = torch.eye(n, dtype=torch.bool, device=batch.present.device)  # (n, n), row m: m alone
    network.eval()
    with torch.no_grad():
        known = network.encode(batch)
        given = least_sure_modality(network.fuse(known, batch.present & only[:, None]), batch.present)
    network.train()
    for m in range(n):
        here = given == m
        if here.any():
            features, lengths = [z[here] for z in known], batch.lengths[m]
            features[m] = network.encoders[m](batch.inputs[m][here], None if lengths is None else lengths[here])
            present = only[m].expand(len(features[m]), -1)
            step(cross_entropy(network.fuse(features, present), batch.labels[here]))


METHOD = Method(
    "data-remixing",
    stateless(update),
    fusion="concat",
    description="after a warm-up, each sample trains only the modality that is least sure of it",
    keywords=(
        Parameter(
            "warmup",
            float,
            0.3,
            "w, share of the updates in which everything learns jointly",
            low=0,
            high=1,
            trials=(0.1, 0.6),
        ),
    ),
)
