"""Late fusion of pretrained modalities: each learns alone at first, then the fusion of them.

For the first share s of the updates L = Σ_m CE(l_m), each modality's encoder and head on its own. For the rest,
    finetune=true    L = CE(l), of everything
    finetune=false   L = CE(l) of stopped features and unimodal logits: the fusion alone moves
A common baseline, reported to beat balanced joint training where encoders were undertrained; "Fusion or Confusion?"
(arXiv 2512.22991) makes comparisons of this kind.

Ours: s is a share of the same budget of updates that all methods have. A fusion without weights has nothing to learn
from stopped features; with finetune=false every modality then goes on learning alone, which is late fusion. The
calibration of each modality's logits on validation, a temperature each, belongs to stacking, which follows the training
of any method, so that its gain is not credited to this one.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from equilib_torch.data.batches import Batch
from equilib_torch.methods.base import Method, Plan, Step, detached_fusion_loss, has_weights, stateless, unimodal_losses
from equilib_torch.network import MultimodalNetwork
from equilib_torch.parameters import Parameter


def update(
    network: MultimodalNetwork, batch: Batch, plan: Plan, step: Step, *, pretraining: float, finetune: bool
) -> None:
    """Make one update, of each modality alone or of their fusion."""
    alone = plan.progress < pretraining or not (finetune or has_weights(network))
    with torch.set_grad_enabled(alone or finetune):
        features = network.encode(batch)
    if alone:
        step(unimodal_losses(network.unimodal(features), batch.labels, batch.present).sum())
    elif finetune:
        step(cross_entropy(network.fuse(features, batch.present), batch.labels))
    else:
        step(detached_fusion_loss(network, features, batch))


METHOD = Method(
    "pretrained-late-fusion",
    stateless(update),
    fusion="sum",
    description="each modality trained alone at first, then their fusion",
    keywords=(
        Parameter(
            "pretraining",
            float,
            0.5,
            "s, share of the updates in which each modality learns alone",
            low=0,
            high=0.9,
            above=True,
            trials=(0.25, 0.75),
        ),
        Parameter("finetune", bool, True, "whether encoders go on learning with the fusion"),
    ),
)
