"""PMR, prototypical modality rebalance (Fan et al., CVPR 2023): L = CE(l) + α Σ_m β_m CE(−‖z_m − c_m‖).

c_m^y, the prototype of class y, is the moving mean of the features z_m of its samples: the first batch's mean, later
0.9 c_m^y + 0.1 of the batch's. With s_m the mean of softmax_y(−‖z_m − c_m^y‖) at the true class,
    β_m = clip(max_j s_j / s_m − 1, 0, 1)
is 0 for the modality whose prototypes tell the classes apart best: only the weaker ones are drawn to theirs. No
gradient flows into prototypes or β. Only samples that have m enter c_m, s_m and its cross-entropy, and only classes
seen so far have a prototype.

Ours: prototypes follow every batch, which enters them before it is compared with them (the article's follow epochs); β
of more than two modalities, which for two is the article's. Its penalty on the strong modality's confidence in early
epochs (PER) is left out.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter

MOMENTUM = 0.9
"""What a prototype keeps of itself when a batch has samples of its class."""


class PrototypicalRebalance:
    """One update per batch; remembers a prototype per modality and class, and which classes were seen."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha
        alike = [cast(nn.Linear, head).weight for head in setting.network.heads]  # each (n_classes, d_m)
        self._prototypes = [torch.zeros_like(weight) for weight in alike]
        self._seen = [torch.zeros(len(weight), dtype=torch.bool, device=weight.device) for weight in alike]

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update from the fused cross-entropy and, for the weaker modalities, that of their prototypes."""
        features = network.encode(batch)
        loss = cross_entropy(network.fuse(features, batch.present), batch.labels)
        losses, strengths = [], []
        for m, here in enumerate(batch.present.T):
            if here.any():
                with torch.autocast(here.device.type, enabled=False):  # prototypes move by less than bf16 can say
                    own, strength = self._compare(m, features[m][here].float(), batch.labels[here])
                losses.append(own)
                strengths.append(strength)
        for own, strength in zip(losses, strengths, strict=True):
            beta = (torch.stack(strengths).amax() / strength.clamp(min=1e-30) - 1).clamp(0, 1)
            loss = loss + self._alpha * beta * own
        step(loss)

    def _compare(self, m: int, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """CE(−‖z_m − c_m‖) and s_m of samples that have m, (B, d_m), after they entered the prototypes."""
        members = one_hot(labels, len(self._seen[m])).to(z)  # (B, n_classes)
        counts = members.sum(0)[:, None]
        means = members.T @ z.detach() / counts.clamp(min=1)
        old, seen = self._prototypes[m], self._seen[m]
        moved = torch.where(seen[:, None], MOMENTUM * old + (1 - MOMENTUM) * means, means)
        self._prototypes[m] = torch.where(counts > 0, moved, old)
        self._seen[m] = seen | (counts[:, 0] > 0)

        distances = torch.linalg.vector_norm(z[:, None] - self._prototypes[m], dim=2)  # its gradient is 0 at 0
        logits = (-distances).masked_fill(~self._seen[m], -torch.inf)
        right = logits.detach().softmax(1).gather(1, labels[:, None])
        return cross_entropy(logits, labels), right.mean()


METHOD = Method(
    "pmr",
    PrototypicalRebalance,
    fusion="concat",
    description="joint, weak modalities' features drawn to prototypes of their classes",
    own=(Parameter("alpha", float, 1.0, "α, weight of the prototypes' cross-entropy", low=0, trials=(1 / 3, 3.0)),),
)
