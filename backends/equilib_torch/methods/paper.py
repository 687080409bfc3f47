"""The form of arXiv 2506.00030, as far as its abstract and a summary of it tell: a reference for our own.

The updates of `alternating`, with samples mapped as well as features before they are written into the memory, the
memory inherited from epoch to epoch and written in the last order measured, and the best measurement on validation
kept (ours, as nothing is known of it). No stacking, no coalitions.
"""

from __future__ import annotations

from equilib_torch.methods.alternating import update
from equilib_torch.methods.base import Method, stateless

METHOD = Method(
    "paper",
    stateless(update),
    fusion="memory",
    description="the article's form: alternating, samples and features mapped, the best measurement kept",
    scheduled=True,
    ours=True,
    mapping="both",
    freeze=1.0,
    keep="best",
)
