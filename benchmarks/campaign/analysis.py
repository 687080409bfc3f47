"""The statistics of the campaign: pure functions of figures by data set and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

Figures = Mapping[str, Mapping[int, float]]
"""A figure of one variant: by data set, then by seed."""


class Difference(NamedTuple):
    """A paired difference over data sets and seeds.

    Attributes:
        mean: mean over the data sets of each one's mean over the seeds.
        se_seeds: its standard error with these data sets given: what other seeds would change.
        se_sets: its standard error with the data sets a sample: what other data sets would change.
        p_seeds: two-sided p of a t-test with the first error.
        p_sets: the same with the second, a one-sample t-test over data sets.
        by_set: each data set's mean difference and its standard error over the seeds.
    """

    mean: float
    se_seeds: float
    se_sets: float
    p_seeds: float
    p_sets: float
    by_set: dict[str, tuple[float, float]]


def paired_difference(a: Figures, b: Figures) -> Difference:
    """Compare two variants on the data sets and seeds that both have, a − b.

    Example:
        >>> a = {"x": {0: 0.9, 1: 0.8}, "y": {0: 0.7, 1: 0.7}}
        >>> b = {"x": {0: 0.8, 1: 0.8}, "y": {0: 0.6, 1: 0.6}}
        >>> difference = paired_difference(a, b)
        >>> round(difference.mean, 3), round(difference.se_seeds, 3), round(difference.se_sets, 3)
        (0.075, 0.025, 0.025)
    """
    by_set, variance, freedom = {}, 0.0, 0
    for name in a:
        seeds = sorted(a[name].keys() & b.get(name, {}).keys())
        if not seeds:
            continue
        differences = np.array([a[name][s] - b[name][s] for s in seeds])
        se = float(differences.std(ddof=1) / math.sqrt(len(seeds))) if len(seeds) > 1 else math.nan
        by_set[name] = float(differences.mean()), se
        variance, freedom = variance + se**2, freedom + len(seeds) - 1
    means = np.array([mean for mean, _ in by_set.values()])
    n = len(means)
    if not n:
        return Difference(math.nan, math.nan, math.nan, math.nan, math.nan, {})
    mean, se_seeds = float(means.mean()), math.sqrt(variance) / n
    se_sets = float(means.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Difference(mean, se_seeds, se_sets, _p(mean, se_seeds, freedom), _p(mean, se_sets, n - 1), by_set)


def _p(mean: float, se: float, freedom: int) -> float:
    if freedom < 1 or math.isnan(se):
        return math.nan
    if se == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean / se), freedom))


def means_by_set(figures: Figures) -> dict[str, float]:
    """Average each data set's figure over its seeds."""
    return {name: float(np.mean(list(by_seed.values()))) for name, by_seed in figures.items() if by_seed}


def best_rival(figures: Mapping[str, Figures], rivals: list[str], dataset: str) -> str | None:
    """Name the rival with the highest mean on a data set."""
    means = {v: means_by_set(figures[v]).get(dataset, math.nan) for v in rivals if v in figures}
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    return max(known, key=lambda name: known[name]) if known else None


def missing_rates(alone: Mapping[str, float], high: float = 0.7, low: float = 0.3) -> dict[str, dict[str, float]]:
    """Give unequal rates as in MissBench and BALM: the strongest modality at `high`, the others at `low`, and back.

    Args:
        alone: accuracy of each modality alone, by name.

    Example:
        >>> missing_rates({"a": 0.9, "b": 0.5})
        {'strongest': {'a': 0.7, 'b': 0.3}, 'others': {'a': 0.3, 'b': 0.7}}
    """
    strongest = max(alone, key=lambda name: alone[name])
    return {
        "strongest": {name: high if name == strongest else low for name in alone},
        "others": {name: low if name == strongest else high for name in alone},
    }


def expected_accuracy(coalitions: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Compute the expected accuracy if each modality is absent with its own probability and at least one is kept.

    Args:
        coalitions: accuracy by coalition, "a+b".
        rates: probability of being absent, by modality.

    Example:
        >>> round(expected_accuracy({"a": 0.8, "b": 0.6, "a+b": 0.9}, {"a": 0.5, "b": 0.5}), 4)
        0.7667
    """
    total = weight = 0.0
    for coalition, accuracy in coalitions.items():
        members = set(coalition.split("+"))
        p = math.prod(1 - rate if name in members else rate for name, rate in rates.items())
        total, weight = total + p * accuracy, weight + p
    return total / weight
