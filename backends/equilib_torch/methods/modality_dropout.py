"""Modality dropout (Neverova et al., ModDrop, TPAMI 2016): L = CE(l), l of a random coalition of those present.

For every sample anew, each modality it has is dropped with probability p, independently. Where that drops all, one of
them is kept, each with the same chance. Like an absent modality, a dropped one enters neither prediction nor gradient.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class ModalityDropout:
    """One update per batch from the cross-entropy of what was not dropped."""

    def __init__(self, setting: Setting, *, rate: float) -> None:
        self._p = rate

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Draw and update; the draw is from torch's global generator, which training seeds."""
        # One uniform number per modality decides: under p it is dropped, unless it is the sample's largest. Where all
        # are under p, each is as likely the largest as any other.
        draws = torch.rand(batch.present.shape, device=batch.present.device).masked_fill(~batch.present, -1.0)
        kept = batch.present & ((draws >= self._p) | (draws == draws.amax(1, keepdim=True)))
        step(cross_entropy(network.fuse(network.encode(batch), kept), batch.labels))


METHOD = Method(
    "modality-dropout",
    ModalityDropout,
    fusion="concat",
    description="cross-entropy of a random coalition of the modalities",
    own=(
        Parameter(
            "rate", float, 0.3, "p, probability with which a modality is dropped", low=0, high=1, trials=(0.1, 0.9)
        ),
    ),
)
