"""AGM, adaptive gradient modulation (Li et al., ICCV 2023): L = CE(Σ_m φ_m), the gradient through φ_m scaled by κ_m.

φ_m is modality m's Shapley value in the game of fused logits, with F_∅ = 0: their sum is the fused prediction, and for
two modalities φ_1 = ½ (F − F_2 + F_1). With s_m the mean CE(φ_m) over the samples that have m,
    r_m = exp(mean of the others' s − s_m)    κ_m = exp(α min(r*_m − r_m, 10))
where r*_m is the mean of r_m over all batches so far, this one included. A modality that does better beside the others
than it used to, r_m > r*_m, is damped.

Ours: a batch in which nobody has m, or nothing else, says nothing of r_m and leaves κ_m = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib import coalitions, shapley_values
from equilib_torch.data.batches import Batch
from equilib_torch.errors import InputError
from equilib_torch.methods.base import Method, Plan, Setting, Step, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class AdaptiveModulation:
    """One update per batch; remembers the mean r_m of every modality."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        n = len(setting.network.encoders)
        self._alpha, self._means, self._counts = alpha, [0.0] * n, [0] * n

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update from the fused cross-entropy, its gradient scaled modality by modality."""
        table = _logits(network, network.encode(batch), batch.present).float()
        if not (table.abs() < 1e37).all():  # NaN as well; beyond, differences may overflow
            raise InputError(f"training diverged in epoch {plan.epoch}: predictions are not finite; try a smaller lr")
        with torch.autocast(table.device.type, enabled=False):  # Shapley values are differences: in full precision
            parts = shapley_values(table, axis=0)  # (n, B, n_classes)
            stopped = parts.detach()
            there = batch.present.any(0).tolist()
            losses = {m: unimodal_loss(stopped[m], batch, m).item() for m, anybody in enumerate(there) if anybody}
            scales = [self._scale(m, losses) for m in range(len(there))]
            # The difference is 0: the value stays, its gradient is scaled.
            fused = sum(
                (old + scale * (new - old) for scale, new, old in zip(scales, parts, stopped, strict=True)),
                torch.zeros_like(table[0]),
            )
            step(cross_entropy(fused, batch.labels))

    def _scale(self, m: int, losses: dict[int, float]) -> float:
        """κ_m, and r_m into its mean."""
        others = [loss for j, loss in losses.items() if j != m]
        if m not in losses or not others:
            return 1.0
        ratio = math.exp(min(fmean(others) - losses[m], 80))  # e⁸⁰ is the largest that float32 holds, with a margin
        self._counts[m] += 1
        self._means[m] += (ratio - self._means[m]) / self._counts[m]
        return math.exp(min(self._alpha * min(self._means[m] - ratio, 10), 80))


def _logits(network: MultimodalNetwork, features: Sequence[Tensor], present: Tensor) -> Tensor:
    """Fused logits of each coalition of the modalities a sample has, (2ⁿ, B, n_classes); 0 of none."""
    members = torch.from_numpy(coalitions(len(features))).to(present.device)[:, None]  # (2ⁿ, 1, n)
    nothing = ~(members & present).any(2, keepdim=True)  # (2ⁿ, B, 1)
    everything = (members | ~present).all(2, keepdim=True)
    # All that a sample has is fused as everywhere in training, where the memory collects and maps.
    fused = network.fuse(features, present)
    table = torch.where(everything, fused, network.every_coalition(features, present))
    return torch.where(nothing, 0.0, table)


METHOD = Method(
    "agm",
    AdaptiveModulation,
    fusion="concat",
    description="joint, gradients scaled by how each modality does beside the others",
    own=(Parameter("alpha", float, 1.0, "α of its gradient scale", low=0, trials=(1 / 3, 3.0)),),
)
