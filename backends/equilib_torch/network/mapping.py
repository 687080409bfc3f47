"""Cross-modal mapping: bring the modalities' features into one space, and their samples into correspondence.

Source: arXiv 2506.00030 names both levels; the thresholded correlation is known from a summary of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def sample_correlation(previous: Tensor, current: Tensor, threshold: float) -> Tensor:
    """Pearson correlation of every sample of one modality with every sample of another, small entries set to 0.

    Args:
        previous: (B, d) mapped features of the weaker modality i.
        current: (B, d) mapped features of the modality j.
        threshold: entries below it become 0, in [-1, 1].

    Returns:
        C^(ij), (B, B) in [-1, 1]; row a belongs to sample a of `previous`.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
        >>> sample_correlation(x, x, threshold=0.6)
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000]])
    """

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x - x.mean(1, keepdim=True), dim=1)

    correlation = unit(previous) @ unit(current).T
    return torch.where(correlation < threshold, 0.0, correlation)


def align_samples(previous: Tensor, current: Tensor, present: Tensor, threshold: float) -> Tensor:
    """Sample-level mapping of `current` against the previous, weaker modality: ẑ_j = C^T z_j, (B, d).

    The weights of each row are scaled to sum to 1, so that ẑ_j keeps the scale of z_j whatever the batch size (ours). A
    row that correlates with nothing, and a sample of which one of the two modalities is absent, keeps its own z_j.

    Args:
        previous: (B, d) mapped features of the modality before it in the schedule's order.
        current: (B, d) mapped features of this modality.
        present: (B,) bool, samples that have both.
        threshold: see `sample_correlation`.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
        >>> both = torch.tensor([True, True])
        >>> torch.allclose(align_samples(x, x, both, threshold=0.6), x)
        True
    """
    weights = sample_correlation(previous, current, threshold).clamp(min=0) * (present[:, None] & present)
    total = weights.sum(0)[:, None]  # (B, 1)
    aligned = weights.T @ current / total.clamp(min=1e-6)
    return torch.where(total > 1e-6, aligned, current)
