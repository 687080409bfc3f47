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
    return _ScaledStep(optimiser, scaler, losses)


class _ScaledStep:
    def __init__(self, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, losses: list[Tensor]) -> None:
        self._optimiser, self._scaler, self._losses = optimiser, scaler, losses

    def scale(self, loss: Tensor) -> Tensor:
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def __call__(self, loss: Tensor, adjust: Callable[[], None] | None = None) -> None:
        # Gradients become None, not 0: AdamW then leaves alone what this update does not concern.
        self._optimiser.zero_grad(set_to_none=True)
        with torch.autocast(loss.device.type, enabled=False):
            self.scale(loss).backward()  # type: ignore[no-untyped-call]
            if adjust is not None:
                # Before the scaler looks for infinities and NaN: they may come from here.
                adjust()
                _align_gradients(self._optimiser)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        torch.clear_autocast_cache()  # it holds the weights as they were before this update, which others may follow
        self._losses.append(loss.detach())


def _align_gradients(optimiser: torch.optim.Optimizer) -> None:
    """Give every gradient its parameter's memory format, as autograd does: a fused optimiser takes that for granted."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
