"""What predicts: encoders, mapping, fusion with its gated memory, and the network of them all."""

from __future__ import annotations

from equilib_torch.network.config import FusionName, Mapping, ModalityConfig, NetworkConfig, configure
from equilib_torch.network.network import MultimodalNetwork

__all__ = ["FusionName", "Mapping", "ModalityConfig", "MultimodalNetwork", "NetworkConfig", "configure"]
