"""What-if training: a copy of the network is trained for an epoch, looked at, and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Losses, LossFunction, unimodal_loss
from equilib_torch.network import MultimodalNetwork


def rehearse(
    network: MultimodalNetwork,
    loss: LossFunction | None,
    *,
    train: Iterable[Batch],
    val: Iterable[Batch],
    lr: float,
    weight_decay: float,
    augment: Callable[[Batch, int], Batch] = lambda batch, position: batch,
) -> Losses:
    """Train a copy of a network for one epoch, in full precision, and measure its losses; the network stays as it is.

    Args:
        network: to be copied.
        loss: what to train the copy on; None: it is not trained.
        train: batches to train on, and to measure training losses on.
        val: batches to measure validation losses on.
        lr: learning rate of a new AdamW; backbones that are trained keep the rate that they begin with.
        weight_decay: of the same.
        augment: changes the batches that are trained on, given their positions from 0; losses are of plain ones.
    """
    # A method asks for this in the middle of an update, under autocast, whose copies of the weights would not follow.
    with torch.autocast(network.log_prior.device.type, enabled=False):
        copy = deepcopy(network)
        if loss is not None:
            copy.train()
            optimiser = torch.optim.AdamW(copy.parameter_groups(lr), lr=lr, weight_decay=weight_decay, fused=True)
            for position, batch in enumerate(train):
                value = loss(copy, augment(batch, position))
                if value is not None:
                    optimiser.zero_grad(set_to_none=True)
                    value.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
        return Losses(_mean_losses(copy, train), _mean_losses(copy, val))


@torch.no_grad()
def _mean_losses(network: MultimodalNetwork, batches: Iterable[Batch]) -> Tensor:
    """Measure the mean cross-entropy of each head over the samples that have its modality and, last, of all fused."""
    network.eval()
    n = len(network.encoders)
    totals, counts = torch.zeros(n + 1, dtype=torch.float64), torch.zeros(n + 1, dtype=torch.float64)
    for batch in batches:
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        fused = cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
        pairs = zip(unimodal, batch.present.T, strict=True)
        means = torch.stack([*(unimodal_loss(logits, batch.labels, here) for logits, here in pairs), fused])
        sizes = torch.tensor([*batch.present.sum(0).tolist(), len(batch.labels)])
        totals += sizes * means.double().cpu()
        counts += sizes
    return totals / counts.clamp(min=1)
