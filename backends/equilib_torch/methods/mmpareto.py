"""MMPareto (Wei & Hu, ICML 2024): L = CE(l) + Σ_m CE(l_m), each encoder moved along what helps both of its losses.

For every encoder, g₀ = ∇CE(l) and g₁ = ∇CE(l_m) are computed separately, over all of its parameters as one vector:
    h = α₀ g₀ + α₁ g₁    (α₀, α₁) = (½, ½) if g₀ · g₁ ≥ 0 else argmin ‖h‖, α₀ + α₁ = 1
    gradient ← γ ‖g₀ + g₁‖ h / ‖h‖
The shortest h opposes neither loss: h · g₀ = h · g₁ = ‖h‖². Heads and fusion get the plain gradient of L.

Ours: where one of the two is 0, or they meet at a right angle, there is no conflict, and (½, ½) holds; where they are
opposite, h = 0 and the encoder stays where it is; an encoder that nobody in the batch needs is not updated. (A known
port reads g₀ and g₁ after all backward passes, where they are the same.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, stateless, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def pareto_gradient(g0: Tensor, g1: Tensor, gamma: float) -> Tensor:
    """Make one gradient of two that opposes neither of their losses: γ ‖g₀ + g₁‖ h / ‖h‖ (ICML 2024).

    Args:
        g0: (p,), of all parameters as one vector, from the first loss.
        g1: (p,), from the second.
        gamma: γ, at least 0.

    Returns:
        (p,); h is their mean, or the shortest vector between them if they are in conflict. 0 where they are opposite.

    Example:
        >>> pareto_gradient(torch.tensor([-1.0, 1.0]), torch.tensor([3.0, 1.0]), 1.0)
        tensor([0.0000, 2.8284])
    """
    difference = g0 - g1
    # The shortest point on the line from g₁ to g₀; in conflict it lies between them.
    shortest = -(g1 @ difference) / (difference @ difference).clamp(min=torch.finfo(g0.dtype).tiny)
    a0 = torch.where(g0 @ g1 < 0, shortest.clamp(0, 1), 0.5)
    h = a0 * g0 + (1 - a0) * g1
    length, norms = torch.linalg.vector_norm(h), torch.linalg.vector_norm(torch.stack([g0, g1]), dim=1)
    rounding = 8 * torch.finfo(h.dtype).eps * norms.sum()  # what is left of h where they are opposite
    scale = torch.where(length > rounding, torch.linalg.vector_norm(g0 + g1) / length, 0.0)
    gradient: Tensor = gamma * scale * h
    return gradient


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, gamma: float) -> None:
    """Make one update from the fused and all unimodal cross-entropies; every encoder is gone back through twice."""
    features = network.encode(batch)
    seen = [z.detach().requires_grad_() for z in features]  # where the two gradients set out from
    unimodal = network.unimodal(seen)
    fused = cross_entropy(network.fuse(seen, batch.present, unimodal), batch.labels)
    pairs = zip(unimodal, batch.present.T, strict=True)
    own = torch.stack([unimodal_loss(logits, batch.labels, here) for logits, here in pairs]).sum()
    with torch.autocast(fused.device.type, enabled=False):  # backward goes in the precisions of forward
        starts = [torch.autograd.grad(step.scale(loss), seen, retain_graph=True) for loss in (fused, own)]

    def adjust() -> None:
        for m, encoder in enumerate(network.encoders):
            parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
            if parameters and batch.has(m):
                gradients = [
                    torch.autograd.grad(features[m], parameters, start[m], retain_graph=not i, materialize_grads=True)
                    for i, start in enumerate(starts)
                ]
                g0, g1 = (torch.cat([g.flatten() for g in each]) for each in gradients)
                pieces = torch.split(pareto_gradient(g0, g1, gamma), [parameter.numel() for parameter in parameters])
                for parameter, piece in zip(parameters, pieces, strict=True):
                    parameter.grad = piece.view_as(parameter)

    step(fused + own, adjust)


METHOD = Method(
    "mmpareto",
    stateless(update),
    fusion="concat",
    description="joint-unimodal, each encoder moved along what opposes neither of its losses",
    keywords=(Parameter("gamma", float, 1.5, "γ of its gradient scale", low=0, trials=(0.5, 4.5)),),
)
