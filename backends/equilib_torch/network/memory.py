"""Gated memory: modalities are written into it one after another, in the schedule's order.

For each modality present, with z = P_k z_k mapped to the memory's space and gates (f, i, g, o) = A z + b,
    c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g)    h = σ(o) ⊙ tanh(c), o that of the modality written last
The forget gate keeps what earlier modalities left, the input gate admits this one, the output gate gives h: the idea is
arXiv 2506.00030's. Ours: gates see the modality that is written and not h, as in a quasi-recurrent network (Bradbury et
al., ICLR 2017). All gates of a batch are then one product of matrices, and what remains is one addition per modality.
An LSTM cell in its place took twice as long and learned av-digits-sum slower (validation, one seed, 8 epochs: .84
against .92).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from equilib_torch.network.mapping import align_samples

FORGET_BIAS = 1.0
"""Added to the forget gate, which so begins by keeping (Jozefowicz et al., ICML 2015)."""


class GatedMemory(nn.Module):
    """Feature-level mapping of each modality, then one memory step per present modality.

    The initial c is inherited: `start_epoch` replaces it by the mean final c of the epoch just trained. It is a buffer
    of the model, hence a prediction never depends on which other samples share its batch.

    Args:
        widths: d_k, width of each modality's features.
        width: d, width of the memory.
        feature_mapping: map R^{d_k} to R^d by a learned P_k; without it every d_k must equal d.
        sample_mapping: align the samples of each modality with the one before it while training; identity in eval mode.
        threshold: correlation under which the sample-level mapping sees nothing.
    """

    initial: Tensor  # (d,): c
    order: Tensor  # (n,)
    collected: Tensor  # (d,): sum of the final c of this epoch's training batches
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
        self.gates = nn.Linear(width, 4 * width)
        with torch.no_grad():
            self.gates.bias[:width] += FORGET_BIAS
        self.sample_mapping, self.threshold = sample_mapping, threshold
        self.register_buffer("initial", torch.zeros(width))
        self.register_buffer("order", torch.arange(len(widths)))
        self.register_buffer("collected", torch.zeros(width), persistent=False)
        self.register_buffer("n_collected", torch.zeros(()), persistent=False)

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Write the modalities present, (..., B, n), in `order`, and compute h, (..., B, d).

        Absent ones are passed by; h of none is 0. Dimensions before B are several coalitions of the same samples.
        In training mode, c is collected for the next epoch to inherit. Nothing is collected under no_grad, so that
        evaluation never changes the memory.
        """
        if present.ndim > 2 and self._aligns:  # what is aligned depends on who is there
            return torch.stack([self(features, each) for each in present])
        keep, add, out = self._gates(features, present)  # each (n, B, d), in the order of writing
        here = present.movedim(-1, 0)[self.order][..., None]  # (n, ..., B, 1)
        alone = [1] * (present.ndim - 2)
        keep, add, out = (x.reshape(len(x), *alone, *x.shape[1:]) for x in (keep, add, out))
        keep, add = torch.where(here, keep, 1.0), torch.where(here, add, 0.0)
        c: Tensor = self.initial
        last = torch.zeros_like(out[0])
        for kept, added, written, gate in zip(keep, add, here, out, strict=True):
            c = torch.addcmul(added, kept, c)
            last = torch.where(written, gate, last)
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                states = c.detach().float().flatten(0, -2)
                self.collected += states.sum(0)
                self.n_collected += len(states)
        return last * torch.tanh(c)

    def every_coalition(
        self, features: Sequence[Tensor], present: Tensor, readout: Callable[[Tensor], Tensor] = lambda h: h
    ) -> Tensor:
        """Apply `readout` to h (..., d) of each of the 2ⁿ coalitions: (2ⁿ, B, ·), in the order of every table.

        Coalitions that agree on the modalities written so far share their state, so 2ⁿ - 1 steps suffice for all.
        """
        n, n_rows = len(features), present.shape[0]
        c = self.initial.expand(1, n_rows, -1)
        read = readout(torch.zeros_like(c))
        order = self.order.tolist()
        complete = present.all(0).tolist()  # who needs no looking at single samples
        for k, kept, added, out in zip(order, *self._gates(features, present), strict=True):
            written = torch.addcmul(added, kept, c)
            answer = readout(out * torch.tanh(written))
            if not complete[k]:
                here = present[:, k, None]
                written, answer = torch.where(here, written, c), torch.where(here, answer, read)
            c, read = torch.cat([c, written]), torch.cat([read, answer])
        # Bit p of a row so far stands for the modality written p-th; bit i of a table's row stands for modality i.
        # Axis a of the (2,)*n view holds bit n-1-a.
        position = [order.index(i) for i in range(n)]
        axes = [n - 1 - position[n - 1 - a] for a in range(n)]
        return read.view(*(2,) * n, n_rows, -1).permute(*axes, n, n + 1).reshape(2**n, n_rows, -1)

    def follow(self, order: Sequence[int]) -> None:
        """Write modalities in this order from now on."""
        self.order.copy_(torch.tensor(order))

    def start_epoch(self, *, inherit: bool) -> None:
        """Forget what was collected; first, if `inherit`, make its mean the initial c of the epoch that begins."""
        if inherit and self.n_collected > 0:
            self.initial.copy_(self.collected / self.n_collected)
        self.collected.zero_()
        self.n_collected.zero_()

    @property
    def _aligns(self) -> bool:
        return self.sample_mapping and self.training

    def _gates(self, features: Sequence[Tensor], present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what each modality keeps, adds and lets out, in the order of writing: three (n, B, d)."""
        z: list[Tensor] = []
        before: Tensor | None = None  # who has the modality written before
        for k in self.order.tolist():
            mapped, here = self.maps[k](features[k]), present[..., k]
            if before is not None and self._aligns:
                mapped = align_samples(z[-1], mapped, before & here, self.threshold)
            z.append(mapped)
            before = here
        forget, admit, new, out = self.gates(torch.stack(z)).chunk(4, -1)
        return forget.sigmoid(), admit.sigmoid() * new.tanh(), out.sigmoid()
