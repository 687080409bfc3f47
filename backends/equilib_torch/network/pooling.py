"""Pooling that remembers little for its gradient, and gives the same one each time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name all torch code uses


def max_pool(x: Tensor) -> Tensor:
    """Take the maximum of windows of 2 × 2, as `torch.nn.functional.max_pool2d(x, 2)`, with the same gradient.

    That one keeps its whole input until the gradient is there; this keeps the positions of the maxima only. The input,
    which behind a convolution is the largest array of a network, can go at once.

    Args:
        x: (B, C, H, W) in any memory format, H and W at least 2; an odd last row or column is left out.

    Returns:
        (B, C, H // 2, W // 2).

    Example:
        >>> max_pool(torch.arange(12.0).reshape(1, 1, 3, 4))
        tensor([[[[5., 7.]]]])
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.max_pool2d(x, 2)
    pooled: Tensor = _MaxPool.apply(x)[0]  # type: ignore[no-untyped-call]  # torch does not say
    return pooled


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.max_pool2d(x, 2, return_indices=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        (positions,) = ctx.saved_tensors
        last = gradient.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        # torch asks for the input, and reads no more of it than shape and layout.
        like = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout)
        spread: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, like, [2, 2], [2, 2], [0, 0], [1, 1], False, positions
        )
        return spread


def average_pool(x: Tensor, size: int) -> Tensor:
    """Take the mean of a grid of windows that cover the input, as `torch.nn.functional.adaptive_avg_pool2d`.

    The gradient of that one differs from run to run on CUDA, where windows add to it in any order; there, products with
    two matrices do the same.

    Args:
        x: (B, C, H, W) in any memory format.
        size: rows and columns of the grid.

    Returns:
        (B, C, size, size).

    Example:
        >>> average_pool(torch.arange(8.0).reshape(1, 1, 2, 4), 2)
        tensor([[[[0.5000, 2.5000],
                  [4.5000, 6.5000]]]])
    """
    return F.adaptive_avg_pool2d(x, size) if x.device.type == "cpu" else _average_by_products(x, size)


def _average_by_products(x: Tensor, size: int) -> Tensor:
    rows, columns = (_windows(length, size, x) for length in x.shape[2:])
    return rows @ x @ columns.T


def _windows(length: int, size: int, like: Tensor) -> Tensor:
    """Weigh the places of an axis for the mean of every window, (size, length): from ⌊i L/s⌋ up to ⌈(i+1) L/s⌉."""
    i, place = (torch.arange(n, device=like.device) for n in (size, length))
    first, end = i * length // size, ((i + 1) * length + size - 1) // size
    inside = (place >= first[:, None]) & (place < end[:, None])
    return (inside / (end - first)[:, None]).to(like.dtype)
