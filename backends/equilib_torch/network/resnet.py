"""ResNet-18 for pictures, spectrograms and videos, without batch statistics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from equilib_torch.network.inputs import Standardise, average_frames, within

_CHANNELS = (64, 64, 128, 256, 512)
_GROUPS = 32
_SMALL = 64
"""Pixels of the shorter side below which the first layers keep the resolution."""


class ResNet18(nn.Module):
    """Eighteen layers with residual connections; of videos, the mean over the frames within each length.

    A sequence is read as a picture of one channel, frames by features: what is behind its length is 0 and no part of
    the mean over the last layer.

    Ours: group norm in the place of batch norm, whose statistics would make a prediction depend on the other samples of
    the batch, and training on one modality's present samples on what stands for the absent ones. The last norm of every
    block begins at 0, so that a block begins as the identity (Goyal et al. 2017). Samples whose shorter side has fewer
    than 64 pixels keep their resolution in the first layers, as is usual for such (He et al. 2016, section 4.2).

    Shapes: (B, H, W), (B, H, W, C), (B, T, F) or (B, T, H, W, C) -> (B, width).

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016); Wu and He, "Group Normalization"
    (ECCV 2018), whose 32 groups these are.
    """

    def __init__(self, shape: Sequence[int], n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        height, breadth = shape[-3:-1] if len(shape) > 2 else shape
        self.is_small = min(height, breadth) < _SMALL
        size, stride = (3, 1) if self.is_small else (7, 2)
        self.stem = nn.Conv2d(n_features, _CHANNELS[0], size, stride=stride, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, _CHANNELS[0])
        self.blocks = nn.Sequential(
            *(
                block
                for stage, (a, b) in enumerate(pairwise(_CHANNELS))
                for block in (_Block(a, b, stride=2 if stage else 1), _Block(b, b, stride=1))
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(_CHANNELS[-1], width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute features of each sample."""
        x = self.standardise(x)
        if x.ndim == 5:
            return average_frames(self._read, x, lengths)
        return self._read(x if x.ndim == 4 else x[..., None], lengths)

    def _read(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        n_frames = x.shape[1]
        if lengths is not None:
            x = x * within(lengths, n_frames)[..., None]
        x = x.movedim(-1, 1).contiguous(memory_format=torch.channels_last)  # (B, C, H, W)
        x = F.relu(self.norm(self.stem(x)))
        if not self.is_small:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.blocks(x)
        if lengths is None:
            x = x.mean((2, 3))
        else:
            n_rows = (lengths * x.shape[2] + n_frames - 1) // n_frames  # of the last layer, at least 1
            x = (x.mean(3) * within(n_rows, x.shape[2]).transpose(1, 2)).sum(2) / n_rows[:, None]
        return F.gelu(self.out(self.dropout(x)))


class _Block(nn.Module):
    """relu(x + N(W relu(N(W x)))), with x brought to the new size where it changes."""

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(_GROUPS, n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_GROUPS, n_out)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.GroupNorm(_GROUPS, n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + inner)
