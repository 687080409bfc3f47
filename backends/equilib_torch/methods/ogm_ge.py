"""OGM-GE, on-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022): L = CE(l).

Between the backward pass and the update, the gradient g of every parameter of modality m's encoder becomes
    g ← k_m g + N(0, std(g)²)    k_m = 1 − tanh(α ρ_m) if ρ_m > 1 else 1    ρ_m = s_m / mean of the others' s
The noise also goes where k_m = 1. s_m says how well m predicts alone: the mean probability of the true class, in the
fused prediction with only m present, which for `concat` is the article's z_m W_m + b / M.

Ours: s is a mean over the samples that have m, not a sum over the batch, so that absence does not count as weakness;
for more than two modalities, ρ_m compares with the mean of the others; every tensor of an encoder gets noise (the
article's convolutions do), a single number excepted, which has no standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Setting, Step
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class GradientModulation:
    """One update per batch, in which the encoders of the strong modalities move less."""

    def __init__(self, setting: Setting, *, alpha: float) -> None:
        self._alpha = alpha

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update from the fused cross-entropy, with the encoders' gradients scaled and made noisy."""
        features = network.encode(batch)
        unimodal = network.unimodal(features)
        loss = cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
        strengths = _strengths(network, features, unimodal, batch)

        def adjust() -> None:
            for m, encoder in enumerate(network.encoders):
                scale = self._scale(m, strengths)
                for parameter in encoder.parameters():
                    gradient = parameter.grad
                    if gradient is not None:
                        noise = torch.randn_like(gradient) * gradient.std() if gradient.numel() > 1 else 0.0
                        parameter.grad = scale * gradient + noise

        step(loss, adjust)

    def _scale(self, m: int, strengths: dict[int, float]) -> float:
        """k_m; 1 where there is nobody to compare with."""
        others = [s for j, s in strengths.items() if j != m]
        if m not in strengths or not others:
            return 1.0
        ratio = strengths[m] / max(fmean(others), 1e-30)  # a probability may underflow to 0
        return 1 - math.tanh(self._alpha * ratio) if ratio > 1 else 1.0


@torch.no_grad()
def _strengths(
    network: MultimodalNetwork, features: Sequence[Tensor], unimodal: Sequence[Tensor], batch: Batch
) -> dict[int, float]:
    """s_m of every modality that a sample of the batch has."""
    strengths = {}
    training = network.fusion.training
    network.fusion.eval()  # in training mode, a memory would collect these states for the next epoch to inherit
    for m, here in enumerate(batch.present.T):
        if here.any():
            only = torch.zeros_like(batch.present)
            only[:, m] = here
            probabilities = network.fuse(features, only, unimodal).float().softmax(1)
            strengths[m] = probabilities[here, batch.labels[here]].mean().item()
    network.fusion.train(training)
    return strengths


METHOD = Method(
    "ogm-ge",
    GradientModulation,
    fusion="concat",
    description="joint, the gradients of strong modalities' encoders damped, with noise",
    own=(Parameter("alpha", float, 0.3, "α of its gradient scale", low=0, trials=(0.1, 0.9)),),
)
