"""What keeps the gradients of fp16 in range keeps infinities from the weights, whatever a method makes of gradients."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from methods_reference import begin, make_case, plan_of

from equilib_torch.methods import METHODS
from equilib_torch.training.step import make_step


@pytest.fixture
def updated(make_dataset, make_network):
    """The weights before and after one batch of a method, in float32 with a scaler as fp16 has it."""

    def run(method, scaler, *, overflows=False):
        network, batches, _ = make_case(make_dataset, make_network, METHODS[method].fusion)
        update = begin(method, network)
        before = deepcopy(network.state_dict())
        if overflows:
            for encoder in network.encoders:
                encoder.register_forward_hook(_overflow_backward)
        # Unlike Adam, plain descent shows a gradient that is too large by a factor.
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
        torch.manual_seed(0)
        update(network, batches[2], plan_of(3), make_step(optimiser, scaler, []))
        return before, network.state_dict()

    return run


def _overflow_backward(module, inputs, output):
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient * math.inf)


def new_scaler(**options):
    return torch.amp.GradScaler("cpu", **options)


@pytest.mark.parametrize("method", list(METHODS))
def test_the_scale_changes_no_update(updated, method):
    _, expected = updated(method, new_scaler(enabled=False))
    _, found = updated(method, new_scaler(init_scale=2.0**10))
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", list(METHODS))
def test_an_overflow_in_an_encoder_moves_nothing(updated, method):
    scaler = new_scaler(init_scale=2.0**10)
    before, after = updated(method, scaler, overflows=True)
    assert all(weights.isfinite().all() for weights in after.values())
    assert all(torch.equal(weights, before[name]) for name, weights in after.items() if name.startswith("encoders."))
    assert scaler.get_scale() < 2.0**10


def test_an_overflow_that_a_method_makes_itself_moves_nothing():
    weight = torch.nn.Parameter(torch.ones(2))
    scaler, losses = new_scaler(init_scale=4.0), []
    step = make_step(torch.optim.AdamW([weight], fused=True), scaler, losses)

    def adjust():
        weight.grad = weight.grad * torch.tensor([1.0, math.nan])

    step(weight.sum(), adjust)
    assert (weight.tolist(), scaler.get_scale(), losses[0].item()) == ([1, 1], 2, 2)
    step(weight.sum(), lambda: None)
    assert (weight < 1).all()
