"""The statistics of a comparison: means, paired tests with Holm's correction, rank correlation, mean ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

NAN = float("nan")


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Compute mean and sample standard deviation; NaN where there are too few values.

    Example:
        >>> mean_sd([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    n = len(values)
    return float(np.mean(values)) if n else NAN, float(np.std(values, ddof=1)) if n > 1 else NAN


def paired_p(a: Mapping[int, float], b: Mapping[int, float]) -> float:
    """Compute the two-sided paired t-test of a against b over the seeds both have; NaN for fewer than two.

    Where all differences are the same up to rounding, the test's limit: 1 if they are 0, else 0.

    Args:
        a: values by seed.
        b: the same of the other variant.

    Example:
        >>> round(paired_p({0: 0.9, 1: 0.8, 2: 0.9}, {0: 0.7, 1: 0.7, 2: 0.6}), 4)
        0.0742
    """
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < 2:
        return NAN
    of_a, of_b = np.array([a[s] for s in seeds]), np.array([b[s] for s in seeds])
    differences = of_a - of_b
    rounding = 1e-12 * max(np.abs(of_a).max(), np.abs(of_b).max())
    if np.ptp(differences) <= rounding:
        return 1.0 if np.abs(differences).max() <= rounding else 0.0
    return float(stats.ttest_rel(of_a, of_b).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Apply Holm's correction for several tests at once; what is NaN was not tested and stays so.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    tested = sorted((value, k) for k, value in enumerate(p) if not math.isnan(value))
    corrected, highest = [NAN] * len(p), 0.0
    for rank, (value, k) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        corrected[k] = highest
    return corrected


def spearman(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Compute the rank correlation and its two-sided p; NaN for fewer than three pairs, or where one side is constant.

    Example:
        >>> spearman([1.0, 2.0, 3.0], [9.0, 4.0, 1.0])[0]
        -1.0
    """
    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return NAN, NAN
    correlation = stats.spearmanr(a, b)
    return float(correlation.statistic), float(correlation.pvalue)


def mean_ranks(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Compute mean ranks over the data sets, 1 for the highest score; equal scores share the mean of their ranks.

    Args:
        scores: by data set, then by variant; variants that are not in every data set are left out.

    Example:
        >>> mean_ranks({"x": {"a": 0.9, "b": 0.8}, "y": {"a": 0.7, "b": 0.7}})
        {'a': 1.25, 'b': 1.75}
    """
    if not scores:
        return {}
    everywhere = [name for name in next(iter(scores.values())) if all(name in given for given in scores.values())]
    ranks = [stats.rankdata([-given[name] for name in everywhere]) for given in scores.values()]
    return dict(zip(everywhere, np.mean(ranks, axis=0).tolist(), strict=True))
