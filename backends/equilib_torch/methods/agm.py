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
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib import coalitions, shapley_values
from equilib_torch.data.batches import Batch
from equilib_torch.errors import InputError
from equilib_torch.methods.base import Method, Plan, Setting, Step, Update, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def agm_ratios(losses: Tensor) -> Tensor:
    """Compute r, how each modality does beside the others: exp(mean of the others' s − s_m) (ICCV 2023).

    Args:
        losses: (n,), s, the mean cross-entropy of each modality's part of the prediction; NaN for what nobody has.

    Returns:
        (n,) float64 on the CPU, above 0; NaN where there is nothing to compare (ours).

    Example:
        >>> agm_ratios(torch.tensor([0.5, 0.5, torch.nan]))
        tensor([1., 1., nan], dtype=torch.float64)
    """
    known = {m: loss for m, loss in enumerate(losses.tolist()) if not math.isnan(loss)}
    ratios = [math.nan] * len(losses)
    for m, loss in known.items():
        others = [s for j, s in known.items() if j != m]
        if others:
            ratios[m] = math.exp(min(fmean(others) - loss, 80))  # e⁸⁰ is the largest that float32 holds, with a margin
    return torch.tensor(ratios, dtype=torch.float64)


def update_means(means: Tensor, counts: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Take new values into running means.

    Args:
        means: (n,) float64, so far.
        counts: (n,) int64, how many values are in each.
        values: (n,) float64; NaN is left out.

    Returns:
        Means and counts with the values.

    Example:
        >>> update_means(torch.tensor([1.0, 1.0]), torch.tensor([1, 1]), torch.tensor([2.0, torch.nan]))
        (tensor([1.5000, 1.0000]), tensor([2, 1]))
    """
    known = ~values.isnan()
    counts = counts + known
    return torch.where(known, means + (values - means) / counts.clamp(min=1), means), counts


def agm_scales(ratios: Tensor, means: Tensor, alpha: float) -> Tensor:
    """Compute κ, the factor of the gradient through each modality: exp(α min(r*_m − r_m, 10)) (ICCV 2023).

    Args:
        ratios: (n,), r, above 0; NaN where there is nothing to compare.
        means: (n,), r*, the means of r so far, this one included.
        alpha: α, at least 0.

    Returns:
        (n,) float64 on the CPU, at least 0 and at most e⁸⁰, which float32 holds; 1 where r is NaN (ours).

    Example:
        >>> agm_scales(torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]), 1.0)
        tensor([0.3679, 1.6487], dtype=torch.float64)
    """
    pairs = zip(ratios.tolist(), means.tolist(), strict=True)
    exponents = [0.0 if math.isnan(ratio) else alpha * min(mean - ratio, 10) for ratio, mean in pairs]
    return torch.tensor([math.exp(min(exponent, 80)) for exponent in exponents], dtype=torch.float64)


def scale_gradients(parts: Tensor, scales: Tensor) -> Tensor:
    """Leave every part as it is, and scale the gradient that flows back through it.

    Args:
        parts: (n, ...).
        scales: (n,), factors of the gradients.

    Returns:
        As `parts`.

    Example:
        >>> parts = torch.ones(2, requires_grad=True)
        >>> scale_gradients(parts, torch.tensor([0.5, 2.0])).sum().backward()
        >>> parts.grad
        tensor([0.5000, 2.0000])
    """
    stopped = parts.detach()
    factors = scales.to(parts).view(-1, *[1] * (parts.ndim - 1))
    return stopped + factors * (parts - stopped)  # the difference is 0: only its gradient is scaled


class AdaptiveModulation(Update):
    """One update per batch; remembers the mean r_m of every modality."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        n = len(setting.network.encoders)
        self._alpha = alpha
        self._means, self._counts = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """Make one update from the fused cross-entropy, its gradient scaled modality by modality."""
        table = _logits(network, network.encode(batch), batch.present)
        table = table.to(torch.promote_types(table.dtype, torch.float32))
        if not (table.abs() < 1e37).all():  # NaN as well; beyond, differences may overflow
            raise InputError(f"training diverged in epoch {plan.epoch}: predictions are not finite; try a smaller lr")
        with torch.autocast(table.device.type, enabled=False):  # Shapley values are differences: in full precision
            parts = shapley_values(table, axis=0)  # (n, B, n_classes)
            presence = batch.present.T
            pairs = zip(parts.detach(), presence, strict=True)
            losses = torch.stack([unimodal_loss(part, batch.labels, here) for part, here in pairs])
            ratios = agm_ratios(torch.where(presence.any(1), losses, torch.nan))
            self._means, self._counts = update_means(self._means, self._counts, ratios)
            scaled = scale_gradients(parts, agm_scales(ratios, self._means, self._alpha))
            step(cross_entropy(sum(scaled, torch.zeros_like(table[0])), batch.labels))

    def state_dict(self) -> dict[str, Any]:
        """Return the means of r and how many batches are in each."""
        return {"means": self._means, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from these means."""
        self._means, self._counts = state["means"], state["counts"]


def _logits(network: MultimodalNetwork, features: Sequence[Tensor], present: Tensor) -> Tensor:
    """Compute the fused logits of each coalition of the modalities a sample has, (2ⁿ, B, n_classes); 0 of none."""
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
    keywords=(Parameter("alpha", float, 1.0, "α of its gradient scale", low=0, trials=(1 / 3, 3.0)),),
)
