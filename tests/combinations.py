"""Combinations worth a test: what interacts is tried together, instead of everything with everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from equilib_torch.methods import METHODS
from equilib_torch.network import FUSIONS

PAIRS = [
    (method, fusion)
    for method in METHODS
    for fusion in FUSIONS
    if method in ("equilib", "joint") or fusion in (METHODS[method].fusion, "memory")
]
"""Every method with its usual fusion and with the memory; every fusion with joint training and with equilib."""


def with_fusions(cases: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Give (fusion, *case): every case with the memory, which has most to go wrong, every other fusion with the last.

    Example:
        >>> with_fusions([(1, "a"), (2, "b")])[:3]
        [('memory', 1, 'a'), ('memory', 2, 'b'), ('concat', 2, 'b')]
    """
    *_, last = cases = list(cases)
    return [*(("memory", *case) for case in cases), *((fusion, *last) for fusion in FUSIONS if fusion != "memory")]
