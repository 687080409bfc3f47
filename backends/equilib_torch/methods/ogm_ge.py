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
from equilib_torch.methods.base import Method, Plan, Step, stateless
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def ogm_scores(logits: Sequence[Tensor], labels: Tensor, present: Tensor) -> Tensor:
    """Compute s, how well each modality predicts alone: the mean probability of the true class (CVPR 2022).

    Args:
        logits: n tensors (B, n_classes), the prediction of each modality alone.
        labels: (B,) int64, class indices.
        present: (B, n) bool; only samples that have a modality count for it (ours).

    Returns:
        (n,) float32 in [0, 1], without gradient; NaN for a modality that no sample has.

    Example:
        >>> present = torch.tensor([[True, False]])
        >>> ogm_scores([torch.zeros(1, 4), torch.zeros(1, 4)], torch.tensor([2]), present)
        tensor([0.2500,    nan])
    """
    scores = []
    for alone, here in zip(logits, present.T, strict=True):
        probabilities = alone.detach().float().softmax(1)
        scores.append(probabilities[here, labels[here]].mean())
    return torch.stack(scores)


def ogm_scales(scores: Tensor, alpha: float) -> Tensor:
    """Compute k, the factor of each encoder's gradient: 1 − tanh(α ρ_m) where ρ_m > 1, else 1 (CVPR 2022).

    Args:
        scores: (n,) in [0, 1], s; NaN for what cannot be compared: see `ogm_scores`.
        alpha: α, at least 0.

    Returns:
        (n,) float64 on the CPU, in [0, 1]; 1 where there is nobody to compare with. ρ_m compares with the mean of the
        others (ours for more than two).

    Example:
        >>> ogm_scales(torch.tensor([0.8, 0.4]), 0.3)
        tensor([0.4630, 1.0000], dtype=torch.float64)
    """
    known = {m: score for m, score in enumerate(scores.tolist()) if not math.isnan(score)}
    scales = [1.0] * len(scores)
    for m, score in known.items():
        others = [s for j, s in known.items() if j != m]
        if others:
            ratio = score / max(fmean(others), 1e-30)  # a probability may underflow to 0
            scales[m] = 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0
    return torch.tensor(scales, dtype=torch.float64)


def modulate_gradient(gradient: Tensor, scale: float) -> Tensor:
    """Scale a gradient and add noise as large as it varies: k g + N(0, std(g)²) (CVPR 2022).

    Draws come from torch's global generator of the device, which training seeds.

    Args:
        gradient: g, of one parameter, any shape.
        scale: k.

    Returns:
        As `gradient`; a single number, which has no standard deviation, gets no noise (ours).

    Example:
        >>> modulate_gradient(torch.tensor([4.0, 4.0]), 0.5)
        tensor([2., 2.])
    """
    noise = torch.randn_like(gradient) * gradient.std() if gradient.numel() > 1 else 0.0
    return scale * gradient + noise


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, alpha: float) -> None:
    """Make one update from the fused cross-entropy, with the encoders' gradients scaled and made noisy."""
    features = network.encode(batch)
    unimodal = network.unimodal(features)
    loss = cross_entropy(network.fuse(features, batch.present, unimodal), batch.labels)
    scores = ogm_scores(_predictions_alone(network, features, unimodal, batch), batch.labels, batch.present)

    def adjust() -> None:
        for encoder, scale in zip(network.encoders, ogm_scales(scores, alpha).tolist(), strict=True):
            for parameter in encoder.parameters():
                if parameter.grad is not None:
                    parameter.grad = modulate_gradient(parameter.grad, scale)

    step(loss, adjust)


@torch.no_grad()
def _predictions_alone(
    network: MultimodalNetwork, features: Sequence[Tensor], unimodal: Sequence[Tensor], batch: Batch
) -> list[Tensor]:
    """Compute the fused logits of each modality alone, n tensors (B, n_classes)."""
    training = network.fusion.training
    network.fusion.eval()  # a sample-level mapping would look at the rest of the batch
    predictions = []
    for m in range(len(features)):
        only = torch.zeros_like(batch.present)
        only[:, m] = batch.present[:, m]
        predictions.append(network.fuse(features, only, unimodal))
    network.fusion.train(training)
    return predictions


METHOD = Method(
    "ogm-ge",
    stateless(update),
    fusion="concat",
    description="joint, the gradients of strong modalities' encoders damped, with noise",
    keywords=(Parameter("alpha", float, 0.3, "α of its gradient scale", low=0, trials=(0.1, 0.9)),),
)
