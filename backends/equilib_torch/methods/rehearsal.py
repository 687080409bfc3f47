"""What-if training: a copy of the network is trained for an epoch, looked at, and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Losses, Plan, Update, unimodal_loss
from equilib_torch.network import MultimodalNetwork


def rehearse(
    network: MultimodalNetwork,
    update: Update | None,
    *,
    train: Iterable[Batch],
    val: Iterable[Batch],
    lr: float,
    weight_decay: float,
) -> Losses:
    """Train a copy of a network for one epoch, in full precision, and measure its losses; the network stays as it is.

    Args:
        network: to be copied.
        update: how to train the copy; None: not at all.
        train: batches to train on, and to measure training losses on.
        val: batches to measure validation losses on.
        lr: learning rate of a new AdamW.
        weight_decay: of the same.
    """
    # A method asks for this in the middle of an update, under autocast, whose copies of the weights would not follow.
    with torch.autocast(network.log_prior.device.type, enabled=False):
        copy = deepcopy(network)
        if update is not None:
            _train(copy, update, train, lr=lr, weight_decay=weight_decay)
        return Losses(_mean_losses(copy, train), _mean_losses(copy, val))


def _train(
    network: MultimodalNetwork, update: Update, batches: Iterable[Batch], *, lr: float, weight_decay: float
) -> None:
    """One epoch with a new optimiser."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay, fused=True)

    def step(loss: torch.Tensor, adjust: Callable[[], None] | None = None) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if adjust is not None:
            adjust()
        optimiser.step()

    n = len(network.encoders)
    plan = Plan(tuple(range(n)), (1,) * n, (1.0,) * n)
    network.train()
    for batch in batches:
        update(network, batch, plan, step)


@torch.inference_mode()
def _mean_losses(network: MultimodalNetwork, batches: Iterable[Batch]) -> npt.NDArray[np.float64]:
    """Mean cross-entropy of each head over the samples that have its modality and, last, of the fused prediction."""
    network.eval()
    n = len(network.encoders)
    totals, counts = np.zeros(n + 1), np.zeros(n + 1)
    for batch in batches:
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        sizes = np.array([*batch.present.sum(0).tolist(), len(batch.labels)])
        fused = cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
        means = [unimodal_loss(logits, batch, k).item() for k, logits in enumerate(unimodal)]
        totals += sizes * np.array([*means, fused.item()])
        counts += sizes
    mean: npt.NDArray[np.float64] = totals / np.maximum(counts, 1)
    return mean
