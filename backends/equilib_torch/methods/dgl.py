"""DGL, disentangled gradient learning (Wei et al., ICCV 2025): the fused loss reaches no encoder.

    L = α Σ_m CE(h_m(z_m)) + CE(h(stop(z_1), …, stop(z_M)))
Encoders and their own heads learn from the first term, the fusion from the second, in one update. Encoders do not learn
what matters only jointly: the fusion has to do with what unimodal training leaves in the features.

Ours: a modality's loss is over the samples that have it; where the fusion is made of the unimodal logits, those are
stopped, too. No weight has a gradient of both terms, and AdamW divides each weight's step by the size of its gradients:
under AdamW α changes next to nothing, and what is left is late fusion with a head trained on stopped features
(`late-fusion` with the fusion `concat`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, stateless, unimodal_losses
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def disentangled_loss(
    features: Sequence[Tensor],
    labels: Tensor,
    present: Tensor,
    *,
    heads: Sequence[Callable[[Tensor], Tensor]],
    fuse: Callable[[list[Tensor]], Tensor],
    alpha: float = 4.0,
) -> Tensor:
    """Compute α Σ_m CE(h_m(z_m)) + CE(h(stop(z_1), …, stop(z_M))) (ICCV 2025).

    Args:
        features: n tensors (B, d_m), z_m; a gradient of the first term alone flows into them.
        labels: (B,) int64, class indices.
        present: (B, n) bool, which sample has which modality; the first term is over those.
        heads: n functions h_m, (B, d_m) -> (B, n_classes).
        fuse: h, n tensors (B, d_m) -> (B, n_classes).
        alpha: α, at least 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> import torch
        >>> z = torch.zeros(2, 3, requires_grad=True)
        >>> head, both = torch.nn.Linear(3, 2), torch.nn.Linear(6, 2)
        >>> labels, present = torch.tensor([0, 1]), torch.ones(2, 2, dtype=torch.bool)
        >>> fuse = lambda features: both(torch.cat(features, 1))
        >>> disentangled_loss([z, z], labels, present, heads=[head, head], fuse=fuse, alpha=0.0).backward()
        >>> z.grad.abs().sum()
        tensor(0.)
    """
    own = unimodal_losses([head(z) for head, z in zip(heads, features, strict=True)], labels, present)
    return alpha * own.sum() + cross_entropy(fuse([z.detach() for z in features]), labels)


def update(network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, alpha: float) -> None:
    """Make one update of everything."""

    def fuse(stopped: list[Tensor]) -> Tensor:
        return network.fuse(stopped, batch.present, [logits.detach() for logits in network.unimodal(stopped)])

    step(
        disentangled_loss(
            network.encode(batch), batch.labels, batch.present, heads=list(network.heads), fuse=fuse, alpha=alpha
        )
    )


METHOD = Method(
    "dgl",
    stateless(update),
    fusion="concat",
    description="encoders learn from their own heads alone, the fusion from stopped features",
    keywords=(Parameter("alpha", float, 4.0, "α, weight of the unimodal losses", low=0, above=True),),
)
