"""One feature vector per sample from the last layer of a backbone, whatever side its padding is on."""

from __future__ import annotations

import torch
from torch import Tensor


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Take the last real token of each row, which of a decoder is the one that has seen all others.

    Args:
        hidden: (B, T, d).
        mask: (B, T), not 0 where a token is real; padding may be on either side.

    Returns:
        (B, d); of a row without a real token, its last position.

    Example:
        >>> hidden = torch.arange(6.0).reshape(2, 3, 1)
        >>> last_token(hidden, torch.tensor([[1, 1, 0], [0, 1, 1]]))[:, 0]
        tensor([1., 5.])
    """
    last = mask.shape[1] - 1 - mask.long().flip(1).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average the real tokens of each row.

    Args:
        hidden: (B, T, d).
        mask: (B, T), not 0 where a token is real.

    Returns:
        (B, d); of a row without a real token, 0.

    Example:
        >>> mean_pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[2.]])
    """
    weights = (mask != 0).to(hidden.dtype)[..., None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Take the first real token of each row.

    Args:
        hidden: (B, T, d).
        mask: (B, T), not 0 where a token is real.

    Returns:
        (B, d); of a row without a real token, its first position.

    Example:
        >>> first_token(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[0, 1]]))
        tensor([[3.]])
    """
    return hidden[torch.arange(len(hidden), device=hidden.device), (mask != 0).long().argmax(1)]


POOLS = {"cls": first_token, "mean": mean_pool, "last": last_token}
"""Ways of pooling by name: (B, T, d) and mask (B, T) -> (B, d)."""
