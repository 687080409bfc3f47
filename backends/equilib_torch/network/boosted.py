"""Fusion by classifiers that grow: a modality's logits are a sum over its learners, all of one shared output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from equilib_torch.network.fusion import AdditiveFusion

MAX_LEARNERS = 10


class BoostedFusion(AdditiveFusion):
    """Sum of growing classifiers: l = Σ_m F_m, F_m = Σ_t f_mt, f_mt = W relu(A_mt z_m) over T_m learners (AUG).

    W is one for all modalities and learners. Every modality has one learner until a method makes it grow.

    Source: AUG, "Rethinking Multimodal Learning from the Perspective of Mitigating Classification Ability
    Disproportion" (NeurIPS 2025). Ours: biases, and equal weights of the modalities, which stacking may change.

    Args:
        widths: features of each modality.
        n_classes: number of classes.
        width: hidden features of a learner.
    """

    n_learners: Tensor  # (n,) int64: T_m

    def __init__(self, widths: Sequence[int], n_classes: int, *, width: int) -> None:
        super().__init__()
        # All that may be needed: a model is built from its configuration, `n_learners` is loaded with the weights.
        self.hidden = nn.ModuleList(nn.ModuleList(nn.Linear(d, width) for _ in range(MAX_LEARNERS)) for d in widths)
        self.out = nn.Linear(width, n_classes)
        self.register_buffer("n_learners", torch.ones(len(widths), dtype=torch.int64))

    def learners(self, z: Tensor, m: int) -> Tensor:
        """Compute f_mt of features (B, d_m) for every learner t of modality m, (B, T_m, n_classes)."""
        hidden = list(cast(nn.ModuleList, self.hidden[m]))[: int(self.n_learners[m])]
        outputs: Tensor = self.out(F.relu(torch.stack([layer(z) for layer in hidden], 1)))
        return outputs

    def grow(self, m: int) -> None:
        """Give modality m one more learner, up to `MAX_LEARNERS`."""
        self.n_learners[m] = min(int(self.n_learners[m]) + 1, MAX_LEARNERS)

    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute F_m of every modality."""
        return [self.learners(z, m).sum(1) for m, z in enumerate(features)]
