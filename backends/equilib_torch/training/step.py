"""One update of the weights, in any precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equilib_torch.methods import Step


def make_step(optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: list[Tensor]) -> Step:
    """Make the step that a run gives to its method.

    Args:
        optimiser: moves the weights that received a gradient, and no others.
        scaler: keeps the gradients of fp16 in range; a disabled one for other precisions.
        losses: where every step appends its loss.
    """

    def step(loss: Tensor, adjust: Callable[[], None] | None = None) -> None:
        # Gradients become None, not 0: AdamW then leaves alone what this update does not concern.
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(loss.device.type, enabled=False):
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if adjust is not None:
                scaler.unscale_(optimiser)
                adjust()
                _align_gradients(optimiser)
        scaler.step(optimiser)
        scaler.update()
        torch.clear_autocast_cache()  # it holds the weights as they were before this update, which others may follow
        losses.append(loss.detach())

    return step


def _align_gradients(optimiser: torch.optim.Optimizer) -> None:
    """Give every gradient its parameter's memory format, as autograd does: a fused optimiser takes that for granted."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
