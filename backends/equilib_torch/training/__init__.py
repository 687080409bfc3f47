"""How a run is trained: options → plan → updates in its order → measurement on validation → next plan."""

from __future__ import annotations

from equilib_torch.training.loop import Run, finish, fit, measure, train
from equilib_torch.training.options import TrainOptions
from equilib_torch.training.state import State, check

__all__ = ["Run", "State", "TrainOptions", "check", "finish", "fit", "measure", "train"]
