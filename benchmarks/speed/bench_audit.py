"""ASV benchmarks of interactions and of audits: `asv run --config benchmarks/speed/asv.conf.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

import equilib


class Interactions:
    """All pairs of a complete table, beside its Shapley values: at most n times as long."""

    params = ([4, 6, 8, 10, 12, 14, 16, 20],)
    param_names = ("n",)

    def setup(self, n: int) -> None:
        self.table = np.random.default_rng(0).normal(size=2**n)
        equilib.shapley_interactions(self.table)  # weights are made once

    def time_interactions(self, n: int) -> None:
        equilib.shapley_interactions(self.table)

    def time_synergy(self, n: int) -> None:
        equilib.pairwise_synergy(self.table)

    def time_banzhaf(self, n: int) -> None:
        equilib.banzhaf_values(self.table)

    def time_shapley_values(self, n: int) -> None:
        equilib.shapley_values(self.table)

    def peakmem_interactions(self, n: int) -> None:
        equilib.shapley_interactions(self.table)


class Audit:
    """A model that costs nothing: what the audit itself takes for 1,000 samples."""

    params = ([2, 4, 8, 10], ["mean", "shuffle", "drop"])
    param_names = ("n", "absent")

    def setup(self, n: int, absent: str) -> None:
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 2, 1000)
        self.inputs: dict[str, Any] = {f"m{k}": self.labels + rng.normal(size=1000) for k in range(n)}

    def time_audit(self, n: int, absent: str) -> None:
        equilib.audit(predict, (self.inputs, self.labels), absent=absent, seed=0)

    def peakmem_audit(self, n: int, absent: str) -> None:
        equilib.audit(predict, (self.inputs, self.labels), absent=absent, seed=0)


def predict(inputs: dict[str, Any]) -> Any:
    """Answer 1 if the first modality that is there is above the middle."""
    return (next(iter(inputs.values())) > 0.5).astype(np.int64)
