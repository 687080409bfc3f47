"""Pooling that remembers little, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from equilib_torch.network.pooling import _average_by_products, average_pool, max_pool


@pytest.mark.parametrize(
    ("shape", "layout", "dtype"),
    [
        ((2, 3, 8, 8), torch.channels_last, torch.float32),
        ((1, 1, 7, 9), torch.contiguous_format, torch.float64),
        ((3, 2, 2, 3), torch.channels_last, torch.bfloat16),
    ],
)
def test_values_and_gradients_are_those_of_torch_where_there_are_ties_too(shape, layout, dtype):
    torch.manual_seed(0)
    x = torch.randint(-2, 3, shape).to(dtype).contiguous(memory_format=layout)
    results = []
    for pool in (max_pool, lambda x: F.max_pool2d(x, 2)):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        pooled = pool(leaf * 1)
        (pooled * torch.arange(pooled.numel(), dtype=dtype).reshape(pooled.shape)).sum().backward()
        results.append((pooled.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_input_is_not_kept_for_the_gradient():
    kept = []

    def note(tensor):
        kept.append(tensor.nbytes)
        return tensor

    x = torch.rand(1, 4, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        max_pool(x)
    assert sum(kept) == 8 * 4 * 8 * 8  # positions of 8 bytes, no values


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 9), (2, 1, 4, 5), (1, 3, 2, 1), (2, 2, 31, 6)])
def test_means_and_gradients_on_other_devices_are_those_of_torch(shape):
    results = []
    for pool in (_average_by_products, F.adaptive_avg_pool2d):
        leaf = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        pooled = pool(leaf, 4)
        (pooled * torch.arange(pooled.numel()).reshape(pooled.shape)).sum().backward()
        results.append((pooled.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])


def test_other_devices_do_without_the_operation_that_does_not_repeat_itself(monkeypatch):
    """Its gradient on CUDA adds up in any order."""
    x = torch.rand(2, 3, 9, 8)
    expected = F.adaptive_avg_pool2d(x, 4)
    assert torch.equal(average_pool(x, 4), expected)
    monkeypatch.setattr(F, "adaptive_avg_pool2d", None)
    assert average_pool(x.to("meta"), 4).shape == expected.shape
