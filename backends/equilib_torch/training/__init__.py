"""How a run is trained: options → plan → updates in its order → measurement on validation → next plan."""

from __future__ import annotations

from equilib_torch.training.loop import Run, fit
from equilib_torch.training.options import TrainOptions

__all__ = ["Run", "TrainOptions", "fit"]
