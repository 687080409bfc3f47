"""Gated memory (h, c): modalities are written into it one after another, in the schedule's order.

An LSTM cell (Hochreiter and Schmidhuber, 1997) serves: its forget gate keeps what earlier modalities left, its input
gate admits this one, its output gate gives h. Source of the idea: arXiv 2506.00030.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .mapping import align_samples


class GatedMemory(nn.Module):
    """Feature-level mapping of each modality, then one memory step per present modality.

    The initial state is inherited: `start_epoch` replaces it by the mean final state of the epoch just trained. It is a
    buffer of the model, hence a prediction never depends on which other samples share its batch.

    Args:
        widths: d_k, width of each modality's features.
        width: d, width of the memory.
        feature_mapping: map R^{d_k} to R^d by a learned P_k; without it every d_k must equal d.
        sample_mapping: align the samples of each modality with the one before it while training; identity in eval mode.
        threshold: correlation under which the sample-level mapping sees nothing.
    """

    initial: Tensor  # (2, d): h, c
    order: Tensor  # (n,)
    collected: Tensor  # (2, d): sum of the final states of this epoch's training batches
    n_collected: Tensor  # ()

    def __init__(
        self,
        widths: Sequence[int],
        width: int,
        *,
        feature_mapping: bool = True,
        sample_mapping: bool = False,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        maps = [nn.Linear(w, width) if feature_mapping else nn.Identity() for w in widths]
        self.maps = nn.ModuleList(maps)
        self.cell = nn.LSTMCell(width, width)
        self.sample_mapping, self.threshold = sample_mapping, threshold
        self.register_buffer("initial", torch.zeros(2, width))
        self.register_buffer("order", torch.arange(len(widths)))
        self.register_buffer("collected", torch.zeros(2, width), persistent=False)
        self.register_buffer("n_collected", torch.zeros(()), persistent=False)

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Final h, (B, d), after the modalities present were written in `order`; absent ones are passed by."""
        h: Tensor = self.initial[0].expand(present.shape[0], -1)
        c: Tensor = self.initial[1].expand(present.shape[0], -1)
        previous: tuple[Tensor, Tensor] | None = None
        for k in self.order.tolist():
            z, here = self.maps[k](features[k]), present[:, k]
            if previous is not None and self.sample_mapping and self.training:
                z = align_samples(previous[0], z, previous[1] & here, self.threshold)
            previous = z, here
            h, c = self._write(z, here[:, None], h, c)
        if self.training and torch.is_grad_enabled():  # a look without gradients leaves no trace
            with torch.no_grad():
                self.collected += torch.stack([h.detach().float().sum(0), c.detach().float().sum(0)])
                self.n_collected += len(h)
        return h

    def every_coalition(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Final h of each of the 2ⁿ coalitions, (2ⁿ, B, d), in the order of every coalition table.

        Coalitions that agree on the modalities written so far share their state, so 2ⁿ - 1 cell steps suffice for all.
        """
        n, n_rows = len(features), present.shape[0]
        h: Tensor = self.initial[0].expand(1, n_rows, -1)
        c: Tensor = self.initial[1].expand(1, n_rows, -1)
        order = self.order.tolist()
        for k in order:
            z, here = self.maps[k](features[k]), present[:, k, None]
            written = self._write(
                z.repeat(len(h), 1), here.repeat(len(h), 1), h.reshape(-1, h.shape[-1]), c.reshape(-1, c.shape[-1])
            )
            h, c = (torch.cat([old, new.view_as(old)]) for old, new in zip((h, c), written, strict=True))
        # Bit p of a row so far stands for the modality written p-th; bit i of a table's row stands for modality i.
        # Axis a of the (2,)*n view holds bit n-1-a.
        position = [order.index(i) for i in range(n)]
        axes = [n - 1 - position[n - 1 - a] for a in range(n)]
        return h.view(*(2,) * n, n_rows, -1).permute(*axes, n, n + 1).reshape(2**n, n_rows, -1)

    def start_epoch(self, *, inherit: bool) -> None:
        """Forget what was collected; first, if `inherit`, make its mean the initial state of the epoch that begins."""
        if inherit and self.n_collected > 0:
            self.initial.copy_(self.collected / self.n_collected)
        self.collected.zero_()
        self.n_collected.zero_()

    def _write(self, z: Tensor, here: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        new_h, new_c = self.cell(z, (h, c))
        return torch.where(here, new_h, h), torch.where(here, new_c, c)
