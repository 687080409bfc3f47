"""Encoders of one's own: any module that turns a batch of one modality into features."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from equilib_torch.data import Dataset, Modality
from equilib_torch.data.batches import column
from equilib_torch.errors import InputError

_PROBED = 2
"""Samples that a module is tried on before anything is trained."""


class OwnEncoder(nn.Module):
    """A copy of somebody's module, called as the other encoders are.

    The module gets the inputs of samples that have the modality as they are: (B, ...) float32, not standardised, 0
    behind a sequence's length; and `lengths`, (B,) int64 (None of what is no sequence), if its forward has an argument
    of that name. It returns features, (B, d). A module with batch norms sees a sample that is alone in its batch as in
    eval mode: there is nothing to normalise over.

    Args:
        module: copied, so that the caller's stays as it is.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = deepcopy(module)
        self.takes_lengths = "lengths" in inspect.signature(module.forward).parameters
        self.normalises = any(isinstance(part, _BatchNorm) for part in self.module.modules())

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        x = x.float()
        alone = self.training and self.normalises and len(x) == 1
        if alone:
            self.module.eval()
        features: Tensor = self.module(x, lengths=lengths) if self.takes_lengths else self.module(x)
        if alone:
            self.module.train()
        return features


def check_own_encoders(encoders: Mapping[str, nn.Module], dataset: Dataset) -> dict[str, int]:
    """Try every module on a few training samples of its modality.

    Args:
        encoders: modules by modality.
        dataset: what they are to read.

    Returns:
        d, the number of features each one makes, by modality.

    Raises:
        InputError: an unknown modality, something that is no module, or features that are not finite numbers (B, d).
    """
    modalities = {modality.name: modality for modality in dataset.modalities}
    for name, module in encoders.items():
        if name not in modalities:
            raise InputError(
                f"encoders must be given by modality, {dataset.name} has {', '.join(modalities)}, got {name!r}"
            )
        if not isinstance(module, nn.Module):
            raise InputError(
                f"encoders: {name} must have a torch.nn.Module, got {type(module).__name__}; pass an instance"
            )
        if modalities[name].kind == "text":
            raise InputError(
                f"encoders: {name} is text, which a module does not read; give token numbers as a sequence"
            )
    rows = dataset.splits["train"]
    return {name: _count_features(module, modalities[name], rows) for name, module in encoders.items()}


def _count_features(module: nn.Module, modality: Modality, rows: np.ndarray) -> int:
    rows = rows[modality.present[rows]][:_PROBED]
    batch = column(modality, rows)
    owner, shape = f"encoders: the module of {modality.name}", tuple(batch.inputs.shape)
    rule = f"must turn a batch {shape} into finite features ({len(rows)}, d)"
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise InputError(f"{owner} must know its shapes, got lazy parameters; call it on a batch first")
    try:
        encoder = OwnEncoder(module).cpu().eval()  # in eval mode, a few samples leave no trace in a batch norm
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            features = encoder(batch.inputs, batch.lengths)
    except Exception as error:  # whatever a module of somebody's own may raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{owner} {rule}, got {type(error).__name__}: {reason}") from error
    if not isinstance(features, Tensor):
        raise InputError(f"{owner} {rule}, got {type(features).__name__}")
    if features.ndim != 2 or len(features) != len(rows) or features.shape[1] == 0:
        raise InputError(f"{owner} {rule}, got shape {tuple(features.shape)}; flatten or pool them")
    if not features.is_floating_point() or not features.isfinite().all():
        got = f"{features.dtype}" if not features.is_floating_point() else "NaN or infinity"
        raise InputError(
            f"{owner} {rule}, got {got}; are the inputs, which are not standardised, in a range it expects?"
        )
    return features.shape[1]
