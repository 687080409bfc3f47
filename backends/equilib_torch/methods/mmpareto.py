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
from equilib_torch.methods.base import Method, Plan, Setting, Step, unimodal_loss
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


class ParetoIntegration:
    """One update per batch; every encoder is run once and gone back through twice."""

    def __init__(self, setting: Setting, *, gamma: float) -> None:
        self._gamma = gamma

    def __call__(self, network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step) -> None:
        """One update from the fused and all unimodal cross-entropies."""
        features = network.encode(batch)
        seen = [z.detach().requires_grad_() for z in features]  # where the two gradients set out from
        unimodal = network.unimodal(seen)
        fused = cross_entropy(network.fuse(seen, batch.present, unimodal), batch.labels)
        own = torch.stack([unimodal_loss(logits, batch, m) for m, logits in enumerate(unimodal)]).sum()
        with torch.autocast(fused.device.type, enabled=False):  # backward goes in the precisions of forward
            starts = [torch.autograd.grad(loss, seen, retain_graph=True) for loss in (fused, own)]

        def adjust() -> None:
            for m, encoder in enumerate(network.encoders):
                if batch.present[:, m].any():
                    parameters = list(encoder.parameters())
                    pair = [
                        torch.autograd.grad(features[m], parameters, start[m], retain_graph=not i)
                        for i, start in enumerate(starts)
                    ]
                    together = self._integrate(*(torch.cat([g.flatten() for g in gradients]) for gradients in pair))
                    pieces = torch.split(together, [parameter.numel() for parameter in parameters])
                    for parameter, piece in zip(parameters, pieces, strict=True):
                        parameter.grad = piece.view_as(parameter)

        step(fused + own, adjust)

    def _integrate(self, g0: Tensor, g1: Tensor) -> Tensor:
        """One gradient of an encoder from two, each a vector of all its parameters."""
        difference = g0 - g1
        # The shortest point on the line from g₁ to g₀; in conflict it lies between them.
        shortest = -(g1 @ difference) / (difference @ difference).clamp(min=torch.finfo(g0.dtype).tiny)
        a0 = torch.where(g0 @ g1 < 0, shortest.clamp(0, 1), 0.5)
        h = a0 * g0 + (1 - a0) * g1
        length, norms = torch.linalg.vector_norm(h), torch.linalg.vector_norm(torch.stack([g0, g1]), dim=1)
        rounding = 8 * torch.finfo(h.dtype).eps * norms.sum()  # what is left of h where they are opposite
        scale = torch.where(length > rounding, torch.linalg.vector_norm(g0 + g1) / length, 0.0)
        gradient: Tensor = self._gamma * scale * h
        return gradient


METHOD = Method(
    "mmpareto",
    ParetoIntegration,
    fusion="concat",
    description="joint-unimodal, each encoder moved along what opposes neither of its losses",
    own=(Parameter("gamma", float, 1.5, "γ of its gradient scale", low=0, trials=(0.5, 4.5)),),
)
