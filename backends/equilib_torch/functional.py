"""The formulas of the training methods as pure functions, for training loops of one's own.

Tensors in, tensors out: no network, no options, no state. Where a method remembers something, the caller keeps it.
OGM-GE in a loop of one's own, on any two encoders:

Example:
    >>> import torch
    >>> from torch import nn
    >>> from equilib_torch import functional
    >>> inputs, labels = [torch.randn(8, 5), torch.randn(8, 3)], torch.arange(8) % 2
    >>> encoders = nn.ModuleList([nn.Linear(5, 4), nn.Linear(3, 4)])
    >>> heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])
    >>> optimiser = torch.optim.AdamW([*encoders.parameters(), *heads.parameters()])
    >>> present = torch.ones(8, 2, dtype=torch.bool)
    >>> for _ in range(3):
    ...     logits = [head(encode(x)) for head, encode, x in zip(heads, encoders, inputs)]
    ...     optimiser.zero_grad()
    ...     nn.functional.cross_entropy(sum(logits), labels).backward()
    ...     scales = functional.ogm_scales(functional.ogm_scores(logits, labels, present), alpha=0.3)
    ...     for encode, scale in zip(encoders, scales.tolist()):
    ...         for parameter in encode.parameters():
    ...             parameter.grad = functional.modulate_gradient(parameter.grad, scale)
    ...     optimiser.step()
"""

from __future__ import annotations

from equilib_torch.methods.agm import agm_ratios, agm_scales, scale_gradients, update_means
from equilib_torch.methods.aug import boosting_loss
from equilib_torch.methods.base import Losses, detach_all_but, unimodal_loss, unimodal_losses
from equilib_torch.methods.data_remixing import least_sure_modality
from equilib_torch.methods.dgl import disentangled_loss
from equilib_torch.methods.equilib import deferred_loss, half_coalitions, random_coalitions
from equilib_torch.methods.g_blending import blend_weights
from equilib_torch.methods.mla import project_gradient, update_projection
from equilib_torch.methods.mmpareto import pareto_gradient
from equilib_torch.methods.modality_dropout import drop_modalities
from equilib_torch.methods.more_vs_fewer import more_vs_fewer_loss
from equilib_torch.methods.ogm_ge import modulate_gradient, ogm_scales, ogm_scores
from equilib_torch.methods.pmr import move_prototypes, pmr_weights, prototype_logits
from equilib_torch.methods.reconboost import ensemble_probabilities, reconboost_loss

__all__ = [
    "Losses",
    "agm_ratios",
    "agm_scales",
    "blend_weights",
    "boosting_loss",
    "deferred_loss",
    "detach_all_but",
    "disentangled_loss",
    "drop_modalities",
    "ensemble_probabilities",
    "half_coalitions",
    "least_sure_modality",
    "modulate_gradient",
    "more_vs_fewer_loss",
    "move_prototypes",
    "ogm_scales",
    "ogm_scores",
    "pareto_gradient",
    "pmr_weights",
    "project_gradient",
    "prototype_logits",
    "random_coalitions",
    "reconboost_loss",
    "scale_gradients",
    "unimodal_loss",
    "unimodal_losses",
    "update_means",
    "update_projection",
]
