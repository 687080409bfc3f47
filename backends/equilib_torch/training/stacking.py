"""Fitting the weights of stacked logits (`network.stacking`) on validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equilib import coalitions
from equilib_torch.data.batches import Batch
from equilib_torch.network import MultimodalNetwork
from equilib_torch.network.stacking import stack_logits

RIDGE, _TEMPERATURE_RIDGE = 3.0, 0.1
"""Weights of Σ (log u)² and (log τ)² beside the summed losses of the samples: little beside thousands, much beside
thirty. For u, 1, 3 and 10 were tried with a few seeds, which established no order among them. For τ it is small, as τ
decides no prediction."""

_MAX_ELEMENTS = 2**23  # of the table of logits that the fit holds: 64 MiB in float64


class Stacking(NamedTuple):
    """Weights of stacked logits.

    Attributes:
        weights: (n + 1,) float64, u_0 of what the fusion adds to the sum, then u_k of every modality.
        temperature: () float64, τ.
    """

    weights: Tensor
    temperature: Tensor


def fit_stacking(
    logits: Tensor,
    terms: Sequence[Tensor] | None,
    present: Tensor,
    labels: Tensor,
    *,
    ridge: float = RIDGE,
    sample_weights: Tensor | None = None,
) -> Stacking:
    """Fit u and τ to the logits of every coalition, the network frozen.

    Minimises over log u and log τ
        Σ_i w_i [½ NLL_i(l*(N)) + ½ mean_{2 ≤ |S| < n} NLL_i(l*(S))] + ridge Σ_k (log u_k)² + 0.1 (log τ)²
    and, where no coalition lies between two modalities and all, NLL(l*(N)) alone. The ridge pulls towards the network
    as it is, the more the fewer samples there are; the temperature, which decides no prediction, is nearly free.
    Where the logits would take more than 64 MiB, evenly spaced samples stand for all.

    Args:
        logits: (2ⁿ, N, n_classes), l(S) of every coalition in the order of every table.
        terms: n tensors (N, n_classes), t_k; None for a fusion that is no sum.
        present: (N, n) bool, the modalities that each sample has.
        labels: (N,) int64.
        ridge: positive.
        sample_weights: (N,) w_i, at least 0; default: 1 each.

    Returns:
        The fitted u and τ, in [e⁻¹⁰, e¹⁰]; 1 where there is nothing to fit: one modality, or no samples.

    Example:
        >>> truth = torch.tensor([0, 1] * 100)
        >>> right = 4.0 * torch.eye(2)[truth]  # always
        >>> overconfident = 4.0 * torch.eye(2)[torch.tensor([0, 0, 1, 1] * 50)]  # right half of the time
        >>> table = torch.stack([torch.zeros(200, 2), right, overconfident, right + overconfident])
        >>> weights, _ = fit_stacking(table, [right, overconfident], torch.ones(200, 2, dtype=torch.bool), truth)
        >>> bool(weights[1] > 1 > weights[2])
        True
    """
    n = present.shape[1]
    table = torch.from_numpy(coalitions(n)).to(present.device)
    size = table.sum(1)
    chosen = size >= 2
    start = torch.zeros(n + 2, dtype=torch.float64, device=logits.device)
    if not chosen.any() or not len(labels):
        return Stacking(start[1:].exp(), start[0].exp())
    # Losses of all modalities together count a half, those of all smaller coalitions together the other half.
    n_smaller = int(chosen.sum()) - 1
    share = torch.full((n_smaller + 1,), 0.5 / max(n_smaller, 1), dtype=torch.float64, device=logits.device)
    share[-1] = 0.5 if n_smaller else 1.0
    step = -(-int(chosen.sum()) * logits.shape[1] * logits.shape[2] // _MAX_ELEMENTS)
    rows = slice(None, None, max(step, 1))
    fused, seen = logits[chosen][:, rows].double(), (table[chosen][:, None] & present)[:, rows]
    added = None if terms is None else [t[rows].double() for t in terms]
    target = labels[rows].expand(len(fused), -1)[..., None]
    weight = torch.ones_like(target[0, :, 0], dtype=torch.float64)
    weight = weight if sample_weights is None else sample_weights[rows].double()

    penalty = torch.full_like(start, ridge)
    penalty[0] = _TEMPERATURE_RIDGE
    parameters = start.requires_grad_()
    optimiser = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        stacked = stack_logits(fused, added, seen, parameters[1:].exp(), parameters[0].exp())
        losses = -stacked.log_softmax(-1).gather(-1, target)[..., 0]  # (coalitions, N)
        total: Tensor = share @ losses @ weight * max(step, 1) + penalty @ parameters.square()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
    best = parameters.detach().clamp(-10, 10).exp()
    return Stacking(best[1:], best[0])


@torch.no_grad()
def stack(network: MultimodalNetwork, batches: Iterable[Batch], *, class_weights: Tensor | None = None) -> Stacking:
    """Fit the weights on these batches and set them in the network, whose every prediction is stacked from then on.

    Args:
        network: put into eval mode; stacked before or not.
        batches: samples that it was not trained on.
        class_weights: (n_classes,) weight of every class's samples; default: 1 each.

    Returns:
        The weights that were set.
    """
    network.eval()
    network.set_stacking(torch.ones_like(network.stacking_weights), torch.ones_like(network.stacking_temperature))
    logits, terms, present, labels = [], [], [], []
    for batch in batches:
        features = network.encode(batch)
        logits.append(network.every_coalition(features, batch.present).float())
        terms.append(network.fusion.terms(features, network.unimodal(features)))
        present.append(batch.present)
        labels.append(batch.labels)
    truth = torch.cat(labels)
    fitted = fit_stacking(
        torch.cat(logits, 1),
        None if terms[0] is None else [torch.cat(each).float() for each in zip(*terms, strict=True)],
        torch.cat(present),
        truth,
        sample_weights=None if class_weights is None else class_weights.to(truth.device)[truth],
    )
    network.set_stacking(*fitted)
    return fitted
