"""Training methods: one short file each, registered here once."""

from __future__ import annotations

from equilib_torch.methods import (
    agm,
    alternating,
    aug,
    data_remixing,
    dgl,
    equilib,
    g_blending,
    joint,
    joint_unimodal,
    late_fusion,
    mla,
    mmpareto,
    modality_dropout,
    ogm_ge,
    paper,
    pmr,
    pretrained_late_fusion,
    reconboost,
)
from equilib_torch.methods.base import Keep, Losses, LossFunction, Method, Plan, Setting, Step, Update, stateless
from equilib_torch.registry import Registry

METHODS = Registry(
    "method",
    [
        module.METHOD
        for module in (
            *(equilib, paper, alternating, joint, joint_unimodal, late_fusion, modality_dropout),
            *(ogm_ge, agm, pmr, g_blending, mla, reconboost, mmpareto),
            *(dgl, aug, data_remixing, pretrained_late_fusion),
        )
    ],
)
"""Every training method by name."""

__all__ = ["METHODS", "Keep", "LossFunction", "Losses", "Method", "Plan", "Setting", "Step", "Update", "stateless"]
