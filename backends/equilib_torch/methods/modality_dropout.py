"""Modality dropout (Neverova et al., ModDrop, TPAMI 2016): L = CE(l), l of a random coalition of those present.

For every sample anew, each modality it has is dropped with probability p, independently. Where that drops all, one of
them is kept, each with the same chance. Like an absent modality, a dropped one enters neither prediction nor gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, stateless
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def drop_modalities(present: Tensor, rate: float) -> Tensor:
    """Drop each modality of each sample with the same probability, but never the last one (ModDrop, TPAMI 2016).

    Draws come from torch's global generator of the device, which training seeds.

    Args:
        present: (B, n) bool, which sample has which modality.
        rate: p, in [0, 1], probability with which a modality is dropped.

    Returns:
        (B, n) bool, what is kept: a subset of `present`, with a modality wherever the sample has one.

    Example:
        >>> drop_modalities(torch.ones(4, 3, dtype=torch.bool), 1.0).sum(1)
        tensor([1, 1, 1, 1])
    """
    # One uniform number per modality decides: under p it is dropped, unless it is the sample's largest. Where all are
    # under p, each is as likely the largest as any other.
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    return present & ((draws >= rate) | (draws == draws.amax(1, keepdim=True)))


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, rate: float) -> None:
    """Make one update from the cross-entropy of what was not dropped."""
    kept = drop_modalities(batch.present, rate)
    step(cross_entropy(network.fuse(network.encode(batch), kept), batch.labels))


METHOD = Method(
    "modality-dropout",
    stateless(update),
    fusion="concat",
    description="cross-entropy of a random coalition of the modalities",
    keywords=(
        Parameter(
            "rate", float, 0.3, "p, probability with which a modality is dropped", low=0, high=1, trials=(0.1, 0.9)
        ),
    ),
)
