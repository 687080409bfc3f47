"""Fusion: one prediction from the features and unimodal logits of the modalities that are present.

Every fusion can be trained by every method. All take the same arguments,
    features  n tensors (B, d_k)    unimodal  n tensors (B, n_classes)    present  (..., B, n) bool
return logits (..., B, n_classes), and ignore what is absent. Dimensions before B are several coalitions of the same
samples, whose features are read once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from equilib import coalitions
from equilib_torch.network.memory import GatedMemory


class Fusion(nn.Module, ABC):
    """What all fusions share."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes)."""

    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """Compute what each modality adds to the logits, n tensors (B, n_classes); None by default: it is no sum."""
        return None

    def follow(self, order: Sequence[int]) -> None:
        """Take modalities in this order from now on; by default, a fusion has none."""

    def start_epoch(self, *, inherit: bool) -> None:
        """Begin an epoch, from what the one before left if `inherit`; by default, it leaves nothing."""

    def every_coalition(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of each of the 2ⁿ coalitions, (2ⁿ, B, n_classes), in the order of every table."""
        logits: Tensor = self(features, unimodal, present & _table(len(features), present))
        return logits


def _table(n: int, present: Tensor) -> Tensor:
    """List all coalitions of n modalities, (2ⁿ, 1, n) bool."""
    return torch.from_numpy(coalitions(n)).to(present.device)[:, None]


def _where_present(x: Tensor, present: Tensor) -> Tensor:
    """Replace what absent modalities say by 0: (n, B, d) to (n, ..., B, d)."""
    here = present.movedim(-1, 0)[..., None]  # (n, ..., B, 1)
    return torch.where(here, x.reshape(len(x), *[1] * (present.ndim - 2), *x.shape[1:]), 0.0)


class AdditiveFusion(Fusion):
    """A fusion that adds one term per modality: l = Σ_m t_m."""

    @abstractmethod
    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute what each modality adds: n tensors (B, n_classes)."""

    def forward(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes)."""
        return _where_present(torch.stack(list(self.terms(features, unimodal))), present).sum(0)

    def every_coalition(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of each coalition, (2ⁿ, B, n_classes), as one product with the table of coalitions."""
        terms = _where_present(torch.stack(list(self.terms(features, unimodal))), present)
        table = torch.from_numpy(coalitions(len(terms))).to(terms)
        logits: Tensor = torch.tensordot(table, terms, 1)
        return logits


class SumFusion(AdditiveFusion):
    """Sum of the unimodal logits: l = Σ_m l_m. Its softmax is the normalised product of the unimodal predictions.

    The class that maximises it maximises the mean log-probability, since the normalisers do not depend on the class.
    """

    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor]:
        """Take the unimodal logits."""
        return unimodal


class ConfidenceFusion(Fusion):
    """Mean of the unimodal logits, weighed by confidence: l = Σ_m w_m l_m, w_m ∝ exp(−H_m) (MLA, CVPR 2024).

    H_m is the entropy of modality m's own prediction. For every sample, the weights of the modalities present sum to 1;
    the article's exp(max_j H_j − H_m) gives the same, as its maximum cancels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sum = SumFusion()

    def forward(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes); 0 where none is."""
        sums: Tensor = self.sum(features, _weighed(unimodal), present)
        return _divided(sums)

    def every_coalition(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of each coalition, (2ⁿ, B, n_classes), each weight computed once."""
        sums: Tensor = self.sum.every_coalition(features, _weighed(unimodal), present)
        return _divided(sums)


def _weighed(unimodal: Sequence[Tensor]) -> list[Tensor]:
    """Compute exp(−H_m) l_m and exp(−H_m), which add up over a coalition: n tensors (B, n_classes + 1)."""
    widened = []
    for logits in unimodal:
        log_probabilities = logits.float().log_softmax(-1)
        weight = (log_probabilities.exp() * log_probabilities).sum(-1, keepdim=True).exp()  # in [1 / n_classes, 1]
        widened.append(torch.cat([weight * logits, weight], -1))
    return widened


def _divided(sums: Tensor) -> Tensor:
    return sums[..., :-1] / torch.where(sums[..., -1:] > 0, sums[..., -1:], 1.0)


class ConcatFusion(AdditiveFusion):
    """Linear head on the concatenated features, l = Σ_m (z_m W_m + b / M), in blocks: what is absent drops out."""

    def __init__(self, widths: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, n_classes) for width in widths)

    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor]:
        """Apply one block of the head to each modality."""
        return [block(z) for block, z in zip(self.blocks, features, strict=True)]


class MLPFusion(Fusion):
    """Two-layer perceptron on the concatenated features; absent ones are 0."""

    def __init__(self, widths: Sequence[int], n_classes: int, *, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(sum(widths), width)
        self.out = nn.Linear(width, n_classes)

    def forward(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes)."""
        here = present.unbind(-1)
        z = torch.cat([torch.where(h[..., None], z, 0.0) for z, h in zip(features, here, strict=True)], -1)
        logits: Tensor = self.out(F.gelu(self.hidden(z)))
        return logits


class MemoryFusion(Fusion):
    """Sum of the unimodal logits plus what the gated memory adds to them: l = Σ_m l_m + MLP(h) (ours).

    A modality that is alone has nobody to be combined with: nothing is added, its own head answers. In a quick trial, a
    memory head without the sum was 3 points worse than the sum where modalities are independent given the class.
    """

    def __init__(self, memory: GatedMemory, n_classes: int, width: int) -> None:
        super().__init__()
        self.memory = memory
        self.sum = SumFusion()
        self.hidden = nn.Linear(width, 2 * width)
        self.head = nn.Linear(2 * width, n_classes)

    def follow(self, order: Sequence[int]) -> None:
        """Write modalities into the memory in this order from now on."""
        self.memory.follow(order)

    def terms(self, features: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Sequence[Tensor]:
        """Take the unimodal logits; the memory's part comes on top."""
        return unimodal

    def start_epoch(self, *, inherit: bool) -> None:
        """Begin an epoch, from the mean memory of the one before if `inherit`."""
        self.memory.start_epoch(inherit=inherit)

    def forward(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes)."""
        joint = self.joint(self.memory(features, present))
        sums: Tensor = self.sum(features, unimodal, present)
        return sums + torch.where(present.sum(-1, keepdim=True) > 1, joint, 0.0)

    def every_coalition(self, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of each coalition, (2ⁿ, B, n_classes), each memory state computed once."""
        joint = self.memory.every_coalition(features, present, self.joint)
        sums: Tensor = self.sum.every_coalition(features, unimodal, present)
        several = (_table(len(features), present) & present).sum(-1, keepdim=True) > 1
        return sums + torch.where(several, joint, 0.0)

    def joint(self, h: Tensor) -> Tensor:
        """Compute what a memory state (..., d) adds to the sum, (..., n_classes)."""
        logits: Tensor = self.head(F.gelu(self.hidden(h)))
        return logits
