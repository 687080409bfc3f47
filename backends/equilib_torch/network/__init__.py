"""What predicts: encoders, mapping, fusion with its gated memory, and the network of them all."""

from __future__ import annotations

from equilib_torch.network.config import MemoryMapping, ModalityConfig, NetworkConfig, configure
from equilib_torch.network.encoders import ENCODERS
from equilib_torch.network.fusions import FUSIONS
from equilib_torch.network.network import MultimodalNetwork, match_own_encoders

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "MemoryMapping",
    "ModalityConfig",
    "MultimodalNetwork",
    "NetworkConfig",
    "configure",
    "match_own_encoders",
]
