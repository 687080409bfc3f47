"""More against fewer modalities, a loss that any method may add (SimMLM, ICCV 2025)."""

from __future__ import annotations

from torch import Tensor


def more_vs_fewer_loss(losses_more: Tensor, losses_fewer: Tensor) -> Tensor:
    """Compute the mean of max(0, L(S) − L(S′)): more modalities must not do worse than fewer of them (ICCV 2025).

    Ours: it compares loss by loss, not means over a batch, so that a sample's gain does not make up for another's
    loss. The gradient flows into both; detach the second, or it also pays to predict worse from fewer modalities.

    Args:
        losses_more: any shape but empty, L(S), such as the cross-entropy of each sample.
        losses_fewer: L(S′) for S′ ⊂ S, of a shape that broadcasts with the former.

    Returns:
        Scalar, at least 0.

    Source:
        SimMLM (ICCV 2025), its ranking of more against fewer modalities.

    Example:
        >>> import torch
        >>> more_vs_fewer_loss(torch.tensor([0.5, 1.0]), torch.tensor([0.9, 0.2]))
        tensor(0.4000)
    """
    return (losses_more - losses_fewer).clamp(min=0).mean()
