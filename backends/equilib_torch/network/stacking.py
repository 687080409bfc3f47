"""Stacked logits: every modality's part of a sum weighed by how well it does on validation.

A modality that overfits is overconfident, and harms every sum that it is part of. With the network frozen,
    l*(S) = τ [ Σ_{k∈S} u_k t_k + u_0 (l(S) − Σ_{k∈S} t_k) ]  for |S| ≥ 2,   l*({k}) = l({k})
where t_k is what modality k adds to the fused logits l(S), and the bracket behind u_0 is what the fusion adds to the
sum: the memory's part. A fusion that is no sum has no t_k, and τ u_0 is a temperature. u = 1 and τ = 1 change nothing.
Ours; the idea is stacked generalisation (Wolpert, 1992) with temperature scaling (Guo et al., ICML 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stack_logits(
    logits: Tensor, terms: Sequence[Tensor] | None, present: Tensor, weights: Tensor, temperature: Tensor
) -> Tensor:
    """Compute the stacked logits l*(S) from l(S).

    Args:
        logits: (..., B, n_classes), l(S) of the modalities present.
        terms: n tensors (B, n_classes), t_k; None for a fusion that is no sum.
        present: (..., B, n) bool.
        weights: (n + 1,) u_0, u_1, ..., u_n, positive.
        temperature: () τ, positive.

    Returns:
        (..., B, n_classes); those of a single modality, and of none, as they were.

    Example:
        >>> ones = torch.ones(1, 1)
        >>> both = torch.tensor([[True, True]])
        >>> stack_logits(5 * ones, [ones, 3 * ones], both, torch.tensor([1.0, 0.5, 1.0]), torch.tensor(2.0))
        tensor([[9.]])
    """
    stacked = weights[0] * logits
    if terms is not None:
        extra = (weights[1:] - weights[0]).to(logits.dtype)
        stacked = stacked + torch.einsum("...bn,nbc->...bc", present * extra, torch.stack(list(terms)).to(logits.dtype))
    return torch.where(present.sum(-1, keepdim=True) > 1, temperature * stacked, logits)
