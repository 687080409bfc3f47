"""The network: one encoder and one unimodal head per modality, and one fusion over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equilib import coalitions
from equilib_torch.data import Dataset
from equilib_torch.data.batches import Batch
from equilib_torch.errors import InputError
from equilib_torch.network.backbones.encoder import BackboneEncoder
from equilib_torch.network.config import NetworkConfig
from equilib_torch.network.encoders import build_encoder, read_encoder
from equilib_torch.network.fusion import MemoryFusion
from equilib_torch.network.fusions import FUSIONS
from equilib_torch.network.inputs import Standardise
from equilib_torch.network.memory import GatedMemory
from equilib_torch.network.own import OwnEncoder
from equilib_torch.network.stacking import stack_logits


class MultimodalNetwork(nn.Module):
    """z_k = E_k(x_k), unimodal logits l_k = z_k W_k + b_k, and fused logits of the modalities present.

    Modules sit in lists, in the order of the modalities: a modality's name may hold characters a module's may not.

    Args:
        config: what it is made of.
        encoders: modules of one's own, by modality, where the configuration says so; copied.
        pretrained: whether backbones that are trained as a whole need the weights of their checkpoints; not if weights
            are loaded afterwards.

    Raises:
        InputError: modules that are missing or that the configuration does not have, or a configuration of parts that
            do not fit together.
    """

    log_prior: Tensor  # (n_classes,)
    stacking_weights: Tensor  # (n + 1,)
    stacking_temperature: Tensor  # ()

    def __init__(
        self, config: NetworkConfig, encoders: Mapping[str, nn.Module] | None = None, *, pretrained: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        n_classes = len(config.classes)
        own = match_own_encoders(config, encoders or {})
        self.encoders = nn.ModuleList(
            OwnEncoder(own[m.name])
            if m.encoder is None
            else build_encoder(
                m.encoder,
                m.kind,
                m.encoded_shape,
                width=config.width,
                dropout=config.dropout,
                pretrained=pretrained,
            )
            for m in config.modalities
        )
        self.heads = nn.ModuleList(nn.Linear(width, n_classes) for width in config.widths)
        self.fusion = FUSIONS.find(config.fusion).build(config)
        self.register_buffer("log_prior", torch.zeros(n_classes))
        self.register_buffer("stacking_weights", torch.ones(len(config.modalities) + 1))
        self.register_buffer("stacking_temperature", torch.ones(()))

    def fit_statistics(self, dataset: Dataset) -> None:
        """Take input statistics and class frequencies from the training split of a prepared data set."""
        rows = dataset.splits["train"]
        for encoder, modality in zip(self.encoders, dataset.modalities, strict=True):
            standardise = getattr(encoder, "standardise", None)  # others get their inputs as they are
            if isinstance(standardise, Standardise):
                standardise.fit(modality, rows)
        counts = np.bincount(dataset.labels[rows], minlength=len(self.config.classes))
        self.log_prior.copy_(torch.from_numpy(np.log(counts / counts.sum())))

    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """Compute the features of every modality, n tensors (B, d_k). Features of absent modalities are 0."""
        return tuple(self.encode_one(batch, k) for k in range(len(self.encoders)))

    def encode_one(self, batch: Batch, k: int) -> Tensor:
        """Compute the features of modality k, (B, d_k): from the samples that have it; 0 for all others.

        An encoder that nobody in the batch needs is not run at all: an update then leaves its weights as they are.
        """
        x, lengths, rows = batch.inputs[k], batch.lengths[k], batch.rows_with(k)
        if rows is None:
            features: Tensor = self.encoders[k](x, lengths)
            return features
        if not len(rows):
            return self.log_prior.new_zeros(len(x), self.config.widths[k])
        z: Tensor = self.encoders[k](x[rows], None if lengths is None else lengths[rows])
        return z.new_zeros(len(x), z.shape[1]).index_copy(0, rows, z)

    def unimodal(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the logits of each modality's own head: n tensors (B, n_classes)."""
        return tuple(head(z) for head, z in zip(self.heads, features, strict=True))

    def fuse(self, features: Sequence[Tensor], present: Tensor, unimodal: Sequence[Tensor] | None = None) -> Tensor:
        """Compute the logits of the modalities present, (..., B, n_classes).

        Where none is present, they are the log frequencies of the classes in the training split.

        Args:
            features: n tensors (B, d_k).
            present: (..., B, n) bool; dimensions before B are several coalitions of the same samples.
            unimodal: logits of the own heads, if they are known.
        """
        unimodal = self.unimodal(features) if unimodal is None else unimodal
        logits = self._stacked(self.fusion(features, unimodal, present), features, unimodal, present)
        return torch.where(present.any(-1, keepdim=True), logits, self.log_prior)

    def every_coalition(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Compute the logits of each of the 2ⁿ coalitions, (2ⁿ, B, n_classes), from features computed once."""
        unimodal = self.unimodal(features)
        logits = self.fusion.every_coalition(features, unimodal, present)
        members = torch.from_numpy(coalitions(len(features))).to(present.device)[:, None] & present  # (2ⁿ, B, n)
        logits = self._stacked(logits, features, unimodal, members)
        return torch.where(members.any(-1, keepdim=True), logits, self.log_prior)

    def set_stacking(self, weights: Tensor, temperature: Tensor) -> None:
        """Stack all predictions in eval mode from now on; training never sees it.

        Args:
            weights: (n + 1,) u_0, u_1, ..., u_n of `stack_logits`; all 1 is as if nothing were stacked.
            temperature: () τ.
        """
        self.stacking_weights.copy_(weights)
        self.stacking_temperature.copy_(temperature)

    def _stacked(
        self, logits: Tensor, features: Sequence[Tensor], unimodal: Sequence[Tensor], present: Tensor
    ) -> Tensor:
        if self.training:
            return logits
        terms = self.fusion.terms(features, unimodal)
        return stack_logits(logits, terms, present, self.stacking_weights, self.stacking_temperature)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the fused logits, (B, n_classes)."""
        return self.fuse(self.encode(batch), batch.present)

    def reads_any_length(self, k: int) -> bool:
        """Tell whether modality k may have more or fewer frames than in training."""
        name, encoder = self.config.modalities[k].encoder, self.encoders[k]
        return read_encoder(name)[0].any_length if name is not None else bool(encoder.takes_lengths)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Group the parameters for an optimiser: those of a backbone that is trained learn at a rate of its own.

        Args:
            lr: learning rate of all others at the start.

        Returns:
            Groups with `lr` and `lr_factor`, by which to multiply what the learning rate of all others becomes.
        """
        tuned = [encoder for encoder in self.encoders if isinstance(encoder, BackboneEncoder)]
        backbones = {
            id(parameter): encoder.lr / lr
            for encoder in tuned
            for parameter in encoder.backbone.parameters()
            if parameter.requires_grad
        }
        fixed = {id(parameter) for encoder in tuned for parameter in encoder.fixed().values()}
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for parameter in self.parameters():
            if id(parameter) not in fixed:
                groups.setdefault(backbones.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": group, "lr": lr * factor, "lr_factor": factor} for factor, group in groups.items()]

    @property
    def memory(self) -> GatedMemory | None:
        """The gated memory, where the fusion has one."""
        return self.fusion.memory if isinstance(self.fusion, MemoryFusion) else None


def match_own_encoders(config: NetworkConfig, encoders: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
    """Give modules of one's own back if they are those that the configuration needs.

    Raises:
        InputError: some are missing or not needed; names them.
    """
    needed = {m.name for m in config.modalities if m.encoder is None}
    if needed != set(encoders):
        what = f"modules for {', '.join(sorted(needed))}" if needed else "no modules: no modality has one of its own"
        got = ", ".join(map(repr, sorted(encoders))) or "nothing"
        remedy = f"; pass encoders={{{', '.join(f'{name!r}: module' for name in sorted(needed))}}}" if needed else ""
        raise InputError(f"encoders must hold {what}, got {got}{remedy}")
    return encoders
