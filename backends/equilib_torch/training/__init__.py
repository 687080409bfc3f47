"""How a run is trained: options → plan → updates in its order → measurement on validation → next plan."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equilib_torch.training.loop import Run, finish, fit, measure, train
    from equilib_torch.training.options import TrainOptions
    from equilib_torch.training.state import State, check

__all__ = ["Run", "State", "TrainOptions", "check", "finish", "fit", "measure", "train"]

_HOMES = {"State": "state", "TrainOptions": "options", "check": "state"}


def __getattr__(name: str) -> Any:  # imported when first used: options need nothing of the loop
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'loop')}"), name)
