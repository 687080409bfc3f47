"""Every fusion by name: how to build it for a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from equilib_torch.errors import InputError
from equilib_torch.network.boosted import BoostedFusion
from equilib_torch.network.config import NetworkConfig
from equilib_torch.network.fusion import ConcatFusion, ConfidenceFusion, Fusion, MemoryFusion, MLPFusion, SumFusion
from equilib_torch.network.memory import GatedMemory
from equilib_torch.network.transformer import MaskedTransformerFusion
from equilib_torch.registry import Registry


@dataclass(frozen=True)
class FusionEntry:
    """What is known of a fusion without building it.

    Attributes:
        name: for `--fusion`.
        description: one line.
        build: makes it for a network.
    """

    name: str
    description: str
    build: Callable[[NetworkConfig], Fusion]


def _build_memory(config: NetworkConfig) -> MemoryFusion:
    if config.mapping in ("none", "sample"):
        for modality, width in zip(config.modalities, config.widths, strict=True):
            if width != config.width:
                raise InputError(
                    f"memory-mapping must be feature or both where {modality.name} has {width} features and the "
                    f"memory {config.width}, got {config.mapping!r}"
                )
    memory = GatedMemory(
        config.widths,
        config.width,
        feature_mapping=config.mapping in ("feature", "both"),
        sample_mapping=config.mapping in ("sample", "both"),
    )
    return MemoryFusion(memory, len(config.classes), config.width)


FUSIONS = Registry(
    "fusion",
    [
        FusionEntry(
            "concat", "linear head on the concatenated features", lambda c: ConcatFusion(c.widths, len(c.classes))
        ),
        FusionEntry(
            "mlp",
            "two-layer perceptron on the concatenated features",
            lambda c: MLPFusion(c.widths, len(c.classes), width=2 * c.width),
        ),
        FusionEntry("sum", "sum of the logits of each modality's own head", lambda c: SumFusion()),
        FusionEntry("memory", "the sum, and what a gated memory written weak to strong adds to it", _build_memory),
        FusionEntry(
            "confidence", "mean of the own heads' logits, weighed by confidence (MLA)", lambda c: ConfidenceFusion()
        ),
        FusionEntry(
            "masked-transformer",
            "small transformer over one token a modality, the absent ones masked (SimBaMM)",
            lambda c: MaskedTransformerFusion(c.widths, len(c.classes), width=c.width, dropout=c.dropout),
        ),
        FusionEntry(
            "boosted",
            "sum of classifiers with a shared output, which grow by a learner at a time (AUG)",
            lambda c: BoostedFusion(c.widths, len(c.classes), width=c.width),
        ),
    ],
)
"""Every fusion by name."""
