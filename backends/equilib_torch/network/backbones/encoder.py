"""Encoders made of a backbone: of features that a frozen one made once, or with the backbone inside, trained along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from equilib_torch.network.backbones.checkpoint import find_checkpoint
from equilib_torch.network.backbones.loading import guess_width, load_config, load_reader
from equilib_torch.network.backbones.readers import Reader
from equilib_torch.network.backbones.spec import BACKBONE, BackboneSpec
from equilib_torch.network.inputs import Standardise


class FrozenFeatures(nn.Module):
    """Features of a frozen backbone, standardised, then a linear projection; the backbone itself is not in here.

    Shapes: (B, d) -> (B, width).
    """

    def __init__(self, n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(n_features, width)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        projected: Tensor = self.out(self.dropout(self.standardise(x)))
        return projected


class BackboneEncoder(nn.Module):
    """A backbone that is trained, whole or by what LoRA adds, then a linear projection.

    Weights that stay as the checkpoint has them are no part of `state_dict`: they are read from the checkpoint again.
    Copies of the module share them.

    Shapes: what its reader gets -> (B, width).

    Args:
        reader: the backbone; parameters that are not trained need no gradient.
        n_features: of the reader.
        lr: learning rate of the backbone at the start, which may differ from that of all else.
    """

    def __init__(self, reader: Reader, n_features: int, width: int, dropout: float, *, lr: float) -> None:
        super().__init__()
        self.backbone = reader
        self.lr = lr
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(n_features, width)
        self.register_state_dict_post_hook(_leave_out_fixed)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_in_fixed)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        projected: Tensor = self.out(self.dropout(self.backbone(x, lengths)))
        return projected

    def fixed(self) -> dict[str, Tensor]:
        """Give the weights that stay as the checkpoint has them, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if not parameter.requires_grad}

    def __deepcopy__(self, memo: dict[int, Any]) -> BackboneEncoder:
        memo.update({id(parameter): parameter for parameter in self.fixed().values()})
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__ = deepcopy(self.__dict__, memo)
        return copy


def _leave_out_fixed(module: nn.Module, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _fixed(module):
        del state_dict[prefix + name]


def _fill_in_fixed(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in _fixed(module).items():
        state_dict.setdefault(prefix + name, parameter.detach())


def _fixed(module: nn.Module) -> Mapping[str, Tensor]:
    return module.fixed() if isinstance(module, BackboneEncoder) else {}


def build_backbone_encoder(
    spec: BackboneSpec, kind: str, shape: Sequence[int], width: int, dropout: float, *, pretrained: bool = True
) -> FrozenFeatures | BackboneEncoder:
    """Build the encoder of a modality from a backbone.

    Args:
        spec: of the backbone.
        kind: of the modality.
        shape: of one sample as the encoder gets it: (d,) features of a frozen backbone, else what its reader gets.
        width: features per sample.
        dropout: before the projection.
        pretrained: as for `load_reader`; with LoRA the weights are needed always.

    Raises:
        InputError: the checkpoint is not there, or cannot be read.
    """
    if spec.tune == "frozen":
        return FrozenFeatures(shape[-1], width, dropout)
    what = f"encoder {BACKBONE}"
    folder = find_checkpoint(spec.source, what, weights=pretrained or spec.tune != "all")
    reader = load_reader(spec, folder, kind, what, pretrained=pretrained or spec.tune != "all")
    if torch.get_default_device().type == "meta":
        n_features = guess_width(load_config(folder, what), kind)
    else:
        reader.eval()
        with torch.no_grad():
            n_features = reader(*reader.example(shape)).shape[1]
    return BackboneEncoder(reader, n_features, width, dropout, lr=spec.lr)
